//! The documentation agrees with the repository: links and anchors, commands and their output,
//! metric names, refusal labels, log lines, alerts, and the status of decision records.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that the documentation no longer uses: see docs/glossary.md.
const OLD_WORDS: [&str; 14] = [
    "leg",
    "legs",
    "octet",
    "octets",
    "complaint",
    "complaints",
    "remedy",
    "steward",
    "almanac",
    "shelf",
    "exchanges",
    "stamped",
    "nobody's",
    "so-manieth",
];

/// Metrics of Prometheus' own conventions, and suffixes that its format adds to histograms.
const SUFFIXES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// First words of refusal labels.
const LABELS: [&str; 12] = [
    "authenticate.",
    "call.",
    "chain.",
    "client.",
    "connections.",
    "drain.",
    "driver.",
    "envelope.",
    "malformed.",
    "request.",
    "route.",
    "team.",
];

/// How the status of a decision record begins.
const STATUSES: [&str; 3] = ["implemented", "partly implemented", "accepted; not built yet"];

/// Literals of that form that are no labels: names of hosts in tests, and keys.
const NO_LABELS: [&str; 2] = ["driver.invalid", "drain.delay"];

struct Page {
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn walk(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let passed = ["target", "node_modules", "corpus", "artifacts"].contains(&&*name);
        if path.is_dir() && !passed && !name.starts_with('.') {
            walk(&path, ending, found);
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn files(below: &str, ending: &str) -> Vec<Page> {
    let mut found = Vec::new();
    walk(&root().join(below), ending, &mut found);
    found.sort();
    let page = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        Page { text: fs::read_to_string(&path).unwrap(), name }
    };
    found.into_iter().map(page).collect()
}

/// Every Markdown page of the repository.
fn pages() -> Vec<Page> {
    let pages = files(".", ".md");
    assert!(pages.len() > 30, "the search must find the pages");
    pages
}

/// Pages for operators and users, without the history of names in the changelog.
fn operators_pages() -> Vec<Page> {
    let is_old = |page: &Page| page.name == "CHANGELOG.md";
    let all = pages().into_iter().filter(|page| !is_old(page));
    all.filter(|page| !page.name.contains('/') || page.name.starts_with("docs/")).collect()
}

fn assert_none(breaches: &[String], instead: &str) {
    assert!(breaches.is_empty(), "\n{}\n-> {instead}\n", breaches.join("\n"));
}

/// The lines of a page outside code blocks, with line numbers.
fn outside_code(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((at + 1, line));
        }
    }
    lines
}

/// The same without inline code.
fn prose(text: &str) -> Vec<(usize, String)> {
    let plain = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    outside_code(text).into_iter().map(|(at, line)| (at, plain(line))).collect()
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let headings = text.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && line.starts_with('#')
    });
    headings.map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// Targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut breaches = Vec::new();
    for page in pages() {
        let folder = root().join(&page.name).parent().unwrap().to_owned();
        for (at, line) in prose(&page.text) {
            for link in links(&line).filter(|link| !link.starts_with("http")) {
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let path =
                    if file.is_empty() { root().join(&page.name) } else { folder.join(file) };
                let is_page = path.extension().is_some_and(|it| it == "md");
                let is_known = path.exists()
                    && (anchor.is_empty()
                        || !is_page
                        || anchors(&fs::read_to_string(&path).unwrap()).contains(anchor));
                if !is_known {
                    breaches.push(format!("{}:{at}: {link}", page.name));
                }
            }
        }
    }
    assert_none(&breaches, "correct the link, or the heading that it names");
}

#[test]
fn text_in_docs_is_at_most_100_columns_wide() {
    let mut breaches = Vec::new();
    for page in pages().into_iter().filter(|page| page.name.starts_with("docs/")) {
        for (at, line) in outside_code(&page.text) {
            let is_unbreakable = line.starts_with('|') || line.contains("](");
            if !is_unbreakable && line.chars().count() > 100 {
                breaches.push(format!("{}:{at}", page.name));
            }
        }
    }
    assert_none(&breaches, "wrap the text at 100 columns");
}

