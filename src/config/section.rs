//! A mapping that is read key by key: each read takes a key out; the keys left at the end are
//! unknown.
//!
//! Must never happen here: a read that stops at the first error. An invalid value is reported and
//! counts as absent, so that the following keys are read too.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    files, renamed,
    yaml::{Key, Node, Value},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

/// A mapping: the value of the key `path`.
pub(super) struct Section<'d> {
    diagnostics: &'d Diagnostics,
    path: String,
    line: u64,
    /// Whether this value, or one around it, is not a mapping.
    is_malformed: bool,
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
}

/// A single value and its line.
pub(super) struct Scalar {
    pub(super) line: u64,
    pub(super) text: String,
}

/// The file of a key, with the line of the key.
pub(super) struct FileRef<T = String> {
    pub(super) file: PathBuf,
    pub(super) content: T,
    pub(super) line: u64,
}

impl<T> FileRef<T> {
    /// Reports an error in the file of the key `path`.
    pub(super) fn report(
        &self,
        diagnostics: &Diagnostics,
        path: &str,
        Problem { what, help }: Problem,
    ) {
        let what = format!("{} {what}", self.file.display());
        diagnostics.report(self.line, path, Problem::new(what, help));
    }

    /// Reports a warning about the file of the key `path`.
    pub(super) fn warn(
        &self,
        diagnostics: &Diagnostics,
        path: &str,
        Problem { what, help }: Problem,
    ) {
        let what = format!("{} {what}", self.file.display());
        diagnostics.warn(self.line, path, Problem::new(what, help));
    }
}

