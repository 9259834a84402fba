//! Repeated reads of the configuration before a team with a missing file counts as removed.
//!
//! A read can coincide with the replacement of a team file: an editor moves the old file away
//! before it writes the new one, and a network file system can miss a file during a rename.

use crate::config::{self, Config, LoadContext, LoadResult};
use sconce_filters::TeamName;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use tokio::{task, time};

/// Time between two reads.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of reads, while each read misses other files than the one before.
const READS_MAX: usize = 5;

/// Reads the files on a blocking thread until two reads in a row miss the files of the same live
/// teams, at most [`READS_MAX`] times. `None` if the thread has panicked.
pub(super) async fn read_until_stable(
    file: &Path,
    context: &LoadContext,
    live: &Arc<Config>,
) -> Option<LoadResult> {
    let mut known = BTreeSet::new();
    let mut reads: usize = 0;
    loop {
        let (file, context, before) = (file.to_owned(), context.clone(), Arc::clone(live));
        let read = move || config::read(&file, &context, Some(&before));
        let loaded = task::spawn_blocking(read).await.ok()?;
        reads = reads.saturating_add(1);
        let gone = teams_without_file(&loaded, live);
        if gone.is_subset(&known) || reads >= READS_MAX {
            return Some(loaded);
        }
        known = gone;
        time::sleep(RETRY_DELAY).await;
    }
}

/// The live teams without a file, or with another file.
fn teams_without_file(loaded: &LoadResult, live: &Config) -> BTreeSet<TeamName> {
    let Ok(config) = &loaded.config else { return BTreeSet::new() };
    let keeps =
        |name: &TeamName, file: &Path| config.teams.get(name).is_some_and(|team| team.file == file);
    let gone = live.teams.iter().filter(|(name, team)| !keeps(name, &team.file));
    gone.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const MAIN: &str = "teams: { directory: teams }\n";

    fn team(name: &str, driver: &str) -> String {
        format!("team: {name}\nenvironments:\n  prod: {{ driver: '{driver}:1' }}\n")
    }

    /// A live configuration, and a new file that claims the team of another file.
    fn live() -> (TempDir, Arc<Config>) {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        fs::write(home.path().join("sconce.yaml"), MAIN).unwrap();
        fs::write(home.path().join("teams/ads.yaml"), team("ads", "ads")).unwrap();
        fs::write(home.path().join("teams/ml.yaml"), team("ml", "ml")).unwrap();
        let main = home.path().join("sconce.yaml");
        let config = config::read(&main, &LoadContext::default(), None).config.unwrap();
        fs::write(home.path().join("teams/b.yaml"), team("ads", "other")).unwrap();
        (home, Arc::new(config))
    }

    /// The config after a read with `meanwhile` executed between the first two reads.
    fn looked(home: &TempDir, live: &Arc<Config>, meanwhile: impl FnOnce()) -> Config {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let main = home.path().join("sconce.yaml");
        let meanwhile = async {
            time::sleep(RETRY_DELAY / 2).await;
            meanwhile();
        };
        let context = LoadContext::default();
        let (reading, ()) = runtime
            .block_on(async { tokio::join!(read_until_stable(&main, &context, live), meanwhile) });
        reading.unwrap().config.unwrap()
    }

    fn driver(config: &Config, name: &str) -> Option<String> {
        let team = config.teams.get(&TeamName::parse(name).unwrap())?;
        team.environments.values().next().map(|it| it.driver.to_string())
    }

    #[test]
    fn a_file_missing_in_one_read_is_not_removed() {
        let (home, live) = live();
        let (file, away) = (home.path().join("teams/ads.yaml"), home.path().join("away"));
        fs::rename(&file, &away).unwrap();
        let config = looked(&home, &live, || fs::rename(&away, &file).unwrap());
        assert_eq!(driver(&config, "ads").as_deref(), Some("ads:1"));
    }

    #[test]
    fn a_file_missing_in_two_reads_is_removed_and_another_gets_its_team() {
        let (home, live) = live();
        fs::remove_file(home.path().join("teams/ads.yaml")).unwrap();
        let config = looked(&home, &live, || ());
        assert_eq!(driver(&config, "ads").as_deref(), Some("other:1"));
    }

    #[test]
    fn a_file_missing_in_the_latest_read_only_is_read_again() {
        let (home, live) = live();
        let (one, other) = (home.path().join("teams/ads.yaml"), home.path().join("teams/ml.yaml"));
        fs::remove_file(&one).unwrap();
        let config = looked(&home, &live, || {
            fs::write(&one, team("ads", "ads")).unwrap();
            fs::remove_file(&other).unwrap();
        });
        assert_eq!(
            (driver(&config, "ads"), driver(&config, "ml")),
            (Some("ads:1".to_owned()), None)
        );
    }
}
