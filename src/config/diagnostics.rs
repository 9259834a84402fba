//! What is wrong with a file, said so that a person can mend it.
//!
//! Complaints are gathered, never thrown: one reading tells everything that is wrong in every file.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

/// The most octets of a value that a complaint repeats.
const QUOTED_MAX: usize = 80;
/// The most characters of a key that a complaint repeats.
const KEY_MAX: usize = 200;
/// The most complaints about one file; one more says that there are more.
const ERRORS_MAX: usize = 100;

/// One thing that is wrong, where it stands, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The file, as it was opened.
    pub file: PathBuf,
    /// The line in it, from 1; 0 when it concerns the whole file.
    pub line: u64,
    /// The key, with those that it stands under: `listen.address`. Empty for the whole file.
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

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), help: remedy.into() }
    }
}

/// Where the complaints about one file are gathered, and the warnings: what is wrong without a plan
/// being unsound for it.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: PathBuf,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl Diagnostics {
    pub(super) fn new(file: &Path) -> Self {
        let (complaints, warnings) = (RefCell::default(), RefCell::default());
        Self { file: file.to_owned(), errors: complaints, warnings }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn report(&self, line: u64, key: &str, fault: Problem) {
        self.push(&self.errors, (line, key), fault);
    }

    /// Says what an operator should know about a plan that is taken all the same.
    pub(super) fn warn(&self, line: u64, key: &str, fault: Problem) {
        self.push(&self.warnings, (line, key), fault);
    }

    fn push(&self, into: &RefCell<Vec<ConfigError>>, (line, key): (u64, &str), fault: Problem) {
        let told = into.borrow().len();
        let (line, key, fault) = match told {
            0..ERRORS_MAX => (line, key, fault),
            ERRORS_MAX => (0, "", Problem::new("has more that is wrong", "mend the rest first")),
            _ => return,
        };
        into.borrow_mut().push(self.error(line, key, fault));
    }

    /// A complaint about the file that is gathered elsewhere.
    pub(super) fn error(
        &self,
        line: u64,
        key: &str,
        Problem { what, help: remedy }: Problem,
    ) -> ConfigError {
        let key = key.chars().take(KEY_MAX).flat_map(char::escape_debug).collect();
        ConfigError { file: self.file.clone(), line, key, what, help: remedy }
    }

    /// How much was complained about so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// The warnings so far; they are not given again.
    pub(super) fn take_warnings(&self) -> Vec<ConfigError> {
        self.warnings.take()
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

/// A value in quotes, fit for a message: no control characters, not too long.
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
    fn a_complaint_reads_file_line_key_what_remedy() {
        let desk = Diagnostics::new(Path::new("sconce.yaml"));
        desk.report(3, "listen.address", Problem::new("no port", "add one"));
        desk.report(0, "", Problem::new("not readable", "give it a mode"));
        let said: Vec<_> = desk.into_errors().iter().map(ConfigError::to_string).collect();
        let expected = [
            "sconce.yaml:3: listen.address: no port; add one",
            "sconce.yaml: not readable; give it a mode",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_file_full_of_mistakes_is_complained_about_within_bounds() {
        let desk = Diagnostics::new(Path::new("a.yaml"));
        for line in 1..10_000 {
            desk.report(line, "x", Problem::new("is wrong", "mend it"));
        }
        let complaints = desk.into_errors();
        assert_eq!(complaints.len(), ERRORS_MAX + 1);
        let last = complaints.last().unwrap().to_string();
        assert_eq!(last, "a.yaml: has more that is wrong; mend the rest first");
    }

    #[test]
    fn a_value_is_shown_short_and_without_control_characters() {
        assert_eq!(quote("a\u{1b}b\n"), r"'a\u{1b}b\n'");
        assert!(quote(&"x".repeat(5000)).len() < 100);
    }
}
