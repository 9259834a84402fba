//! `sconce completions`: a script by which a shell completes what is typed.

use crate::cli::Cli;
use crate::cli::terminal;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

/// For whom.
#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(wanted: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Cli::command(), "sconce", &mut script);
    terminal::print_raw(&script);
    ExitCode::SUCCESS
}