/// Lines of code blocks and pieces of inline code that begin with a program of the repository.
fn commands(page: &Page) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in page.text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            found.push(line.trim().trim_start_matches("$ ").to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_command_in_docs_exists() {
    let binary = env!("CARGO_BIN_EXE_sconce");
    let mut breaches = Vec::new();
    for page in operators_pages() {
        for command in commands(&page) {
            let mut words = command.split_whitespace();
            let Some(program) = words.next() else { continue };
            let is_script = ["scripts/", "tests/", "benches/", "fuzz/", ".ci/"]
                .iter()
                .any(|folder| program.starts_with(folder))
                && !program.contains(['*', '<']);
            if is_script && !root().join(program).exists() {
                breaches.push(format!("{}: {program}", page.name));
            }
            if !["sconce", "target/release/sconce"].contains(&program) {
                continue;
            }
            let Some(verb) = words.next().filter(|it| it.chars().all(char::is_alphabetic)) else {
                continue;
            };
            let help = Command::new(binary).args([verb, "--help"]).output().unwrap();
            let text = String::from_utf8(help.stdout).unwrap();
            let flags =
                words.take_while(|it| !it.starts_with('#')).filter(|it| it.starts_with("--"));
            let unknown: Vec<_> = flags.filter(|flag| !text.contains(*flag)).collect();
            // A name of a setting, as in `sconce_calls_total`, is no command.
            if !help.status.success() || !unknown.is_empty() {
                breaches.push(format!("{}: {command} {unknown:?}", page.name));
            }
        }
    }
    assert_none(&breaches, "correct the command: see sconce --help");
}

#[test]
fn output_in_docs_is_what_the_command_prints() {
    let page = read("docs/configuration.md");
    let mut examples = 0;
    for block in page.split("```").skip(1).step_by(2) {
        let Some((command, expected)) = block.trim_start().split_once('\n') else { continue };
        let Some(command) = command.strip_prefix("$ sconce ") else { continue };
        let words = command.split_whitespace().map(|word| word.trim_matches('"'));
        let ran = Command::new(env!("CARGO_BIN_EXE_sconce"))
            .args(words)
            .current_dir(root())
            .env_remove("SPARK_CONNECT_AUTHENTICATE_TOKEN")
            .output()
            .unwrap();
        let printed = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
        assert_eq!(printed.trim_end(), expected.trim_end(), "docs/configuration.md: {command}");
        examples += 1;
    }
    assert!(examples >= 2, "the search must find the examples");
}

/// Words that begin with `sconce_` and look like metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c));
    words.filter(|word| word.starts_with("sconce_")).map(str::to_owned).collect()
}

#[test]
fn docs_and_tests_name_the_metrics_that_there_are() {
    let names = metrics(&read("src/telemetry/names.rs"));
    assert!(names.len() > 20, "the search must find the metrics");
    let page = metrics(&read("docs/metrics.md"));
    let missing: Vec<_> = names.difference(&page).cloned().collect();
    assert_none(&missing, "add a row to docs/metrics.md");

    let mut breaches = Vec::new();
    let mut pages = operators_pages();
    pages.extend(files("docs", ".yaml"));
    pages.extend(files("tests/alerts", ".yaml"));
    for page in pages {
        for word in metrics(&page.text) {
            let stem = SUFFIXES.iter().find_map(|suffix| word.strip_suffix(suffix));
            // A prefix of several, as in `sconce_jwks_*`.
            let is_prefix = word.ends_with('_') && names.iter().any(|it| it.starts_with(&word));
            if !names.contains(&word) && !stem.is_some_and(|it| names.contains(it)) && !is_prefix {
                breaches.push(format!("{}: {word}", page.name));
            }
        }
    }
    assert_none(&breaches, "write the name of src/telemetry/names.rs");
}

