//! What team files can and cannot name, and what is said of it.

use crate::config::{self, LoadContext};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

const APART: &str = "secrets_directory: secrets, variable_prefix: CARGO_";

/// A home with these keys under `teams`, and a file for each team with this line in it.
fn home(keys: &str, teams: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let main = format!("teams: {{ directory: teams, {keys} }}\n");
    fs::write(home.path().join("sconce.yaml"), main).unwrap();
    fs::create_dir(home.path().join("teams")).unwrap();
    for (team, line) in teams {
        let text =
            format!("team: {team}\n{line}\nenvironments: {{ prod: {{ driver: '{team}:1' }} }}\n");
        fs::write(home.path().join(format!("teams/{team}.yaml")), text).unwrap();
        fs::create_dir_all(home.path().join("secrets").join(team)).unwrap();
        fs::write(home.path().join(format!("secrets/{team}/token")), format!("of-{team}\n"))
            .unwrap();
    }
    home
}

/// The complaints and the warnings, with the directory itself left out.
fn said(home: &Path) -> (Vec<String>, Vec<String>) {
    let mut reading = config::read(&home.join("sconce.yaml"), &LoadContext::default(), None);
    let warnings = std::mem::take(&mut reading.warnings);
    let here = format!("{}/", home.display());
    let shown = |all: Vec<config::ConfigError>| {
        all.iter().map(|it| it.to_string().replace(&here, "")).collect::<Vec<_>>()
    };
    (shown(reading.into_result().err().unwrap_or_default()), shown(warnings))
}

fn complaints(keys: &str, line: &str) -> Vec<String> {
    said(home(keys, &[("ads", line), ("ml", "")]).path()).0
}

#[test]
fn a_team_reaches_the_files_of_its_own_directory_and_no_other() {
    let outside = |named: &str| {
        vec![format!(
            "teams/ads.yaml:2: driver_token_file: teams/{named} is not in secrets/ads, where this \
             team's secrets are (teams.secrets_directory); put it there, and name it by that path"
        )]
    };
    let complaints = |named: &str| complaints(APART, &format!("driver_token_file: {named}"));
    for own in ["../secrets/ads/token", "../secrets/ml/../ads/token", "../secrets/./ads/token"] {
        assert_eq!(complaints(own), [""; 0], "{own}");
    }
    for other in [
        "../secrets/ml/token",
        "../secrets/ads/../ml/token",
        "../secrets/ads/../../sconce.yaml",
        "../sconce.yaml",
        "../secrets/ads",
        "../secrets/ml/none",
        "../none",
    ] {
        assert_eq!(complaints(other), outside(other), "{other}");
    }
    let absolute = complaints("/etc/hostname");
    assert!(absolute.len() == 1 && absolute[0].contains("is not in secrets/ads"), "{absolute:?}");
    let none = complaints("../secrets/ads/none");
    assert!(none.len() == 1 && none[0].contains("cannot be read: No such file"), "{none:?}");
}

#[test]
fn a_team_whose_name_begins_another_s_does_not_reach_its_files() {
    let line = "driver_token_file: ../secrets/ads-2/token";
    let home = home(APART, &[("ads", line), ("ads-2", "")]);
    let (complaints, _) = said(home.path());
    assert!(complaints.len() == 1 && complaints[0].contains("is not in secrets/ads,"));
}

