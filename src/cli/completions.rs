//! `sconce completions`: a script for the completion of commands in a shell.

use crate::cli::Cli;
use crate::cli::terminal;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// Shell of the script
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sconce", &mut script);
    terminal::print_raw(&script);
    ExitCode::SUCCESS
}
