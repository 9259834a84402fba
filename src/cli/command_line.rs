//! Reads what was typed. A message about it repeats no word that may be a token.

use crate::cli::{Cli, terminal};
use clap::{CommandFactory, Parser};
use std::{env, process::ExitCode};

/// The status of a command line that cannot be read.
const USAGE_ERROR: u8 = 2;
/// Words of a command line that are shorter than this are no tokens.
const SECRET_LENGTH_MIN: usize = 8;

/// What was typed.
///
/// # Errors
/// The status to end with, once it is said what is wrong.
pub(super) fn parse() -> Result<Cli, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli),
        Err(fault) if fault.use_stderr() => {
            let typed = env::args_os().map(|word| word.to_string_lossy().into_owned());
            let message = redact_arguments(fault.render().to_string(), typed);
            terminal::print_error_lines(&message);
            Err(ExitCode::from(USAGE_ERROR))
        }
        // Help, and the version.
        Err(asked) => asked.exit(),
    }
}

/// Of what was typed, only verbs and names of flags are shown.
fn redact_arguments(message: String, typed: impl Iterator<Item = String>) -> String {
    let words = typed.skip(1).flat_map(|word| {
        let value = word.split_once('=').map(|(_, value)| value.to_owned());
        let whole = (!word.starts_with('-')).then_some(word);
        [whole, value].into_iter().flatten().collect::<Vec<_>>()
    });
    let is_verb = |word: &str| Cli::command().find_subcommand(word).is_some();
    let mut words: Vec<_> =
        words.filter(|word| word.len() >= SECRET_LENGTH_MIN && !is_verb(word)).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.iter().fold(message, |message, word| message.replace(&**word, "(not shown)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_cannot_be_read_is_not_repeated() {
        for words in [
            &["explain", "sc://h", "eyJSEKRET"][..],
            &["explain", "--token=eyJSEKRET"],
            &["explain", "--method", "A", "--method=eyJSEKRET"],
            &["explain", "--dial=eyJSEKRET"],
            &["eyJSEKRET"],
        ] {
            let typed = ["sconce"].iter().chain(words).map(|word| (*word).to_owned());
            let fault = Cli::try_parse_from(typed.clone()).unwrap_err();
            let said = redact_arguments(fault.render().to_string(), typed);
            assert!(!said.contains("SEKRET") && said.contains("error:"), "{words:?}: {said}");
        }
    }
}
