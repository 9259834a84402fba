//! Config: any files in, and either a plan or complaints that a person can read.
//!
//! Input: the main file, then team files, each behind a NUL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::config;
use std::{fs, path::PathBuf, sync::LazyLock};

/// Team files that are read at once.
const TEAMS_MAX: usize = 4;

/// A directory of this process' own.
static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("sconce-fuzz-config-{}", std::process::id()));
    fs::create_dir_all(home.join("teams")).expect("a place for the files");
    home
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|octet| *octet == 0);
    let main = HOME.join("sconce.yaml");
    // What the input leaves out is sound, so that the fuzzer gets past it.
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
        Ok(plan) => {
            assert!(!plan.teams.is_empty());
            assert!(plan.teams.values().all(|team| !team.environments.is_empty()));
        }
        Err(complaints) => {
            assert!(!complaints.is_empty() && complaints.is_sorted());
            for complaint in complaints {
                let told = complaint.to_string();
                assert!(!told.contains(char::is_control), "{told:?}");
                assert!(told.len() < 4096, "{told}");
            }
        }
    }
});
