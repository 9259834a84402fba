//! What people type: one file a verb.
//!
//! A verb parses its words, asks a layer below and prints. Must never happen here: a decision that
//! another layer needs as well, a panic because somebody closed the pipe, or text of others that
//! reaches a terminal as it is.

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

/// The front door for Apache Spark Connect: one address for the drivers of many teams.
#[derive(Debug, Parser)]
#[command(name = "sconce", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Takes calls and relays them, until it is told to stop
    Serve(ConfigFile),
    /// Reads the configuration and tells all that is wrong with it
    Check(check::CheckArgs),
    /// Tells where a call would go, and why
    Explain(explain::ExplainArgs),
    /// Mints a token with a key of your own, for development
    Token(token::TokenArgs),
    /// Prints completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Which configuration is meant.
#[derive(Args, Debug)]
struct ConfigFile {
    /// The main file of the configuration
    #[arg(long, value_name = "FILE", env = "SCONCE_CONFIG", default_value = "config/sconce.yaml")]
    config: PathBuf,
}

/// Runs what was typed. The status is 0 when all is well, 1 when something is wrong, and 2 for a
/// command line that cannot be read; `explain` ends with 3 for a call that would be refused.
/// `filters` are the filters that `chain` may name: see `filters/README.md`.
pub fn run(filters: &FilterRegistry) -> ExitCode {
    let cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    match cli.command {
        Command::Serve(ConfigFile { config }) => serve::run(&config, filters),
        Command::Check(wanted) => check::run(&wanted, filters),
        Command::Explain(question) => explain::run(&question, filters),
        Command::Token(wanted) => token::run(&wanted),
        Command::Completions(wanted) => completions::run(&wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_verb_that_reads_the_configuration_takes_it_by_the_same_flag() {
        Cli::command().debug_assert();
        for verb in ["serve", "check", "explain"] {
            assert!(Cli::try_parse_from(["sconce", verb, "--config", "x.yaml"]).is_ok(), "{verb}");
        }
    }
}