#[test]
fn links_are_followed_before_a_file_is_looked_at() {
    let line = "driver_token_file: ../secrets/ads/link";
    let home = home(APART, &[("ads", line), ("ml", "")]);
    let link = home.path().join("secrets/ads/link");
    for (target, is_own) in [("token", true), ("../ads/token", true), ("../ml/token", false)] {
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        assert_eq!(said(home.path()).0.is_empty(), is_own, "{target}");
    }
    // As Kubernetes mounts a volume: the directory is a link, which leads to one of its name.
    let secrets = home.path().join("secrets");
    fs::create_dir(secrets.join("..v1")).unwrap();
    fs::rename(secrets.join("ads"), secrets.join("..v1/ads")).unwrap();
    symlink("..v1", secrets.join("..data")).unwrap();
    symlink("..data/ads", secrets.join("ads")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink("token", &link).unwrap();
    assert_eq!(said(home.path()).0, [""; 0]);
    // The directory of a team that is another team's, or elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("ads")).unwrap();
    fs::write(elsewhere.path().join("ads/link"), "elsewhere").unwrap();
    symlink("token", secrets.join("ml/link")).unwrap();
    for target in [secrets.join("ml"), elsewhere.path().join("ads")] {
        fs::remove_file(secrets.join("ads")).unwrap();
        symlink(target, secrets.join("ads")).unwrap();
        assert_eq!(said(home.path()).0.len(), 1);
    }
}

#[test]
fn a_team_without_a_directory_of_secrets_is_told_to_make_it() {
    let home = home(APART, &[("ads", "driver_token_file: ../secrets/ads/token")]);
    fs::remove_dir_all(home.path().join("secrets/ads")).unwrap();
    let (complaints, _) = said(home.path());
    let expected = "teams/ads.yaml:2: driver_token_file: secrets/ads cannot be read: No such file";
    assert!(complaints.len() == 1 && complaints[0].starts_with(expected), "{complaints:?}");
    fs::remove_dir_all(home.path().join("secrets")).unwrap();
    let (complaints, _) = said(home.path());
    let expected = "sconce.yaml:1: teams.secrets_directory: there is no directory secrets;";
    assert!(complaints[0].starts_with(expected), "{complaints:?}");
}

#[test]
fn a_team_reaches_the_variables_that_bear_its_name_and_no_other() {
    // Set for every test: CARGO_PKG_NAME, CARGO_PKG_VERSION and CARGO_PKG_VERSION_MAJOR.
    let told = |team: &str, variable: &str| {
        let line = format!("driver_token_variable: {variable}");
        said(home(APART, &[(team, &line), ("ml", "")]).path()).0
    };
    let no = |team: &str, own: &str| {
        [format!(
            "teams/{team}.yaml:2: driver_token_variable: is not the name of a variable of this \
             team (teams.variable_prefix); name one that begins with {own}_"
        )]
    };
    assert_eq!(told("pkg", "CARGO_PKG_NAME"), [""; 0]);
    assert_eq!(told("pkg", "CARGO_PKG_VERSION_MAJOR"), [""; 0]);
    for other in ["HOME", "CARGO_MANIFEST_DIR", "PKG_NAME", "CARGO_PKG__NAME", "cargo_pkg_name"] {
        assert_eq!(told("pkg", other), no("pkg", "CARGO_PKG"), "{other}");
    }
    assert_eq!(told("pk", "CARGO_PKG_NAME"), no("pk", "CARGO_PK"));
    assert_eq!(told("pkg-version", "CARGO_PKG_VERSION"), no("pkg-version", "CARGO_PKG__VERSION"));
    let unset = told("pkg", "CARGO_PKG_NONE_SUCH");
    assert!(unset.len() == 1 && unset[0].contains("is not set"), "{unset:?}");
    for odd in ["''", "1A_", "A-B_", "'A B'"] {
        let keys = format!("secrets_directory: secrets, variable_prefix: {odd}");
        let told = complaints(&keys, "");
        assert!(told.len() == 1 && told[0].contains("teams.variable_prefix: "), "{told:?}");
    }
}

#[test]
fn a_team_whose_name_is_wrong_has_no_secrets_read() {
    let line = "driver_token_file: ../secrets/ml/none";
    let home = home(APART, &[("ml", ""), ("x", line)]);
    let text = fs::read_to_string(home.path().join("teams/x.yaml")).unwrap();
    fs::write(home.path().join("teams/x.yaml"), text.replace("team: x", "team: ../ml")).unwrap();
    let (complaints, _) = said(home.path());
    assert!(complaints.len() == 1 && complaints[0].contains("x.yaml:1: team:"), "{complaints:?}");
}

#[test]
fn one_key_of_the_two_alone_is_a_warning() {
    for (keys, key, what) in [
        ("secrets_directory: secrets", "secrets_directory", "any environment variable"),
        ("variable_prefix: A_", "variable_prefix", "any file"),
    ] {
        let (complaints, warnings) = said(home(keys, &[("ads", "")]).path());
        assert_eq!(complaints, [""; 0]);
        let begins =
            format!("sconce.yaml:1: teams.{key}: stands alone: team files may still name {what};");
        assert!(warnings.len() == 1 && warnings[0].starts_with(&begins), "{warnings:?}");
    }
    for keys in [APART, "list_teams: false"] {
        assert_eq!(said(home(keys, &[("ads", "")]).path()), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_secret_that_two_teams_name_is_a_warning_and_no_complaint() {
    let file = "driver_token_file: ../secrets/ads/token";
    let variable = "driver_token_variable: CARGO_PKG_NAME";
    let home = home(
        "list_teams: false",
        &[("ads", file), ("blue", variable), ("ml", file), ("red", variable), ("web", "")],
    );
    symlink("ads", home.path().join("secrets/link")).unwrap();
    let linked = "team: tea\nenvironments:\n  \
                  a: { driver: 'a:1', driver_token_file: ../secrets/link/token }\n  \
                  b: { driver: 'b:1', driver_token_file: ../secrets/ads/token }\n";
    fs::write(home.path().join("teams/tea.yaml"), linked).unwrap();
    let real = fs::canonicalize(home.path()).unwrap();
    let (complaints, warnings) = said(home.path());
    assert_eq!(complaints, [""; 0]);
    let warnings: Vec<_> =
        warnings.iter().map(|it| it.replace(&format!("{}/", real.display()), "")).collect();
    let says = |what: &str, owner: &str| {
        format!(
            "{what} is that of the team '{owner}' too (teams/{owner}.yaml:2): the drivers of both \
             learn the same token; give each team a token of its own"
        )
    };
    let file = says("the file secrets/ads/token", "ads");
    assert_eq!(
        warnings,
        [
            format!("teams/ml.yaml:2: driver_token_file: {file}"),
            format!(
                "teams/red.yaml:2: driver_token_variable: {}",
                says("the environment variable 'CARGO_PKG_NAME'", "blue")
            ),
            format!("teams/tea.yaml:3: environments.a.driver_token_file: {file}"),
        ]
    );
}
