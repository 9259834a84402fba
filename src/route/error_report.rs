//! The errors of the configuration, told once each: to the log, and to the metrics.

use crate::{
    config::{ConfigError, ErrorsByTeam, Served, TeamErrors},
    route::ReloadOutcome,
    telemetry::{ConfigErrorCount, ControlMetrics},
};
use std::collections::{BTreeMap, BTreeSet};

/// The most errors, and the most teams, that one reload writes to the log.
pub(super) const LOGGED_MAX: usize = 20;

/// The errors that were told last.
#[derive(Debug)]
pub(super) struct ReportedErrors {
    main: Vec<ConfigError>,
    teams: ErrorsByTeam,
    metrics: ControlMetrics,
}

impl ReportedErrors {
    /// None yet: those there are at the start are told at the first reading after it, when there is
    /// a log.
    pub(super) fn new(metrics: ControlMetrics) -> Self {
        Self { main: Vec::new(), teams: ErrorsByTeam::new(), metrics }
    }

    /// Tells what is wrong now and was not before, or all of it where somebody asked. Says whether
    /// anything is different.
    pub(super) fn update(
        &mut self,
        main: &[ConfigError],
        mut teams: ErrorsByTeam,
        generation: u64,
        is_asked: bool,
    ) -> bool {
        if !main.is_empty() {
            // No team is served as its file says, and which files there are may not be known.
            self.teams.iter().for_each(|(team, errors)| {
                teams.entry(team.clone()).or_insert_with(|| errors.clone());
            });
        }
        let (is_other, are_other) = (self.main != main, self.teams != teams);
        if is_other || (is_asked && !main.is_empty()) {
            self.main = main.to_vec();
            log_main_errors(main, generation);
        }
        let mut before = std::mem::replace(&mut self.teams, teams);
        if is_asked {
            before.retain(|team, _| !self.teams.contains_key(team));
        }
        log_team_errors(&before, &self.teams);
        self.update_metrics();
        is_other || are_other
    }

    /// Logs what became of a reading that somebody asked for.
    pub(super) fn log_requested_reload(&self, verdict: &ReloadOutcome, generation: u64) {
        let teams = self.teams.len();
        let errors: usize = self.teams.values().map(|errors| errors.errors.len()).sum();
        match verdict {
            ReloadOutcome::Applied(_) if errors > 0 => tracing::warn!(
                generation,
                teams,
                errors,
                "SIGHUP: configuration applied, but files of teams have errors"
            ),
            ReloadOutcome::Applied(_) => {
                tracing::info!(generation, "SIGHUP: configuration applied")
            }
            ReloadOutcome::Unchanged if errors > 0 => tracing::warn!(
                generation,
                teams,
                errors,
                "SIGHUP: nothing to apply, but files of teams have errors"
            ),
            ReloadOutcome::Unchanged => {
                tracing::info!(generation, "SIGHUP: nothing has changed in the configuration");
            }
            ReloadOutcome::Rejected(complaints) => {
                let complaints = complaints.len();
                tracing::warn!(complaints, generation, "SIGHUP: configuration not applied");
            }
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.teams.is_empty()
    }

    /// Puts the errors into the metrics.
    fn update_metrics(&self) {
        let main = (!self.main.is_empty()).then(|| ConfigErrorCount::main_file(self.main.len()));
        let teams = self.teams.iter().map(metric_entry);
        self.metrics.set_config_errors(main.into_iter().chain(teams).collect());
    }
}

/// Puts the errors of the start into the metrics.
pub(super) fn update_metrics(errors: &ErrorsByTeam, metrics: &ControlMetrics) {
    metrics.set_config_errors(errors.iter().map(metric_entry).collect());
}

fn metric_entry((team, errors): (&String, &TeamErrors)) -> ConfigErrorCount {
    let (team, count) = (team.clone(), errors.errors.len());
    ConfigErrorCount { team, count, effect: served_text(errors.served) }
}

fn served_text(served: Served) -> &'static str {
    match served {
        Served::ValidParts => "what is right in it is served",
        Served::LastGood => "its last good configuration is served",
        Served::Nothing => "its calls are refused",
    }
}

fn log_main_errors(complaints: &[ConfigError], generation: u64) {
    for complaint in complaints.iter().take(LOGGED_MAX) {
        tracing::warn!(%complaint, "configuration is wrong");
    }
    let complaints = complaints.len();
    if complaints > 0 {
        tracing::warn!(
            complaints,
            generation,
            "configuration not applied: the last good one stays"
        );
    } else {
        tracing::info!(generation, "configuration is good again");
    }
}

fn log_team_errors(before: &ErrorsByTeam, now: &ErrorsByTeam) {
    let changed = || now.iter().filter(|(team, errors)| before.get(*team) != Some(errors));
    let all = changed().flat_map(|(team, errors)| errors.errors.iter().map(move |it| (team, it)));
    for (team, complaint) in sample_fairly(all) {
        tracing::warn!(%team, %complaint, "configuration is wrong");
    }
    for (team, TeamErrors { errors: complaints, served }) in changed().take(LOGGED_MAX) {
        let (errors, served) = (complaints.len(), served_text(*served));
        tracing::warn!(%team, errors, served, "errors in the file of a team");
    }
    if let Some(more) = changed().count().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "errors in the files of more teams: sconce check lists all of them");
    }
    let good: BTreeSet<_> = before.keys().filter(|team| !now.contains_key(*team)).collect();
    for team in good.into_iter().take(LOGGED_MAX) {
        tracing::info!(%team, "the file of a team has no errors any more");
    }
}

/// The complaints that are logged: of every team, or file, some, before one has more.
pub(super) fn sample_fairly<'c, K: Ord + Clone>(
    all: impl Iterator<Item = (K, &'c ConfigError)>,
) -> Vec<(K, &'c ConfigError)> {
    let mut counts = BTreeMap::<K, usize>::new();
    let mut numbered = |(of, complaint): (K, &'c ConfigError)| {
        let count = counts.entry(of.clone()).or_default();
        *count = count.saturating_add(1);
        (*count, of, complaint)
    };
    let mut all: Vec<_> = all.map(&mut numbered).collect();
    all.sort_by_key(|(number, ..)| *number);
    all.truncate(LOGGED_MAX);
    all.sort_by(|(one, of, _), (two, other, _)| (of, one).cmp(&(other, two)));
    all.into_iter().map(|(_, of, complaint)| (of, complaint)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn many_errors_of_one_team_keep_those_of_no_other_out_of_the_log() {
        let of = |count: u64| {
            let complaint = |line| ConfigError {
                file: PathBuf::from("a.yaml"),
                line,
                key: String::new(),
                what: String::new(),
                help: String::new(),
            };
            TeamErrors { errors: (1..=count).map(complaint).collect(), served: Served::ValidParts }
        };
        let teams = ErrorsByTeam::from([
            ("ads".into(), of(900)),
            ("ml".into(), of(1)),
            ("web".into(), of(3)),
        ]);
        let all = teams.iter().flat_map(|(team, errors)| {
            errors.errors.iter().map(move |complaint| (&**team, complaint))
        });
        let logged: Vec<_> =
            sample_fairly(all).into_iter().map(|(team, it)| (team, it.line)).collect();
        let ads = (1..=16).map(|line| ("ads", line));
        let others = [("ml", 1), ("web", 1), ("web", 2), ("web", 3)];
        assert_eq!(logged, ads.chain(others).collect::<Vec<_>>());
    }
}
