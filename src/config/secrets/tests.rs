//! Restrictions of the secrets of team files.

use crate::config::{self, LoadContext};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

const APART: &str = "secrets_directory: secrets, variable_prefix: CARGO_";

/// A configuration with these keys under `teams`, and a team file with this line for each team.
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

/// Errors and warnings, without the temporary directory.
fn messages(home: &Path) -> (Vec<String>, Vec<String>) {
    let mut reading = config::read(&home.join("sconce.yaml"), &LoadContext::default(), None);
    let warnings = std::mem::take(&mut reading.warnings);
    let here = format!("{}/", home.display());
    let shown = |all: Vec<config::ConfigError>| {
        all.iter().map(|it| it.to_string().replace(&here, "")).collect::<Vec<_>>()
    };
    (shown(reading.into_result().err().unwrap_or_default()), shown(warnings))
}

fn errors(keys: &str, line: &str) -> Vec<String> {
    messages(home(keys, &[("ads", line), ("ml", "")]).path()).0
}

#[test]
fn a_team_can_use_files_of_its_own_directory_only() {
    let outside = |named: &str| {
        vec![format!(
            "teams/ads.yaml:2: driver_token_file: teams/{named} is outside secrets/ads, the \
             directory of this team's secrets (teams.secrets_directory); move the file there, and \
             write its new path"
        )]
    };
    let errors = |named: &str| errors(APART, &format!("driver_token_file: {named}"));
    for own in ["../secrets/ads/token", "../secrets/ml/../ads/token", "../secrets/./ads/token"] {
        assert_eq!(errors(own), [""; 0], "{own}");
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
        assert_eq!(errors(other), outside(other), "{other}");
    }
    let absolute = errors("/etc/hostname");
    assert!(absolute.len() == 1 && absolute[0].contains("is outside secrets/ads"), "{absolute:?}");
    let none = errors("../secrets/ads/none");
    assert!(none.len() == 1 && none[0].contains("cannot be read: No such file"), "{none:?}");
}

#[test]
fn a_team_cannot_use_files_of_a_team_with_its_name_as_prefix() {
    let line = "driver_token_file: ../secrets/ads-2/token";
    let home = home(APART, &[("ads", line), ("ads-2", "")]);
    let (errors, _) = messages(home.path());
    assert!(errors.len() == 1 && errors[0].contains("is outside secrets/ads,"));
}

#[test]
fn symbolic_links_are_resolved_before_the_check() {
    let line = "driver_token_file: ../secrets/ads/link";
    let home = home(APART, &[("ads", line), ("ml", "")]);
    let link = home.path().join("secrets/ads/link");
    for (target, is_own) in [("token", true), ("../ads/token", true), ("../ml/token", false)] {
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        assert_eq!(messages(home.path()).0.is_empty(), is_own, "{target}");
    }
    // As in a Kubernetes volume: a symbolic link to a directory with the same last name.
    let secrets = home.path().join("secrets");
    fs::create_dir(secrets.join("..v1")).unwrap();
    fs::rename(secrets.join("ads"), secrets.join("..v1/ads")).unwrap();
    symlink("..v1", secrets.join("..data")).unwrap();
    symlink("..data/ads", secrets.join("ads")).unwrap();
    fs::remove_file(&link).unwrap();
    symlink("token", &link).unwrap();
    assert_eq!(messages(home.path()).0, [""; 0]);
    // A symbolic link to the directory of another team, or to another place.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("ads")).unwrap();
    fs::write(elsewhere.path().join("ads/link"), "elsewhere").unwrap();
    symlink("token", secrets.join("ml/link")).unwrap();
    for target in [secrets.join("ml"), elsewhere.path().join("ads")] {
        fs::remove_file(secrets.join("ads")).unwrap();
        symlink(target, secrets.join("ads")).unwrap();
        assert_eq!(messages(home.path()).0.len(), 1);
    }
}

#[test]
fn a_missing_secrets_directory_is_an_error() {
    let home = home(APART, &[("ads", "driver_token_file: ../secrets/ads/token")]);
    fs::remove_dir_all(home.path().join("secrets/ads")).unwrap();
    let (errors, _) = messages(home.path());
    let expected = "teams/ads.yaml:2: driver_token_file: secrets/ads cannot be read: No such file";
    assert!(errors.len() == 1 && errors[0].starts_with(expected), "{errors:?}");
    fs::remove_dir_all(home.path().join("secrets")).unwrap();
    let (errors, _) = messages(home.path());
    let expected = "sconce.yaml:1: teams.secrets_directory: the directory secrets does not exist;";
    assert!(errors[0].starts_with(expected), "{errors:?}");
}