impl<'d> Section<'d> {
    /// The mapping in a node. For a scalar or a list, an error and an empty mapping. An empty value
    /// is an empty mapping: its keys may be commented out.
    pub(super) fn new(diagnostics: &'d Diagnostics, path: &str, node: Node) -> Self {
        let is_malformed = matches!(node.value, Value::Text(_) | Value::List(_));
        let entries = match node.value {
            Value::Mapping(entries) => entries,
            Value::Nothing => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                let problem =
                    Problem::new("must be a mapping", "write 'key: value' lines under it");
                diagnostics.report(node.line, path, problem);
                Vec::new()
            }
        };
        let (path, line, known) = (path.to_owned(), node.line, Vec::new());
        let mut section =
            Self { diagnostics, path, line, is_malformed, entries: Vec::new(), known };
        let mut lines = HashMap::new();
        for (key, node) in entries {
            match lines.entry(key.text.clone()) {
                Entry::Vacant(new) => {
                    new.insert(key.line);
                    section.entries.push((key, node));
                }
                Entry::Occupied(earlier) => {
                    let what = format!("duplicate key, first in line {}", earlier.get());
                    let problem = Problem::new(what, "keep one of the two");
                    diagnostics.report(key.line, &section.path_of(&key.text), problem);
                }
            }
        }
        section
    }

    /// The first line of the mapping.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The complete path of a key in this mapping.
    pub(super) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The mapping of a key; empty if the key is absent.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let (line, path) = (self.line, self.path_of(key));
        let node = self.take(key).map(|(_, node)| node);
        let node = node.unwrap_or(Node { line, value: Value::Nothing });
        let mut section = Section::new(self.diagnostics, &path, node);
        section.is_malformed |= self.is_malformed;
        section
    }

    /// The mapping of a key, if the key is present.
    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Section<'d>> {
        let path = self.path_of(key);
        let (_, node) = self.take(key)?;
        Some(Section::new(self.diagnostics, &path, node))
    }

    /// The parsed value of a key. `None` if it is absent or invalid.
    pub(super) fn scalar<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        self.scalar_at(key, read).map(|(value, _)| value)
    }

    /// The parsed value of a key and its line. `None` if it is absent or invalid.
    pub(super) fn scalar_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<(T, u64)> {
        let (_, node) = self.take(key)?;
        let scalar = scalar(self.diagnostics, &self.path_of(key), node)?;
        match read(&scalar.text) {
            Ok(value) => Some((value, scalar.line)),
            Err(problem) => {
                self.diagnostics.report(scalar.line, &self.path_of(key), problem);
                None
            }
        }
    }

    /// The text of the file of a key, relative to this file. Adds its path to `files`, even if it
    /// does not exist. `None` if the key is absent or the file is unreadable.
    pub(super) fn text_file(
        &mut self,
        key: &'static str,
        files: &mut Vec<PathBuf>,
    ) -> Option<FileRef> {
        let FileRef { file, content: text, line } =
            self.bytes_file(key, "write the path of a file", files)?;
        match files::utf8_text(text) {
            Ok(text) => Some(FileRef { file, content: text, line }),
            Err((_, problem)) => {
                FileRef { file, content: (), line }.report(
                    self.diagnostics,
                    &self.path_of(key),
                    problem,
                );
                None
            }
        }
    }

    /// Like [`Self::text_file`], for any content. `instead` is the help for a path that is not a
    /// file.
    pub(super) fn bytes_file(
        &mut self,
        key: &'static str,
        instead: &str,
        files: &mut Vec<PathBuf>,
    ) -> Option<FileRef<Vec<u8>>> {
        let (file, line) = self.path(key)?;
        files.push(file.clone());
        match files::read_bytes(&file, instead) {
            Ok(text) => Some(FileRef { file, content: text, line }),
            Err(problem) => {
                FileRef { file, content: (), line }.report(
                    self.diagnostics,
                    &self.path_of(key),
                    problem,
                );
                None
            }
        }
    }

    /// The path of a key, relative to this file, and the line of the key.
    pub(super) fn path(&mut self, key: &'static str) -> Option<(PathBuf, u64)> {
        let (name, line) = self.scalar_at(key, |text| Ok(text.to_owned()))?;
        Some((self.diagnostics.file().parent().unwrap_or(Path::new("")).join(name), line))
    }

    /// The values of a list. `None` if the key is absent or not a list. A single value is an error
    /// and counts as a list of one, which avoids follow-up errors.
    pub(super) fn scalars(&mut self, key: &'static str) -> Option<Vec<Scalar>> {
        let path = self.path_of(key);
        let list = match self.take(key)?.1 {
            Node { line, value: Value::Text(text) } => {
                let help = format!("write [{}]", quote(&text).trim_matches('\''));
                self.diagnostics.report(line, &path, Problem::new("must be a list", help));
                return Some(vec![Scalar { line, text }]);
            }
            node => self.list(key, node, "write it as [one, two]")?,
        };
        Some(list.into_iter().filter_map(|node| scalar(self.diagnostics, &path, node)).collect())
    }

    /// The mappings of a list. `None` if the key is absent or not a list.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'d>>> {
        let path = self.path_of(key);
        let (_, node) = self.take(key)?;
        let list = self.list(key, node, "write '- key: value' lines under it")?;
        Some(list.into_iter().map(|node| Section::new(self.diagnostics, &path, node)).collect())
    }

    fn list(&self, key: &str, node: Node, help: &str) -> Option<Vec<Node>> {
        match node.value {
            Value::List(list) => Some(list),
            Value::Nothing | Value::Text(_) | Value::Mapping(_) => {
                let problem = Problem::new("must be a list", help);
                self.diagnostics.report(node.line, &self.path_of(key), problem);
                None
            }
        }
    }

    /// Reports a missing required key, unless this value is not a mapping, which is already
    /// reported.
    pub(super) fn report_missing(&self, key: &str, help: &str) {
        if self.is_malformed {
            return;
        }
        self.diagnostics.report(self.line, &self.path_of(key), Problem::new("is missing", help));
    }

    /// Whether this value is not a mapping, which is already reported.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Whether a key has been read.
    pub(super) fn is_known(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// Whether a key is present and not yet read.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.text == key)
    }

    /// Takes all remaining entries: for a mapping whose keys are names.
    pub(super) fn take_rest(&mut self) -> Vec<(Key, Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self) {
        let known = self.known.join(", ");
        for (key, _) in &self.entries {
            let name = quote(&key.text);
            let problem = match renamed::new_name(&self.path, &key.text) {
                Some(new) => Problem::new(format!("{name} was renamed"), format!("write {new}")),
                None => {
                    let help = format!("valid keys are {known}");
                    Problem::new(format!("unknown key {name}"), help)
                }
            };
            self.diagnostics.report(key.line, &self.path_of(&key.text), problem);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Key, Node)> {
        self.known.push(key);
        let index = self.entries.iter().position(|(entry, _)| entry.text == key)?;
        Some(self.entries.remove(index))
    }
}

fn scalar(diagnostics: &Diagnostics, path: &str, node: Node) -> Option<Scalar> {
    let problem = match node.value {
        Value::Text(text) => return Some(Scalar { line: node.line, text }),
        Value::Nothing => Problem::new("has no value", "write a value or remove the key"),
        Value::List(_) => Problem::new("must be a single value, not a list", "write one value"),
        Value::Mapping(_) => {
            Problem::new("must be a single value, not a mapping", "write one value")
        }
    };
    diagnostics.report(node.line, path, problem);
    None
}
