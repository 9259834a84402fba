//! Config: arbitrary files give a config or readable errors.
//!
//! Input: the main file, then team files, separated by NUL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::config;
use std::{fs, path::PathBuf, sync::LazyLock};

/// Maximum number of team files.
const TEAMS_MAX: usize = 4;

/// A directory of this process.
static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("sconce-fuzz-config-{}", std::process::id()));
    fs::create_dir_all(home.join("teams")).expect("a place for the files");
    home
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|octet| *octet == 0);
    let main = HOME.join("sconce.yaml");
    // A missing main file is replaced by a valid one, so that team files are reached.
    let head = match parts.next().unwrap_or_default() {
        [] => b"teams: { directory: teams }\n",
        head => head,
    };
    fs::write(&main, head).expect("a file written");
    let teams: Vec<_> = parts.take(TEAMS_MAX).collect();
    for at in 0..TEAMS_MAX {
        let file = HOME.join("teams").join(format!("{at}.yaml"));
        match teams.get(at) {
            Some(team) => fs::write(file, team).expect("a file written"),
            None => drop(fs::remove_file(file)),
        }
    }
    match config::load(&main) {
        Ok(config) => {
            assert!(!config.teams.is_empty());
            assert!(config.teams.values().all(|team| !team.environments.is_empty()));
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.is_sorted());
            for error in errors {
                let text = error.to_string();
                assert!(!text.contains(char::is_control), "{text:?}");
                assert!(text.len() < 4096, "{text}");
            }
        }
    }
});
