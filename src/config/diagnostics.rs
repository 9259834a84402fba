//! Errors and warnings of configuration files, collected: one read reports all problems of all
//! files.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

/// Maximum length in bytes of a quoted value in a message.
const QUOTED_MAX: usize = 80;
/// Maximum length in characters of a key in a message.
const KEY_MAX: usize = 200;
/// Maximum number of errors of one file; one more error says that there are more.
const ERRORS_MAX: usize = 100;

/// An error or a warning: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The path of the file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the whole file.
    pub line: u64,
    /// The path of the key, such as `listen.address`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.help)
    }
}

impl std::error::Error for ConfigError {}

/// An error or a warning without its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// Errors and warnings of one file. A warning does not make the config invalid.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: PathBuf,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl Diagnostics {
    pub(super) fn new(file: &Path) -> Self {
        let (errors, warnings) = (RefCell::default(), RefCell::default());
        Self { file: file.to_owned(), errors, warnings }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn report(&self, line: u64, key: &str, problem: Problem) {
        self.push(&self.errors, (line, key), problem);
    }

    /// Adds a warning.
    pub(super) fn warn(&self, line: u64, key: &str, problem: Problem) {
        self.push(&self.warnings, (line, key), problem);
    }

    fn push(&self, into: &RefCell<Vec<ConfigError>>, (line, key): (u64, &str), problem: Problem) {
        let count = into.borrow().len();
        let (line, key, problem) = match count {
            0..ERRORS_MAX => (line, key, problem),
            ERRORS_MAX => (0, "", Problem::new("has more errors", "fix these first")),
            _ => return,
        };
        into.borrow_mut().push(self.error(line, key, problem));
    }

    /// An error of this file that is collected elsewhere.
    pub(super) fn error(
        &self,
        line: u64,
        key: &str,
        Problem { what, help }: Problem,
    ) -> ConfigError {
        let key = key.chars().take(KEY_MAX).flat_map(char::escape_debug).collect();
        ConfigError { file: self.file.clone(), line, key, what, help }
    }

    /// The number of errors so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Takes the warnings out.
    pub(super) fn take_warnings(&self) -> Vec<ConfigError> {
        self.warnings.take()
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

/// A quoted value for a message: control characters escaped, length limited.
pub(super) fn quote(text: &str) -> String {
    let mut shown = String::from("'");
    for letter in text.chars() {
        if shown.len() > QUOTED_MAX {
            shown.push_str("...");
            break;
        }
        match letter {
            '\'' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
    }
    shown.push('\'');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_file_line_key_problem_and_help() {
        let diagnostics = Diagnostics::new(Path::new("sconce.yaml"));
        diagnostics.report(3, "listen.address", Problem::new("no port", "add one"));
        diagnostics.report(0, "", Problem::new("not readable", "give it a mode"));
        let messages: Vec<_> =
            diagnostics.into_errors().iter().map(ConfigError::to_string).collect();
        let expected = [
            "sconce.yaml:3: listen.address: no port; add one",
            "sconce.yaml: not readable; give it a mode",
        ];
        assert_eq!(messages, expected);
    }

    #[test]
    fn the_number_of_errors_of_a_file_is_limited() {
        let diagnostics = Diagnostics::new(Path::new("a.yaml"));
        for line in 1..10_000 {
            diagnostics.report(line, "x", Problem::new("is wrong", "fix it"));
        }
        let errors = diagnostics.into_errors();
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        let last = errors.last().unwrap().to_string();
        assert_eq!(last, "a.yaml: has more errors; fix these first");
    }

    #[test]
    fn a_quoted_value_is_short_and_has_no_control_characters() {
        assert_eq!(quote("a\u{1b}b\n"), r"'a\u{1b}b\n'");
        assert!(quote(&"x".repeat(5000)).len() < 100);
    }
}
