//! `teams.default_team` and `teams.default_environment`.
//!
//! A default that a change of a team file makes invalid must not block changes of other teams: it
//! is an error of the default team, or a warning. An invalid new default is an error of the main
//! file.

use crate::config::{
    Config, Team,
    diagnostics::{Diagnostics, Problem},
    teams::TeamFiles,
};
use sconce_filters::{EnvironmentName, TeamName};

/// The defaults, with their lines.
pub(super) struct Defaults {
    pub(super) team: Option<(TeamName, u64)>,
    pub(super) environment: Option<(EnvironmentName, u64)>,
}

impl Defaults {
    /// Checks that the defaults exist.
    pub(super) fn check(
        &self,
        diagnostics: &Diagnostics,
        team_files: &mut TeamFiles,
        live: Option<&Config>,
    ) {
        let live = live.and_then(|live| live.filters.team());
        let default = self.team.as_ref().map(|(team, _)| team);
        if let Some((team, line)) = &self.team
            && !team_files.teams.contains_key(team)
        {
            let is_new = live.is_some_and(|live| live.default_team.as_ref() != Some(team));
            let has_file = team_files.errors.contains_key(team.as_str());
            let what = format!("no file defines the team '{team}'");
            let problem = Problem::new(what, "write a team that has a file, or remove the key");
            match (has_file, is_new) {
                // The errors of the file are already reported.
                (true, _) => {}
                (false, true) => diagnostics.report(*line, "teams.default_team", problem),
                (false, false) => {
                    let error = diagnostics.error(*line, "teams.default_team", problem);
                    team_files.add_error(team, error);
                }
            }
        }
        let Some((environment, line)) = &self.environment else { return };
        let lacks = |team: &Team| !team.environments.contains_key(environment);
        let is_new =
            live.is_some_and(|live| live.default_environment.as_ref() != Some(environment));
        let key = "teams.default_environment";
        let problem = |what| {
            Problem::new(what, "write an existing environment, or add it to the team's file")
        };
        match default.map(|team| (team, team_files.teams.get(team))) {
            Some((team, Some(found))) if lacks(found) => {
                let what = format!("the default team '{team}' has no environment '{environment}'");
                if is_new {
                    diagnostics.report(*line, key, problem(what));
                } else {
                    let error = diagnostics.error(*line, key, problem(what));
                    team_files.add_error(team, error);
                }
            }
            None if team_files.teams.values().all(lacks) && !team_files.teams.is_empty() => {
                let problem = problem(format!("no team has an environment '{environment}'"));
                if is_new {
                    diagnostics.report(*line, key, problem);
                } else {
                    diagnostics.warn(*line, key, problem);
                }
            }
            Some(_) | None => {}
        }
    }
}
