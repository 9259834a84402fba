//! `sconce check`: all that is wrong with the configuration, one line each.

use crate::config::{self, Complaint, Plan};
use std::{path::Path, process::ExitCode};

/// Prints `file:line: key: what; remedy` for each thing wrong, or one line that says `ok`.
pub(super) fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(plan) => {
            crate::cli::print(&summary(&plan));
            ExitCode::SUCCESS
        }
        Err(complaints) => {
            crate::cli::print(&list(&complaints));
            ExitCode::FAILURE
        }
    }
}

/// One line for each complaint.
pub(super) fn list(complaints: &[Complaint]) -> String {
    complaints.iter().map(|complaint| format!("{complaint}\n")).collect()
}

fn summary(plan: &Plan) -> String {
    let environments = plan.teams.values().map(|team| team.environments.len()).sum();
    let teams = count(plan.teams.len(), "team");
    let environments = count(environments, "environment");
    let chain: Vec<_> = plan.rooms.chain().names().collect();
    format!("ok: {teams}, {environments}, chain {}\n", chain.join(" > "))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
