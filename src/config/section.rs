//! A mapping read key by key: what is asked for is taken out, what is left over is unknown.
//!
//! Must never happen here: a reading that stops at the first thing wrong. A key that cannot be read
//! is complained about and counts as absent, so that the keys after it are read as well.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    files, renamed,
    yaml::{Key, Node, Value},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

/// A mapping under the key `path`.
pub(super) struct Section<'d> {
    diagnostics: &'d Diagnostics,
    path: String,
    line: u64,
    /// Whether something else stands in its place, or in that of a mapping around it.
    is_malformed: bool,
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
}

/// One value of a list, or of a key, and where it stands.
pub(super) struct Scalar {
    pub(super) line: u64,
    pub(super) text: String,
}

/// A file that a key names, and the line on which it does.
pub(super) struct FileRef<T = String> {
    pub(super) file: PathBuf,
    pub(super) content: T,
    pub(super) line: u64,
}

impl<T> FileRef<T> {
    /// Complains about the file, which the key `path` names.
    pub(super) fn report(
        &self,
        desk: &Diagnostics,
        path: &str,
        Problem { what, help: remedy }: Problem,
    ) {
        let what = format!("{} {what}", self.file.display());
        desk.report(self.line, path, Problem::new(what, remedy));
    }

    /// Warns about it.
    pub(super) fn warn(
        &self,
        desk: &Diagnostics,
        path: &str,
        Problem { what, help: remedy }: Problem,
    ) {
        let what = format!("{} {what}", self.file.display());
        desk.warn(self.line, path, Problem::new(what, remedy));
    }
}