#[test]
fn a_team_can_use_variables_with_its_name_only() {
    // Always set in tests: CARGO_PKG_NAME, CARGO_PKG_VERSION and CARGO_PKG_VERSION_MAJOR.
    let found = |team: &str, variable: &str| {
        let line = format!("driver_token_variable: {variable}");
        messages(home(APART, &[(team, &line), ("ml", "")]).path()).0
    };
    let no = |team: &str, own: &str| {
        [format!(
            "teams/{team}.yaml:2: driver_token_variable: is not a variable of this team \
             (teams.variable_prefix); write a name that starts with {own}_"
        )]
    };
    assert_eq!(found("pkg", "CARGO_PKG_NAME"), [""; 0]);
    assert_eq!(found("pkg", "CARGO_PKG_VERSION_MAJOR"), [""; 0]);
    for other in ["HOME", "CARGO_MANIFEST_DIR", "PKG_NAME", "CARGO_PKG__NAME", "cargo_pkg_name"] {
        assert_eq!(found("pkg", other), no("pkg", "CARGO_PKG"), "{other}");
    }
    assert_eq!(found("pk", "CARGO_PKG_NAME"), no("pk", "CARGO_PK"));
    assert_eq!(found("pkg-version", "CARGO_PKG_VERSION"), no("pkg-version", "CARGO_PKG__VERSION"));
    let unset = found("pkg", "CARGO_PKG_NONE_SUCH");
    assert!(unset.len() == 1 && unset[0].contains("is not set"), "{unset:?}");
    for odd in ["''", "1A_", "A-B_", "'A B'"] {
        let keys = format!("secrets_directory: secrets, variable_prefix: {odd}");
        let found = errors(&keys, "");
        assert!(found.len() == 1 && found[0].contains("teams.variable_prefix: "), "{found:?}");
    }
}

#[test]
fn no_secret_is_read_for_an_invalid_team_name() {
    let line = "driver_token_file: ../secrets/ml/none";
    let home = home(APART, &[("ml", ""), ("x", line)]);
    let text = fs::read_to_string(home.path().join("teams/x.yaml")).unwrap();
    fs::write(home.path().join("teams/x.yaml"), text.replace("team: x", "team: ../ml")).unwrap();
    let (errors, _) = messages(home.path());
    assert!(errors.len() == 1 && errors[0].contains("x.yaml:1: team:"), "{errors:?}");
}

#[test]
fn one_of_the_two_keys_alone_is_a_warning() {
    let (directory, prefix) = ("secrets_directory", "variable_prefix");
    for (keys, key, other, what) in [
        ("secrets_directory: secrets", directory, prefix, "any environment variable"),
        ("variable_prefix: A_", prefix, directory, "any file"),
    ] {
        let (errors, warnings) = messages(home(keys, &[("ads", "")]).path());
        assert_eq!(errors, [""; 0]);
        let begins = format!(
            "sconce.yaml:1: teams.{key}: is set without teams.{other}: team files can still name \
             {what};"
        );
        assert!(warnings.len() == 1 && warnings[0].starts_with(&begins), "{warnings:?}");
    }
    for keys in [APART, "list_teams: false"] {
        assert_eq!(messages(home(keys, &[("ads", "")]).path()), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_secret_of_two_teams_is_a_warning_not_an_error() {
    let file = "driver_token_file: ../secrets/ads/token";
    let variable = "driver_token_variable: CARGO_PKG_NAME";
    let home = home(
        "list_teams: false",
        &[("ads", file), ("blue", variable), ("ml", file), ("red", variable), ("web", "")],
    );
    symlink("ads", home.path().join("secrets/link")).unwrap();
    let linked = "team: tea\nenvironments:\n  a: { driver: 'a:1', driver_token_file: \
                  ../secrets/link/token }\n  b: { driver: 'b:1', driver_token_file: \
                  ../secrets/ads/token }\n";
    fs::write(home.path().join("teams/tea.yaml"), linked).unwrap();
    let real = fs::canonicalize(home.path()).unwrap();
    let (errors, warnings) = messages(home.path());
    assert_eq!(errors, [""; 0]);
    let warnings: Vec<_> =
        warnings.iter().map(|it| it.replace(&format!("{}/", real.display()), "")).collect();
    let expected_text = |what: &str, owner: &str| {
        format!(
            "{what} is also used by the team '{owner}' (teams/{owner}.yaml:2): the drivers of both \
             teams receive the same token; give each team its own token"
        )
    };
    let file = expected_text("the file secrets/ads/token", "ads");
    assert_eq!(
        warnings,
        [
            format!("teams/ml.yaml:2: driver_token_file: {file}"),
            format!(
                "teams/red.yaml:2: driver_token_variable: {}",
                expected_text("the environment variable 'CARGO_PKG_NAME'", "blue")
            ),
            format!("teams/tea.yaml:3: environments.a.driver_token_file: {file}"),
        ]
    );
}
