//! The samples in `config/` and the page about them say what the code does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use sconce::config::{self, Config, ConfigError, bounds};
use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn sample() -> Config {
    load(&root().join("config/sconce.yaml"))
}

fn load(file: &Path) -> Config {
    config::load(file).unwrap_or_else(|errors: Vec<ConfigError>| {
        panic!("{}", errors.iter().map(|it| format!("{it}\n")).collect::<String>())
    })
}

#[test]
fn the_sample_is_a_plan_and_says_what_missing_keys_mean() {
    let home = tempfile::tempdir().unwrap();
    let least = home.path().join("sconce.yaml");
    let teams = root().join("config/teams");
    fs::write(&least, format!("teams: {{ directory: '{}' }}\n", teams.display())).unwrap();
    let (least, sample) = (load(&least), sample());
    assert_eq!(sample.listen, least.listen);
    assert_eq!(sample.admin, least.admin);
    assert_eq!(sample.workers, least.workers);
    assert_eq!(sample.log, least.log);
    assert!(sample.filters.chain().names().eq(least.filters.chain().names()));
    assert_eq!(sample.timeouts, least.timeouts);
    assert_eq!(sample.drain, least.drain);
    assert_eq!(sample.limits, least.limits);
    assert_eq!(sample.user_context, least.user_context);
    assert_eq!(sample.teams.keys().map(|team| team.as_str()).collect::<Vec<_>>(), ["ads", "ml"]);
}

#[test]
fn the_sample_with_okta_is_a_plan_that_asks_everybody_for_proof() {
    let home = tempfile::tempdir().unwrap();
    for file in ["sconce.yaml", "teams/ads.yaml", "teams/ml.yaml"] {
        let to = home.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join("config/okta").join(file), to).unwrap();
    }
    let made = rcgen::generate_simple_self_signed(["spark.example.com".to_owned()]).unwrap();
    fs::create_dir(home.path().join("tls")).unwrap();
    for (file, text) in [
        ("server.crt", made.cert.pem()),
        ("clients.crt", made.cert.pem()),
        ("server.key", made.signing_key.serialize_pem()),
    ] {
        fs::write(home.path().join("tls").join(file), text).unwrap();
    }
    fs::create_dir_all(home.path().join("secrets/ads")).unwrap();
    fs::write(home.path().join("secrets/ads/token"), "token-of-the-driver\n").unwrap();
    let plan = load(&home.path().join("sconce.yaml"));
    assert!(plan.listen.tls.is_some());
    assert_eq!(plan.filters.chain().names().collect::<Vec<_>>(), ["authenticate", "team"]);
}

/// The keys that stand in a file of the sample, each as it is written there.
fn keys(file: &str) -> Vec<String> {
    let text = read(file);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let plain = |key: &str| key.trim_start_matches("- ").trim_start_matches("{ ").to_owned();
    lines.filter_map(|line| Some(plain(line.split_once(':')?.0))).collect()
}

#[test]
fn every_number_stands_in_the_sample_and_on_the_page_with_its_bounds() {
    let keys = [keys("config/sconce.yaml"), keys("config/okta/sconce.yaml")].concat();
    let sample = read("config/sconce.yaml") + &read("config/okta/sconce.yaml");
    let page = read("docs/configuration.md");
    let counts = bounds::INT_RANGES
        .iter()
        .map(|it| (it.key, it.default.to_string(), it.min.to_string(), it.max.to_string()));
    let spans = bounds::DURATION_RANGES.iter().map(|it| {
        let [usual, least, most] = [it.default, it.min, it.max].map(bounds::format_duration);
        (it.key, usual, least, most)
    });
    for (key, usual, least, most) in counts.chain(spans) {
        let last = key.rsplit('.').next().unwrap();
        assert!(keys.iter().any(|it| it == last), "the samples lack {key}");
        assert!(sample.contains(&most), "no sample says that {key} ends at {most}");
        let row = format!("| `{key}` | {usual} | {least} to {most} |");
        assert!(page.contains(&row), "docs/configuration.md lacks the row: {row}");
    }
}

#[test]
fn every_key_of_the_samples_is_explained_on_the_page() {
    let page = read("docs/configuration.md");
    for file in [
        "config/sconce.yaml",
        "config/teams/ads.yaml",
        "config/okta/sconce.yaml",
        "config/okta/teams/ads.yaml",
    ] {
        for key in keys(file) {
            let named = [format!("`{key}`"), format!(".{key}`"), format!("`{key}.")];
            let known = ["prod", "dev"].contains(&&*key);
            assert!(known || named.iter().any(|it| page.contains(it)), "the page lacks {key}");
        }
    }
}

#[test]
fn every_key_of_the_sample_has_a_remark_above_it() {
    for file in ["config/sconce.yaml", "config/teams/ads.yaml"] {
        let text = read(file);
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        for (above, line) in lines.iter().zip(lines.iter().skip(1)) {
            let key = line.split_once(':').map(|(key, _)| key).unwrap_or_default();
            // The second environment is written without remarks on purpose: the first has them.
            let plain = line.is_empty() || line.starts_with('#') || ["prod", "dev"].contains(&key);
            let repeated = line.contains("ads-dev.internal");
            assert!(plain || repeated || above.starts_with('#'), "{file}: explain '{line}'");
        }
    }
}