impl<'d> Section<'d> {
    /// The mapping that this value is; an empty one, and a complaint, if it is something else.
    /// Nothing at all is an empty mapping: somebody has commented out all that stood there.
    pub(super) fn new(desk: &'d Diagnostics, path: &str, node: Node) -> Self {
        let is_misshapen = matches!(node.value, Value::Text(_) | Value::List(_));
        let entries = match node.value {
            Value::Mapping(entries) => entries,
            Value::Nothing => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                let fault = Problem::new("must hold keys", "write 'key: value' lines under it");
                desk.report(node.line, path, fault);
                Vec::new()
            }
        };
        let (path, line, known) = (path.to_owned(), node.line, Vec::new());
        let mut section = Self {
            diagnostics: desk,
            path,
            line,
            is_malformed: is_misshapen,
            entries: Vec::new(),
            known,
        };
        let mut lines = HashMap::new();
        for (key, node) in entries {
            match lines.entry(key.text.clone()) {
                Entry::Vacant(new) => {
                    new.insert(key.line);
                    section.entries.push((key, node));
                }
                Entry::Occupied(earlier) => {
                    let what = format!("this key stands in line {} already", earlier.get());
                    let fault = Problem::new(what, "keep one of the two");
                    desk.report(key.line, &section.path_of(&key.text), fault);
                }
            }
        }
        section
    }

    /// The line on which the mapping begins.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The whole name of a key in this mapping.
    pub(super) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The mapping under a key; an empty one if there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let (line, path) = (self.line, self.path_of(key));
        let node = self.take(key).map(|(_, node)| node);
        let node = node.unwrap_or(Node { line, value: Value::Nothing });
        let mut section = Section::new(self.diagnostics, &path, node);
        section.is_malformed |= self.is_malformed;
        section
    }

    /// The mapping under a key, if the key is there.
    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Section<'d>> {
        let path = self.path_of(key);
        let (_, node) = self.take(key)?;
        Some(Section::new(self.diagnostics, &path, node))
    }

    /// The value under a key, made into what is wanted of it. `None` if it is absent or unfit.
    pub(super) fn scalar<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        self.scalar_at(key, read).map(|(value, _)| value)
    }

    /// The same, and the line on which the value stands.
    pub(super) fn scalar_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<(T, u64)> {
        let (_, node) = self.take(key)?;
        let word = scalar(self.diagnostics, &self.path_of(key), node)?;
        match read(&word.text) {
            Ok(value) => Some((value, word.line)),
            Err(fault) => {
                self.diagnostics.report(word.line, &self.path_of(key), fault);
                None
            }
        }
    }

    /// The text of the file that a key names, relative to this one. The file is told in `files`,
    /// found or not. `None` if the key is absent or its file cannot be read.
    pub(super) fn text_file(
        &mut self,
        key: &'static str,
        files: &mut Vec<PathBuf>,
    ) -> Option<FileRef> {
        let FileRef { file, content: text, line } =
            self.bytes_file(key, "name the file itself", files)?;
        match files::utf8_text(text) {
            Ok(text) => Some(FileRef { file, content: text, line }),
            Err((_, fault)) => {
                FileRef { file, content: (), line }.report(
                    self.diagnostics,
                    &self.path_of(key),
                    fault,
                );
                None
            }
        }
    }

    /// The same, for a file that may be no text. What is no file gets the remedy `instead`.
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
            Err(fault) => {
                FileRef { file, content: (), line }.report(
                    self.diagnostics,
                    &self.path_of(key),
                    fault,
                );
                None
            }
        }
    }

    /// The path that a key names, relative to this file, and the line on which it does.
    pub(super) fn path(&mut self, key: &'static str) -> Option<(PathBuf, u64)> {
        let (name, line) = self.scalar_at(key, |text| Ok(text.to_owned()))?;
        Some((self.diagnostics.file().parent().unwrap_or(Path::new("")).join(name), line))
    }

    /// The values of the list under a key. `None` if it is absent or no list. A value alone is
    /// complained about, and stands for a list of one: what is wrong is said once.
    pub(super) fn scalars(&mut self, key: &'static str) -> Option<Vec<Scalar>> {
        let path = self.path_of(key);
        let list = match self.take(key)?.1 {
            Node { line, value: Value::Text(text) } => {
                let remedy = format!("write [{}]", quote(&text).trim_matches('\''));
                self.diagnostics.report(line, &path, Problem::new("must be a list", remedy));
                return Some(vec![Scalar { line, text }]);
            }
            node => self.list(key, node, "write it as [one, two]")?,
        };
        Some(list.into_iter().filter_map(|node| scalar(self.diagnostics, &path, node)).collect())
    }

    /// The mappings of the list under a key. `None` if it is absent or no list.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'d>>> {
        let path = self.path_of(key);
        let (_, node) = self.take(key)?;
        let list = self.list(key, node, "write '- key: value' lines under it")?;
        Some(list.into_iter().map(|node| Section::new(self.diagnostics, &path, node)).collect())
    }

    fn list(&self, key: &str, node: Node, remedy: &str) -> Option<Vec<Node>> {
        match node.value {
            Value::List(list) => Some(list),
            Value::Nothing | Value::Text(_) | Value::Mapping(_) => {
                let fault = Problem::new("must be a list", remedy);
                self.diagnostics.report(node.line, &self.path_of(key), fault);
                None
            }
        }
    }

    /// Complains about a key that must be there. Where there are no keys at all, since something
    /// else stands in their place, that was said already.
    pub(super) fn report_missing(&self, key: &str, remedy: &str) {
        if self.is_malformed {
            return;
        }
        self.diagnostics.report(self.line, &self.path_of(key), Problem::new("is missing", remedy));
    }

    /// Whether something else stands in its place, about which was complained already.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Whether a key has been read.
    pub(super) fn is_known(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// Whether a key is there, read or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.text == key)
    }

    /// Takes out all that is left: for a mapping whose keys are names.
    pub(super) fn take_rest(&mut self) -> Vec<(Key, Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.join(", ");
        for (key, _) in &self.entries {
            let name = quote(&key.text);
            let problem = match renamed::new_name(&self.path, &key.text) {
                Some(new) => Problem::new(format!("{name} was renamed"), format!("write {new}")),
                None => {
                    let help = format!("the keys here are {known}");
                    Problem::new(format!("there is no key {name}"), help)
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

fn scalar(desk: &Diagnostics, path: &str, node: Node) -> Option<Scalar> {
    let fault = match node.value {
        Value::Text(text) => return Some(Scalar { line: node.line, text }),
        Value::Nothing => Problem::new("has no value", "write one, or remove the key"),
        Value::List(_) => Problem::new("must be one value and is a list", "write one value"),
        Value::Mapping(_) => Problem::new("must be one value and holds keys", "write one value"),
    };
    desk.report(node.line, path, fault);
    None
}
