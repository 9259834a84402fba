//! A look at the files: another one, before a team whose file is not there counts as removed.
//!
//! A directory can be read at the very moment when a file of it is replaced: an editor moves the
//! old one away before it writes the new one, and a network file system may miss one that is
//! renamed.

use crate::config::{self, Config, LoadContext, LoadResult};
use sconce_filters::TeamName;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use tokio::{task, time};

/// A team's file that is not there is looked for again after so long.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The most looks, while each of them misses other files than the one before.
const READS_MAX: usize = 5;

/// Reads the files on a thread beside the runtime. Unless each look misses other files, two in a
/// row have missed that of each live team which has lost it. `None` if the thread has failed.
pub(super) async fn read_until_stable(
    file: &Path,
    context: &LoadContext,
    live: &Arc<Config>,
) -> Option<LoadResult> {
    let mut known = BTreeSet::new();
    let mut looks: usize = 0;
    loop {
        let (file, context, before) = (file.to_owned(), context.clone(), Arc::clone(live));
        let read = move || config::read(&file, &context, Some(&before));
        let reading = task::spawn_blocking(read).await.ok()?;
        looks = looks.saturating_add(1);
        let gone = teams_without_file(&reading, live);
        if gone.is_subset(&known) || looks >= READS_MAX {
            return Some(reading);
        }
        known = gone;
        time::sleep(RETRY_DELAY).await;
    }
}

/// The live teams that have no file any more, or another one.
fn teams_without_file(reading: &LoadResult, live: &Config) -> BTreeSet<TeamName> {
    let Ok(plan) = &reading.config else { return BTreeSet::new() };
    let keeps =
        |name: &TeamName, file: &Path| plan.teams.get(name).is_some_and(|team| team.file == file);
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

    /// Files that are live, with one that claims the team of another.
    fn live() -> (TempDir, Arc<Config>) {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        fs::write(home.path().join("sconce.yaml"), MAIN).unwrap();
        fs::write(home.path().join("teams/ads.yaml"), team("ads", "ads")).unwrap();
        fs::write(home.path().join("teams/ml.yaml"), team("ml", "ml")).unwrap();
        let main = home.path().join("sconce.yaml");
        let plan = config::read(&main, &LoadContext::default(), None).config.unwrap();
        fs::write(home.path().join("teams/b.yaml"), team("ads", "other")).unwrap();
        (home, Arc::new(plan))
    }

    /// What a look finds, if this is done after half of the time between two.
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

    fn driver(plan: &Config, name: &str) -> Option<String> {
        let team = plan.teams.get(&TeamName::parse(name).unwrap())?;
        team.environments.values().next().map(|it| it.driver.to_string())
    }

    #[test]
    fn a_file_that_is_away_for_one_look_is_not_gone() {
        let (home, live) = live();
        let (file, away) = (home.path().join("teams/ads.yaml"), home.path().join("away"));
        fs::rename(&file, &away).unwrap();
        let plan = looked(&home, &live, || fs::rename(&away, &file).unwrap());
        assert_eq!(driver(&plan, "ads").as_deref(), Some("ads:1"));
    }

    #[test]
    fn a_file_that_two_looks_miss_is_gone_and_another_one_gets_its_team() {
        let (home, live) = live();
        fs::remove_file(home.path().join("teams/ads.yaml")).unwrap();
        let plan = looked(&home, &live, || ());
        assert_eq!(driver(&plan, "ads").as_deref(), Some("other:1"));
    }

    #[test]
    fn a_file_that_only_the_latest_look_misses_is_looked_for_again() {
        let (home, live) = live();
        let (one, other) = (home.path().join("teams/ads.yaml"), home.path().join("teams/ml.yaml"));
        fs::remove_file(&one).unwrap();
        let plan = looked(&home, &live, || {
            fs::write(&one, team("ads", "ads")).unwrap();
            fs::remove_file(&other).unwrap();
        });
        assert_eq!((driver(&plan, "ads"), driver(&plan, "ml")), (Some("ads:1".to_owned()), None));
    }
}
