//! The team and the environment of a call that names none.
//!
//! A default that leads nowhere since a team's file has changed must hold up no other team's
//! change: it is an error of the default team, or a warning. One that the main file has just been
//! given is an error of the main file.

use crate::config::{
    Config, Team,
    diagnostics::{Diagnostics, Problem},
    teams::TeamFiles,
};
use sconce_filters::{EnvironmentName, TeamName};

/// What a call gets that says nothing, and the lines that say so.
pub(super) struct Defaults {
    pub(super) team: Option<(TeamName, u64)>,
    pub(super) environment: Option<(EnvironmentName, u64)>,
}

impl Defaults {
    /// Whether they lead somewhere.
    pub(super) fn check(&self, desk: &Diagnostics, roster: &mut TeamFiles, live: Option<&Config>) {
        let live = live.and_then(|live| live.filters.team());
        let default = self.team.as_ref().map(|(team, _)| team);
        if let Some((team, line)) = &self.team
            && !roster.teams.contains_key(team)
        {
            let is_new = live.is_some_and(|live| live.default_team.as_ref() != Some(team));
            let has_file = roster.errors.contains_key(team.as_str());
            let what = format!("no file is about the team '{team}'");
            let fault = Problem::new(what, "name a team that has a file, or remove the key");
            match (has_file, is_new) {
                // What is wrong with the file was said.
                (true, _) => {}
                (false, true) => desk.report(*line, "teams.default_team", fault),
                (false, false) => {
                    let complaint = desk.error(*line, "teams.default_team", fault);
                    roster.add_error(team, complaint);
                }
            }
        }
        let Some((environment, line)) = &self.environment else { return };
        let lacks = |team: &Team| !team.environments.contains_key(environment);
        let is_new =
            live.is_some_and(|live| live.default_environment.as_ref() != Some(environment));
        let key = "teams.default_environment";
        let fault = |what| Problem::new(what, "name one that exists, or add it to a team's file");
        match default.map(|team| (team, roster.teams.get(team))) {
            Some((team, Some(found))) if lacks(found) => {
                let what = format!("the default team '{team}' has no environment '{environment}'");
                if is_new {
                    desk.report(*line, key, fault(what));
                } else {
                    let complaint = desk.error(*line, key, fault(what));
                    roster.add_error(team, complaint);
                }
            }
            None if roster.teams.values().all(lacks) && !roster.teams.is_empty() => {
                let fault = fault(format!("no team has an environment '{environment}'"));
                if is_new {
                    desk.report(*line, key, fault);
                } else {
                    desk.warn(*line, key, fault);
                }
            }
            Some(_) | None => {}
        }
    }
}
