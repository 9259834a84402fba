//! The laws of the house, each with a message that says where to go instead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer, and the layers drawn below it in `src/lib.rs`. What is not named is not importable.
const LAYERS: [(&str, &[&str]); 8] = [
    ("wire", &[]),
    ("telemetry", &[]),
    ("grpc", &["wire", "telemetry"]),
    ("config", &["grpc", "wire", "telemetry"]),
    ("route", &["config", "grpc", "wire", "telemetry"]),
    ("proxy", &["route", "config", "grpc", "wire", "telemetry"]),
    ("admin", &["proxy", "route", "config", "grpc", "wire", "telemetry"]),
    // `serve` lives here and builds every layer, admin among them.
    ("cli", &["admin", "proxy", "route", "config", "grpc", "wire", "telemetry"]),
];

const LINES_MAX: usize = 400;
const DOOR_MAX: usize = 80;
const WIDTH_MAX: usize = 100;

/// Files that may be longer, how long, and why.
const LONGER: [(&str, usize, &str); 3] = [
    ("src/wire/connection/tests.rs", 600, "whole exchanges, each read on its own"),
    ("src/config/tests.rs", 450, "every key, read in one test"),
    ("src/proxy/mod.rs", 145, "starts and stops the workers, which is what its users look for"),
];

/// The files that read the clock: each owns a loop, or makes a call up.
const CLOCKS: [&str; 6] = [
    "src/proxy/relay.rs",
    "src/proxy/probe.rs",
    "src/proxy/worker/mod.rs",
    "src/proxy/worker/thread.rs",
    "src/cli/explain/mod.rs",
    "src/config/keys/keeper.rs",
];

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// All that comes before the tests at the foot of the file; nothing of a file of tests.
    fn code(&self) -> &str {
        if self.name.ends_with("/tests.rs") {
            return "";
        }
        self.text.split("\nmod tests {").next().unwrap_or_default()
    }

    /// The lines of code that are not remarks, with their numbers.
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

/// Every text file below a directory whose name ends so.
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

/// What stands behind `crate::` in a text: the first words of plain paths and of groups.
fn imports(text: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let mut found = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(&rest[..word(rest).unwrap_or(rest.len())]);
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && letter.is_alphabetic() => {
                    let rest = &group[at..];
                    found.push(&rest[..word(rest).unwrap_or(rest.len())]);
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
        imports("use crate::{wire::{a, b}, cli, x}; crate::grpc::y"),
        ["wire", "cli", "x", "grpc"]
    );
    let mut breaches = Vec::new();
    for (layer, below) in LAYERS {
        for source in sources(&format!("src/{layer}"), ".rs") {
            for import in imports(&source.text) {
                if import != layer && !below.contains(&import) {
                    breaches.push(format!("{}: crate::{import}", source.name));
                }
            }
        }
    }
    assert_none(&breaches, "move the code down, or hand it in from above: see src/lib.rs");
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

#[test]
fn super_never_leaves_a_layer() {
    let mut breaches = Vec::new();
    for source in sources("src", ".rs") {
        let door = source.name.matches('/').count() == 2 && source.name.ends_with("/mod.rs");
        for (at, line) in source.lines() {
            if line.contains("super::super::") || (door && line.contains("super::")) {
                breaches.push(format!("{}:{at}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&breaches, "write crate::<layer>::..., so that the law of imports sees it");
}

#[test]
fn files_are_read_in_one_sitting() {
    let mut breaches = Vec::new();
    for Source { name, text } in rust() {
        let door =
            name.starts_with("src/") && name.matches('/').count() == 2 && name.ends_with("/mod.rs");
        let usual = if door { DOOR_MAX } else { LINES_MAX };
        let most =
            LONGER.iter().find(|(file, ..)| *file == name).map_or(usual, |(_, most, _)| *most);
        let lines = text.lines().count();
        if lines > most {
            breaches.push(format!("{name}: {lines} lines, at most {most}"));
        }
        for (at, line) in text.lines().enumerate() {
            // The picture is as wide as it is.
            if name != "src/lib.rs" && line.chars().count() > WIDTH_MAX {
                breaches.push(format!("{name}:{}: wider than {WIDTH_MAX}", at + 1));
            }
        }
    }
    assert_none(&breaches, "split the file by what it does; a door only leads on");
}

#[test]
fn every_file_says_what_it_is_for() {
    let code = rust().into_iter().filter(|source| !source.code().is_empty());
    let silent = code.filter(|source| !source.text.starts_with("//! "));
    let breaches: Vec<_> = silent.map(|source| source.name).collect();
    assert_none(&breaches, "begin with //!: what lives here, and what must never happen here");
}

/// Fails for each line of code with one of these words outside of the files that may have it.
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
fn only_the_steward_publishes_a_snapshot() {
    let steward = |name: &str| name == "src/route/steward.rs";
    only(&["ArcSwap", "Snapshot::of("], steward, "ask route::Steward to reload");
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
    only(&words, prints, "print by cli::terminal, which escapes what others wrote");
}

#[test]
fn only_drafts_and_settings_are_deserialized() {
    let drafts = |name: &str| name.ends_with("/draft.rs") || name.ends_with("/settings.rs");
    only(&["Deserialize"], drafts, "read it in a draft.rs or settings.rs and check it there");
}

#[test]
fn only_loops_read_the_clock() {
    let loops = |name: &str| CLOCKS.contains(&name);
    only(&["Instant::now"], loops, "take the time as an argument");
}

#[test]
fn nothing_is_left_for_later() {
    let mut breaches = Vec::new();
    for source in rust().into_iter().chain(sources("tests", ".rs")) {
        if source.name != "tests/tidy.rs" {
            let words = ["#[ignore", "todo!(", "unimplemented!(", "FIXME"];
            let found = words.into_iter().filter(|word| source.text.contains(word));
            breaches.extend(found.map(|word| format!("{}: {word}", source.name)));
        }
    }
    assert_none(&breaches, "do it, or delete it");
}

#[test]
fn rooms_of_the_chain_do_not_know_one_another() {
    let rooms: Vec<_> = fs::read_dir(root().join("filters/src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(rooms.contains(&"team".to_owned()));
    let mut breaches = Vec::new();
    for room in &rooms {
        for source in sources(&format!("filters/src/{room}"), ".rs") {
            let others = imports(&source.text).into_iter();
            let others = others.filter(|it| *it != room && rooms.iter().any(|room| room == it));
            breaches.extend(others.map(|other| format!("{}: crate::{other}", source.name)));
        }
    }
    assert_none(&breaches, "share a slot of filters/src/call.rs instead");
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    // Put together here, so that this file does not break its own law.
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
