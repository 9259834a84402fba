//! The command line: one file for each command.
//!
//! A command parses its arguments, calls a lower layer and prints the result. Must never happen
//! here: a decision that another layer also needs, a panic on a closed pipe, or unescaped text from
//! files, providers or calls on a terminal.

mod check;
mod command_line;
mod completions;
mod explain;
mod key_file;
mod serve;
mod terminal;
mod token;
mod url;

use clap::{Args, Parser, Subcommand};
use sconce_filters::FilterRegistry;
use std::{path::PathBuf, process::ExitCode};

/// Proxy for Apache Spark Connect: one address for the drivers of many teams
#[derive(Debug, Parser)]
#[command(name = "sconce", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or SIGINT
    Serve(ConfigFile),
    /// Check the configuration and report every error
    Check(check::CheckArgs),
    /// Show how a call would be routed, and why
    Explain(explain::ExplainArgs),
    /// Create a token signed with a local key, for development
    Token(token::TokenArgs),
    /// Print a shell completion script
    Completions(completions::CompletionsArgs),
}

/// The configuration to read.
#[derive(Args, Debug)]
struct ConfigFile {
    /// Main configuration file
    #[arg(long, value_name = "FILE", env = "SCONCE_CONFIG", default_value = "config/sconce.yaml")]
    config: PathBuf,
}

/// Runs the command of this process. The exit status is 0 for success, 1 for a failure and 2 for an
/// invalid command line; `explain` exits with 3 for a call that would be refused.
///
/// `filters` are the filters that `chain` can name: see `filters/README.md`.
pub fn run(filters: &FilterRegistry) -> ExitCode {
    let cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.command {
        Command::Serve(ConfigFile { config }) => serve::run(&config, filters),
        Command::Check(args) => check::run(&args, filters),
        Command::Explain(args) => explain::run(&args, filters),
        Command::Token(args) => token::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_with_a_configuration_has_the_same_flag() {
        Cli::command().debug_assert();
        for command in ["serve", "check", "explain"] {
            assert!(
                Cli::try_parse_from(["sconce", command, "--config", "x.yaml"]).is_ok(),
                "{command}"
            );
        }
    }
}
