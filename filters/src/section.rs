//! A filter's own section of `sconce.yaml`, read key by key.
//!
//! A key that is not valid is reported with its file and line, and counts as absent: one reading
//! reports all errors. sconce reports unknown keys after [`FilterFactory::parse`].

use crate::FilterFactory;
use std::{any::Any, fmt, ops::RangeInclusive};

/// The section that a [`FilterFactory`] parses: the mapping under the
/// filter's name at the top level of `sconce.yaml`.
pub struct Section<'s> {
    source: &'s mut dyn SectionSource,
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, such as `'3.x' is not a version`.
    pub problem: String,
    /// What to do, such as `write three numbers, for example 3.5.0`.
    pub fix: String,
}

impl ValueError {
    /// An error with these texts. sconce adds file, line and key.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

impl std::error::Error for ValueError {}

/// A value and the line of the file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The line, from 1.
    pub line: u64,
}

/// The parser behind a [`Section`]. sconce implements it; filters and their tests may use
/// [`StaticSection`].
pub trait SectionSource {
    /// Whether the file has this section.
    fn is_present(&self) -> bool;

    /// Whether the section has this key, valid or not.
    fn has(&self, key: &str) -> bool;

    /// Takes the single value of a key. `None` if the key is absent, or if it has no single value,
    /// which is reported.
    fn value(&mut self, key: &'static str) -> Option<Located<String>>;

    /// Takes the list of values of a key. `None` if the key is absent, or if it has no list, which
    /// is reported.
    fn list(&mut self, key: &'static str) -> Option<Vec<Located<String>>>;

    /// Reports an error at a line; `None` stands for the first line of the section. An empty key
    /// stands for the section itself.
    fn report(&mut self, line: Option<u64>, key: &str, error: ValueError);

    /// The settings of a built-in filter, which other layers configure as well. `None` for all
    /// other filters.
    fn preset(&mut self) -> Option<Box<dyn Any>> {
        None
    }
}

impl<'s> Section<'s> {
    /// The section that this source reads.
    pub fn new(source: &'s mut dyn SectionSource) -> Self {
        Self { source }
    }

    /// Whether the file has this section. All keys of a section that the file does not have are
    /// absent.
    pub fn is_present(&self) -> bool {
        self.source.is_present()
    }

    /// The value of an optional key. `None` if it is absent or not valid; the latter is reported.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let Located { value, line } = self.source.value(key)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.source.report(Some(line), key, error);
                None
            }
        }
    }

    /// The value of a required key. Its absence is reported with this fix.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        fix: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        if !self.source.has(key) {
            self.error(key, ValueError::new("is missing", fix));
        }
        self.value(key, parse)
    }

    /// The values of a list. `None` if the key is absent. Values that are not valid are reported
    /// and left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let values = self.source.list(key)?;
        let mut parsed = Vec::with_capacity(values.len());
        for Located { value, line } in values {
            match parse(&value) {
                Ok(valid) => parsed.push(valid),
                Err(error) => self.source.report(Some(line), key, error),
            }
        }
        Some(parsed)
    }

    /// The text of an optional key.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.value(key, |text| Ok(text.to_owned()))
    }

    /// A whole number within these bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.value(key, |text| {
            text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
                let fix = format!("write a whole number, {} to {}", bounds.start(), bounds.end());
                ValueError::new(format!("'{}' is out of range", text.escape_debug()), fix)
            })
        })
    }

    /// Reports an error of the section, or of one of its keys.
    pub fn error(&mut self, key: &str, error: ValueError) {
        self.source.report(None, key, error);
    }

    /// The settings of a built-in filter: `authenticate` and `team` configure other layers as
    /// well, so that sconce reads them before any filter is built.
    pub(crate) fn preset<T: Any>(&mut self) -> Option<T> {
        self.source.preset()?.downcast().ok().map(|settings| *settings)
    }
}

/// A section made of values, for the unit tests of a filter.
#[derive(Clone, Debug, Default)]
pub struct StaticSection {
    entries: Vec<(&'static str, Vec<String>)>,
    errors: Vec<String>,
}

impl StaticSection {
    /// The same section with one key more. Several values are a list.
    #[must_use]
    pub fn with(mut self, key: &'static str, values: &[&str]) -> Self {
        self.entries.push((key, values.iter().map(|&value| value.to_owned()).collect()));
        self
    }

    /// Parses the section. The errors are `key: problem; fix`, one for each.
    ///
    /// # Errors
    /// The errors that the factory reported.
    pub fn parse<F: FilterFactory>(mut self, factory: &F) -> Result<F::Config, Vec<String>> {
        let parsed = factory.parse(&mut Section::new(&mut self));
        parsed.filter(|_| self.errors.is_empty()).ok_or(self.errors)
    }

    fn take(&mut self, key: &str) -> Option<Vec<Located<String>>> {
        let at = self.entries.iter().position(|(entry, _)| *entry == key)?;
        let (_, values) = self.entries.remove(at);
        Some(values.into_iter().map(|value| Located { value, line: 1 }).collect())
    }
}

impl SectionSource for StaticSection {
    fn is_present(&self) -> bool {
        !self.entries.is_empty()
    }

    fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| *entry == key)
    }

    fn value(&mut self, key: &'static str) -> Option<Located<String>> {
        self.take(key)?.into_iter().next()
    }

    fn list(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        self.take(key)
    }

    fn report(&mut self, _line: Option<u64>, key: &str, error: ValueError) {
        self.errors.push(format!("{key}: {error}"));
    }
}
