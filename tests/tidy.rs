//! Rules of the source tree. Each failure says what to do instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer, and the layers below it in the picture of `src/lib.rs`. It may import no others.
const LAYERS: [(&str, &[&str]); 8] = [
    ("wire", &[]),
    ("telemetry", &[]),
    ("grpc", &["wire", "telemetry"]),
    ("config", &["grpc", "wire", "telemetry"]),
    ("route", &["config", "grpc", "wire", "telemetry"]),
    ("proxy", &["route", "config", "grpc", "wire", "telemetry"]),
    ("admin", &["proxy", "route", "config", "grpc", "wire", "telemetry"]),
    // `serve` builds every layer, including `admin`.
    ("cli", &["admin", "proxy", "route", "config", "grpc", "wire", "telemetry"]),
];

/// Lines of a file without its tests: about 400, with some tolerance.
const LINES_MAX: usize = 450;
/// Lines of the `mod.rs` of a layer.
const MODULE_ROOT_MAX: usize = 80;
const WIDTH_MAX: usize = 100;

/// Exceptions: file, limit, reason.
const LONGER: [(&str, usize, &str); 1] =
    [("src/proxy/mod.rs", 125, "starts and stops the workers: the interface of the layer")];

/// Files that read the clock: each owns a loop, or simulates a call.
const CLOCKS: [&str; 5] = [
    "src/proxy/relay/mod.rs",
    "src/proxy/probe.rs",
    "src/proxy/worker.rs",
    "src/cli/explain/mod.rs",
    "src/config/keys/refresh.rs",
];

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The code before the tests at the end of the file; empty for a file of tests.
    fn code(&self) -> &str {
        if self.name.ends_with("/tests.rs") {
            return "";
        }
        self.text.split("\nmod tests {").next().unwrap_or_default()
    }

    /// Lines of code without comments, with line numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code().lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let passed = [".git", "target", "node_modules", "corpus", "artifacts", "__pycache__"];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !passed.contains(&&*name) {
            walk(&path, found);
        } else if path.is_file() && !passed.contains(&&*name) {
            found.push(path);
        }
    }
}

/// Text files below a directory whose names have this ending.
fn sources(below: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(below), &mut found);
    found.sort();
    let texts = found.into_iter().filter_map(|path| {
        let name = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
        let text = name.ends_with(ending).then(|| fs::read_to_string(&path).ok()).flatten()?;
        Some(Source { name, text })
    });
    texts.collect()
}

fn rust() -> Vec<Source> {
    let all: Vec<_> = ["src", "filters/src"].iter().flat_map(|it| sources(it, ".rs")).collect();
    assert!(all.len() > 50, "the search must find the sources");
    all
}

fn assert_none(breaches: &[String], instead: &str) {
    assert!(breaches.is_empty(), "\n{}\n-> {instead}\n", breaches.join("\n"));
}

