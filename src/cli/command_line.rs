//! Parses the command line. An error message does not repeat arguments, which may be tokens.

use crate::cli::{Cli, terminal};
use clap::{CommandFactory, Parser};
use std::{env, process::ExitCode};

/// Exit status for an invalid command line.
const USAGE_ERROR: u8 = 2;
/// Minimum length in bytes of an argument that may be a token.
const SECRET_LENGTH_MIN: usize = 8;

/// Parses the arguments of this process.
///
/// # Errors
/// The exit status; the error is already printed.
pub(super) fn parse() -> Result<Cli, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli),
        Err(error) if error.use_stderr() => {
            let typed = env::args_os().map(|argument| argument.to_string_lossy().into_owned());
            let message = redact_arguments(error.render().to_string(), typed);
            terminal::print_error_lines(&message);
            Err(ExitCode::from(USAGE_ERROR))
        }
        // Help, and the version.
        Err(help_or_version) => help_or_version.exit(),
    }
}

/// Replaces the arguments in a message, except commands and names of flags.
fn redact_arguments(message: String, typed: impl Iterator<Item = String>) -> String {
    let arguments = typed.skip(1).flat_map(|argument| {
        let value = argument.split_once('=').map(|(_, value)| value.to_owned());
        let whole = (!argument.starts_with('-')).then_some(argument);
        [whole, value].into_iter().flatten().collect::<Vec<_>>()
    });
    let is_command = |argument: &str| Cli::command().find_subcommand(argument).is_some();
    let mut arguments: Vec<_> = arguments
        .filter(|argument| argument.len() >= SECRET_LENGTH_MIN && !is_command(argument))
        .collect();
    arguments.sort_by_key(|argument| std::cmp::Reverse(argument.len()));
    arguments.iter().fold(message, |message, argument| message.replace(&**argument, "(not shown)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_command_line_is_not_repeated() {
        for words in [
            &["explain", "sc://h", "eyJSEKRET"][..],
            &["explain", "--token=eyJSEKRET"],
            &["explain", "--method", "A", "--method=eyJSEKRET"],
            &["explain", "--dial=eyJSEKRET"],
            &["eyJSEKRET"],
        ] {
            let typed = ["sconce"].iter().chain(words).map(|word| (*word).to_owned());
            let error = Cli::try_parse_from(typed.clone()).unwrap_err();
            let messages = redact_arguments(error.render().to_string(), typed);
            assert!(
                !messages.contains("SEKRET") && messages.contains("error:"),
                "{words:?}: {messages}"
            );
        }
    }
}
