//! Config errors in log and metrics. Each error is logged once.

use crate::{
    config::{ConfigError, ErrorsByTeam, Served, TeamErrors},
    route::ReloadOutcome,
    telemetry::{ConfigErrorCount, ControlMetrics},
};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of errors, and of teams, that one reload logs.
pub(super) const LOGGED_MAX: usize = 20;

/// The current errors, all of them logged.
#[derive(Debug)]
pub(super) struct ReportedErrors {
    main: Vec<ConfigError>,
    teams: ErrorsByTeam,
    metrics: ControlMetrics,
}

impl ReportedErrors {
    /// No errors. Errors of the start are logged at the first reload, because the log starts later.
    pub(super) fn new(metrics: ControlMetrics) -> Self {
        Self { main: Vec::new(), teams: ErrorsByTeam::new(), metrics }
    }

    /// Logs new errors, or all errors for a requested reload, and updates the metrics. Returns
    /// whether the errors have changed.
    pub(super) fn update(
        &mut self,
        main: &[ConfigError],
        mut teams: ErrorsByTeam,
        generation: u64,
        is_requested: bool,
    ) -> bool {
        if !main.is_empty() {
            // The team files were possibly not read: their known errors stay.
            self.teams.iter().for_each(|(team, errors)| {
                teams.entry(team.clone()).or_insert_with(|| errors.clone());
            });
        }
        let (main_changed, teams_changed) = (self.main != main, self.teams != teams);
        if main_changed || (is_requested && !main.is_empty()) {
            self.main = main.to_vec();
            log_main_errors(main, generation);
        }
        let mut before = std::mem::replace(&mut self.teams, teams);
        if is_requested {
            before.retain(|team, _| !self.teams.contains_key(team));
        }
        log_team_errors(&before, &self.teams);
        self.update_metrics();
        main_changed || teams_changed
    }

    /// Logs the outcome of a requested reload.
    pub(super) fn log_requested_reload(&self, outcome: &ReloadOutcome, generation: u64) {
        let teams = self.teams.len();
        let errors: usize = self.teams.values().map(|errors| errors.errors.len()).sum();
        match outcome {
            ReloadOutcome::Applied(_) if errors > 0 => tracing::warn!(
                generation,
                teams,
                errors,
                "SIGHUP: configuration applied, with errors in team files"
            ),
            ReloadOutcome::Applied(_) => {
                tracing::info!(generation, "SIGHUP: configuration applied")
            }
            ReloadOutcome::Unchanged if errors > 0 => tracing::warn!(
                generation,
                teams,
                errors,
                "SIGHUP: configuration unchanged, with errors in team files"
            ),
            ReloadOutcome::Unchanged => {
                tracing::info!(generation, "SIGHUP: configuration unchanged");
            }
            ReloadOutcome::Rejected(errors) => {
                let errors = errors.len();
                tracing::warn!(errors, generation, "SIGHUP: configuration rejected");
            }
        }
    }

    /// Whether there are no errors.
    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.teams.is_empty()
    }

    /// Updates the metrics.
    fn update_metrics(&self) {
        let main = (!self.main.is_empty()).then(|| ConfigErrorCount::main_file(self.main.len()));
        let teams = self.teams.iter().map(metric_entry);
        self.metrics.set_config_errors(main.into_iter().chain(teams).collect());
    }
}

/// Sets the metrics to the errors of the start.
pub(super) fn update_metrics(errors: &ErrorsByTeam, metrics: &ControlMetrics) {
    metrics.set_config_errors(errors.iter().map(metric_entry).collect());
}

fn metric_entry((team, errors): (&String, &TeamErrors)) -> ConfigErrorCount {
    let (team, count) = (team.clone(), errors.errors.len());
    ConfigErrorCount { team, count, effect: served_text(errors.served) }
}

fn served_text(served: Served) -> &'static str {
    match served {
        Served::ValidParts => "its valid parts are served",
        Served::LastGood => "its last good configuration is served",
        Served::Nothing => "its calls are refused",
    }
}

fn log_main_errors(errors: &[ConfigError], generation: u64) {
    for error in errors.iter().take(LOGGED_MAX) {
        tracing::warn!(%error, "configuration error");
    }
    let errors = errors.len();
    if errors > 0 {
        tracing::warn!(
            errors,
            generation,
            "configuration rejected; keeping the last good configuration"
        );
    } else {
        tracing::info!(generation, "configuration has no errors again");
    }
}

fn log_team_errors(before: &ErrorsByTeam, now: &ErrorsByTeam) {
    let changed = || now.iter().filter(|(team, errors)| before.get(*team) != Some(errors));
    let all = changed().flat_map(|(team, errors)| errors.errors.iter().map(move |it| (team, it)));
    for (team, error) in sample_fairly(all) {
        tracing::warn!(%team, %error, "configuration error");
    }
    for (team, TeamErrors { errors, served }) in changed().take(LOGGED_MAX) {
        let (errors, served) = (errors.len(), served_text(*served));
        tracing::warn!(%team, errors, served, "team file has errors");
    }
    if let Some(more) = changed().count().checked_sub(LOGGED_MAX).filter(|more| *more > 0) {
        tracing::warn!(more, "more team files have errors; run sconce check for all of them");
    }
    let good: BTreeSet<_> = before.keys().filter(|team| !now.contains_key(*team)).collect();
    for team in good.into_iter().take(LOGGED_MAX) {
        tracing::info!(%team, "team file has no errors again");
    }
}

/// Selects the errors to log, at most [`LOGGED_MAX`], evenly over teams or files.
pub(super) fn sample_fairly<'c, K: Ord + Clone>(
    all: impl Iterator<Item = (K, &'c ConfigError)>,
) -> Vec<(K, &'c ConfigError)> {
    let mut counts = BTreeMap::<K, usize>::new();
    let mut numbered = |(of, error): (K, &'c ConfigError)| {
        let count = counts.entry(of.clone()).or_default();
        *count = count.saturating_add(1);
        (*count, of, error)
    };
    let mut all: Vec<_> = all.map(&mut numbered).collect();
    all.sort_by_key(|(number, ..)| *number);
    all.truncate(LOGGED_MAX);
    all.sort_by(|(one, of, _), (two, other, _)| (of, one).cmp(&(other, two)));
    all.into_iter().map(|(_, of, error)| (of, error)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn many_errors_of_one_team_do_not_hide_errors_of_others() {
        let of = |count: u64| {
            let error = |line| ConfigError {
                file: PathBuf::from("a.yaml"),
                line,
                key: String::new(),
                what: String::new(),
                help: String::new(),
            };
            TeamErrors { errors: (1..=count).map(error).collect(), served: Served::ValidParts }
        };
        let teams = ErrorsByTeam::from([
            ("ads".into(), of(900)),
            ("ml".into(), of(1)),
            ("web".into(), of(3)),
        ]);
        let all = teams
            .iter()
            .flat_map(|(team, errors)| errors.errors.iter().map(move |error| (&**team, error)));
        let logged: Vec<_> =
            sample_fairly(all).into_iter().map(|(team, it)| (team, it.line)).collect();
        let ads = (1..=16).map(|line| ("ads", line));
        let others = [("ml", 1), ("web", 1), ("web", 2), ("web", 3)];
        assert_eq!(logged, ads.chain(others).collect::<Vec<_>>());
    }
}