/// The names that follow a path prefix in a text, such as `net` after `crate::proxy::`. Entries of
/// groups count.
fn names_after<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let name = |text: &'t str| {
        &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
    };
    let mut found = Vec::new();
    for rest in text.split(prefix).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && letter.is_alphabetic() => {
                    found.push(name(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn a_layer_imports_only_layers_below_it() {
    assert_eq!(
        names_after("use crate::{wire::{a, b}, cli, x}; crate::grpc::y", "crate::"),
        ["wire", "cli", "x", "grpc"]
    );
    let mut breaches = Vec::new();
    for (layer, below) in LAYERS {
        for source in sources(&format!("src/{layer}"), ".rs") {
            for import in names_after(&source.text, "crate::") {
                if import != layer && !below.contains(&import) {
                    breaches.push(format!("{}: crate::{import}", source.name));
                }
            }
        }
    }
    assert_none(
        &breaches,
        "move the code to a lower layer, or pass it in as an argument: see src/lib.rs",
    );
}

#[test]
fn every_directory_of_src_is_a_layer_of_the_picture() {
    let picture = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert!(LAYERS.iter().any(|(layer, _)| *layer == name), "put {name} into a layer");
            assert!(picture.contains(&name), "draw {name} into the picture of src/lib.rs");
        }
    }
}

/// The parts of `proxy`, and the parts that each may import. A part is a folder or a file in
/// `src/proxy`; unlisted parts cannot be imported.
const PROXY_PARTS: [(&str, &[&str]); 15] = [
    ("convert", &[]),
    ("keys", &[]),
    ("shutdown", &[]),
    ("connection_limits", &[]),
    ("round_robin", &["keys"]),
    ("net", &["convert"]),
    ("budget", &["convert"]),
    ("downstream", &["keys"]),
    ("upstream", &["budget", "convert", "keys", "net", "round_robin"]),
    ("stream", &["convert", "keys", "net"]),
    ("probe", &["upstream"]),
    ("context", &["budget", "convert", "downstream", "net", "shutdown", "stream", "upstream"]),
    (
        "relay",
        &[
            "budget",
            "connection_limits",
            "context",
            "convert",
            "downstream",
            "keys",
            "net",
            "round_robin",
            "shutdown",
            "stream",
            "upstream",
        ],
    ),
    ("acceptor", &["connection_limits", "convert", "downstream", "net", "shutdown"]),
    ("worker", &["acceptor", "context", "convert", "net", "relay", "shutdown", "upstream"]),
];

#[test]
fn a_part_of_the_proxy_imports_only_parts_below_it() {
    let mut breaches = Vec::new();
    for source in sources("src/proxy", ".rs") {
        let path = source.name.trim_start_matches("src/proxy/").trim_end_matches(".rs");
        let part = path.split('/').next().unwrap();
        if part == "mod" {
            continue;
        }
        let Some((_, below)) = PROXY_PARTS.iter().find(|(name, _)| *name == part) else {
            breaches.push(format!("{}: a part that the table does not have", source.name));
            continue;
        };
        for import in names_after(&source.text, "crate::proxy::") {
            if import != part && !below.contains(&import) {
                breaches.push(format!("{}: crate::proxy::{import}", source.name));
            }
        }
        for (at, line) in source.lines() {
            if line.contains("super::") {
                breaches.push(format!("{}:{at}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&breaches, "write crate::proxy::..., and import only what PROXY_PARTS allows");
}

/// The modules that a file of `proxy` imports from, without its tests.
fn proxy_imports<'m>(code: &str, modules: &'m [String]) -> Vec<&'m String> {
    let imports = |module: &&String| {
        let children = format!("{module}::");
        if modules.iter().any(|other| other.starts_with(&children)) {
            let names = names_after(code, &format!("crate::proxy::{module}::"));
            return names.iter().any(|name| !modules.contains(&format!("{module}::{name}")));
        }
        let (parent, name) = module.rsplit_once("::").unwrap_or(("", module));
        let prefix = format!("crate::proxy::{parent}{}", if parent.is_empty() { "" } else { "::" });
        names_after(code, &prefix).contains(&name)
    };
    modules.iter().filter(imports).collect()
}

#[test]
fn no_files_of_the_proxy_import_each_other_in_a_circle() {
    let module = |name: &str| {
        let path = name.trim_start_matches("src/proxy/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").replace('/', "::")
    };
    let files = sources("src/proxy", ".rs");
    let files = files.iter().filter(|source| source.name != "src/proxy/mod.rs");
    let mut left: Vec<(String, &str)> =
        files.map(|source| (module(&source.name), source.code())).collect();
    let modules: Vec<String> = left.iter().map(|(module, _)| module.clone()).collect();
    // Removes the files that import none of the others, until only circles are left.
    loop {
        let names: Vec<String> = left.iter().map(|(module, _)| module.clone()).collect();
        let before = left.len();
        left.retain(|(module, code)| {
            let imports = proxy_imports(code, &modules);
            imports.iter().any(|import| *import != module && names.contains(import))
        });
        if left.len() == before {
            break;
        }
    }
    let circle: Vec<_> = left.into_iter().map(|(module, _)| module).collect();
    assert_none(&circle, "move what both need into a part below them");
}

#[test]
fn super_never_leaves_a_layer() {
    let mut breaches = Vec::new();
    for source in sources("src", ".rs") {
        let is_root = source.name.matches('/').count() == 2 && source.name.ends_with("/mod.rs");
        for (at, line) in source.lines() {
            if line.contains("super::super::") || (is_root && line.contains("super::")) {
                breaches.push(format!("{}:{at}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&breaches, "write crate::<layer>::..., so that the test of imports finds it");
}

#[test]
fn files_and_lines_have_a_maximum_length() {
    let mut breaches = Vec::new();
    for source in rust() {
        let Source { name, text } = &source;
        let is_root =
            name.starts_with("src/") && name.matches('/').count() == 2 && name.ends_with("/mod.rs");
        let usual = if is_root { MODULE_ROOT_MAX } else { LINES_MAX };
        let most =
            LONGER.iter().find(|(file, ..)| file == name).map_or(usual, |(_, most, _)| *most);
        let lines = source.code().lines().count();
        if lines > most {
            breaches.push(format!("{name}: {lines} lines without tests, at most {most}"));
        }
        for (at, line) in text.lines().enumerate() {
            // The picture of the layers may be wider.
            if name != "src/lib.rs" && line.chars().count() > WIDTH_MAX {
                breaches.push(format!("{name}:{}: wider than {WIDTH_MAX}", at + 1));
            }
        }
    }
    assert_none(&breaches, "split the file by responsibility, or add an exception with a reason");
}

#[test]
fn every_file_has_a_module_doc() {
    let code = rust().into_iter().filter(|source| !source.code().is_empty());
    let without = code.filter(|source| !source.text.starts_with("//! "));
    let breaches: Vec<_> = without.map(|source| source.name).collect();
    assert_none(
        &breaches,
        "begin with //!: what the module contains, and what must never happen in it",
    );
}

/// Fails for each line of code with one of these words, except in the allowed files.
fn only(words: &[&str], allowed: impl Fn(&str) -> bool, instead: &str) {
    let mut breaches = Vec::new();
    for source in rust().iter().filter(|source| !allowed(&source.name)) {
        for (at, line) in source.lines() {
            if words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{at}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&breaches, instead);
}

#[test]
fn only_the_reloader_publishes_a_snapshot() {
    let reloader = |name: &str| name == "src/route/reload.rs";
    only(&["ArcSwap", "Snapshot::of("], reloader, "use route::Reloader");
}

#[test]
fn only_one_table_spells_metric_names() {
    let names = |name: &str| name == "src/telemetry/names.rs";
    only(&["\"sconce_"], names, "add the metric to src/telemetry/names.rs");
}

#[test]
fn only_one_file_prints() {
    let prints = |name: &str| name == "src/cli/terminal.rs" || !name.starts_with("src/");
    let words = ["print!(", "println!(", "stdout()", "io::stderr().write"];
    only(&words, prints, "print by cli::terminal, which escapes control characters");
}

#[test]
fn only_raw_configuration_is_deserialized() {
    let raw = |name: &str| name.ends_with("/yaml.rs") || name.ends_with("/settings.rs");
    only(&["Deserialize"], raw, "deserialize in a yaml.rs or settings.rs, and validate there");
}

#[test]
fn only_loops_read_the_clock() {
    let loops = |name: &str| CLOCKS.contains(&name);
    only(&["Instant::now"], loops, "take the time as an argument");
}

#[test]
fn no_code_is_left_unfinished() {
    let mut breaches = Vec::new();
    for source in rust().into_iter().chain(sources("tests", ".rs")) {
        if source.name != "tests/tidy.rs" {
            let words = ["#[ignore", "todo!(", "unimplemented!(", "FIXME"];
            let found = words.into_iter().filter(|word| source.text.contains(word));
            breaches.extend(found.map(|word| format!("{}: {word}", source.name)));
        }
    }
    assert_none(&breaches, "finish it, or delete it");
}

#[test]
fn filters_do_not_import_each_other() {
    let filters: Vec<_> = fs::read_dir(root().join("filters/src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(filters.contains(&"team".to_owned()));
    let mut breaches = Vec::new();
    for filter in &filters {
        for source in sources(&format!("filters/src/{filter}"), ".rs") {
            let others = names_after(&source.text, "crate::").into_iter();
            let others = others.filter(|it| *it != filter && filters.iter().any(|one| one == it));
            breaches.extend(others.map(|other| format!("{}: crate::{other}", source.name)));
        }
    }
    assert_none(&breaches, "share an attribute of the call: filters/src/call.rs");
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // Assembled here, so that this file does not contain them.
    let words = ["work", "root"].map(|name| format!("/{name}/"));
    let mut breaches = Vec::new();
    for source in sources(".", "") {
        for (at, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                breaches.push(format!("{}:{}", source.name, at + 1));
            }
        }
    }
    assert_none(&breaches, "use a path relative to the checkout, or ask the environment");
}