#[test]
fn every_alert_has_a_row() {
    let page = read("docs/metrics.md");
    let rules = read("docs/alerts.yaml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let missing = alerts.filter(|alert| !page.contains(&format!("| `{alert}` |")));
    assert_none(&missing.map(str::to_owned).collect::<Vec<_>>(), "add a row to docs/metrics.md");
}

/// The code of the product, without tests.
fn sources() -> Vec<Page> {
    let all = files("src", ".rs").into_iter().chain(files("filters/src", ".rs"));
    let code = all.filter(|page| !page.name.contains("tests")).map(|mut page| {
        let end = page.text.find("\nmod tests {").unwrap_or(page.text.len());
        page.text.truncate(end);
        page
    });
    code.collect()
}

#[test]
fn every_refusal_label_is_explained() {
    let page = read("docs/troubleshooting.md") + &read("docs/http2.md");
    let mut labels = BTreeSet::new();
    for source in sources().into_iter().filter(|it| !it.name.starts_with("src/config")) {
        let literals = source.text.split('"').skip(1).step_by(2).map(str::to_owned);
        labels.extend(literals.filter(|it| {
            let rest = LABELS.iter().find_map(|prefix| it.strip_prefix(prefix));
            rest.is_some_and(|it| {
                !it.is_empty() && it.chars().all(|c| c == '_' || c.is_lowercase())
            })
        }));
    }
    assert!(labels.len() > 50, "the search must find the labels");
    let is_explained = |label: &String| {
        let short = label.split_once('.').map(|(_, rest)| format!("`.{rest}`"));
        page.contains(&format!("`{label}`")) || short.is_some_and(|it| page.contains(&it))
    };
    let labels = labels.into_iter().filter(|it| !NO_LABELS.contains(&it.as_str()));
    let missing: Vec<_> = labels.filter(|label| !is_explained(label)).collect();
    assert_none(&missing, "add a row to docs/troubleshooting.md");
}

#[test]
fn supported_versions_are_those_of_the_tests() {
    let mut versions = BTreeSet::new();
    for (runner, starts) in [
        ("tests/spark/run", ["SERVER = ", "NEWEST = ", "CLIENTS = "].as_slice()),
        ("tests/clients/run", ["SERVER = ", "JVM = "].as_slice()),
    ] {
        let text = read(runner);
        let lines = text.lines().filter(|line| starts.iter().any(|it| line.starts_with(it)));
        let literals = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
        versions.extend(literals.filter(|it| it.matches('.').count() == 2).map(str::to_owned));
    }
    assert!(versions.len() > 6, "the search must find the versions");
    for page in ["README.md", "docs/clients.md"] {
        let text = read(page);
        let missing: Vec<_> = versions.iter().filter(|it| !text.contains(*it)).cloned().collect();
        assert_none(&missing, &format!("correct the table of versions in {page}"));
    }
}

#[test]
fn every_abuse_limit_is_explained() {
    let page = read("docs/troubleshooting.md");
    let guard = read("src/wire/guard.rs");
    let names = guard.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"'));
    let names: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
    assert!(names.len() > 10, "the search must find the limits");
    let missing: Vec<_> =
        names.into_iter().filter(|it| !page.contains(&format!("`{it}`"))).collect();
    assert_none(&missing, "add a row to docs/troubleshooting.md");
}

/// The messages of `tracing` macros: the last literal of each call that is a message.
fn messages(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for level in ["error!(", "warn!(", "info!(", "debug!("] {
        for call in code.split(level).skip(1) {
            let end = call.find(");").unwrap_or(call.len());
            let call = call.get(..end).unwrap_or_default();
            let literal = call.split('"').skip(1).step_by(2).last().unwrap_or_default();
            let is_message = literal.contains(' ') || call.trim_start().starts_with('"');
            if is_message && !literal.starts_with('{') {
                found.insert(literal.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_log_line_is_on_the_page_and_every_line_of_the_page_is_logged() {
    let page = read("docs/logs.md");
    let code: String = sources().into_iter().map(|source| source.text).collect();
    // Literals that continue on the next line.
    let mut parts = code.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    let unescaped = parts.fold(first, |code, rest| code + rest.trim_start());
    let missing = messages(&unescaped).into_iter().filter(|it| !page.contains(&format!("`{it}`")));
    assert_none(&missing.collect::<Vec<_>>(), "add a row to docs/logs.md");

    let rows = page.lines().filter(|line| {
        ["| error |", "| warn |", "| info |", "| debug |"].iter().any(|level| line.contains(level))
    });
    let first = rows.filter_map(|row| row.split(" | ").next());
    let lines = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let gone = lines.filter(|line| !unescaped.contains(&format!("{line}\"")));
    assert_none(&gone.map(str::to_owned).collect::<Vec<_>>(), "no code logs that: correct the row");
}

#[test]
fn every_decision_record_has_a_status_and_a_row() {
    let table = read("docs/decisions/README.md");
    let mut breaches = Vec::new();
    for page in files("docs/decisions", ".md") {
        let file = page.name.rsplit('/').next().unwrap();
        let begins = |status: &&&str| page.text.contains(&format!("\n**Status:** {status}"));
        let status = STATUSES.iter().find(begins);
        let row = table.lines().find(|line| line.contains(&format!("({file})")));
        match (status, row) {
            _ if file == "README.md" => {}
            (Some(status), Some(row)) if row.contains(&format!("| {status}")) => {}
            _ => breaches.push(format!("{file}: status {status:?}, row {row:?}")),
        }
        // A claim outside the status line would contradict it one day.
        let claims = page.text.lines().filter(|line| line.contains("ot built yet")).count();
        if file != "README.md" && claims > 1 {
            breaches.push(format!("{file}: repeats 'not built yet' outside its status line"));
        }
    }
    assert_none(&breaches, "write what is true today");
}

#[test]
fn old_words_are_gone_from_docs() {
    let mut breaches = Vec::new();
    for page in operators_pages().into_iter().filter(|it| it.name != "docs/glossary.md") {
        for (at, line) in prose(&page.text) {
            let plain = line.to_lowercase();
            let words: Vec<_> = plain.split(|c: char| !c.is_alphanumeric() && c != '\'').collect();
            let old = OLD_WORDS.iter().filter(|word| words.contains(*word));
            breaches.extend(old.map(|word| format!("{}:{at}: {word}", page.name)));
        }
    }
    assert_none(&breaches, "use the word of docs/glossary.md");
}
