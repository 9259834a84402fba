//! A mapping read key by key: what is asked for is taken out, what is left over is unknown.
//!
//! Must never happen here: a reading that stops at the first thing wrong. A key that cannot be read
//! is complained about and counts as absent, so that the keys after it are read as well.

use crate::config::{
    complaint::{Desk, Fault, shown},
    draft::{Key, Node, Value},
    folder,
};
use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

/// A mapping under the key `path`.
pub(super) struct Section<'d> {
    desk: &'d Desk,
    path: String,
    line: u64,
    /// Whether something else stands in its place, or in that of a mapping around it.
    is_misshapen: bool,
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
}

/// One value of a list, or of a key, and where it stands.
pub(super) struct Word {
    pub(super) line: u64,
    pub(super) text: String,
}

/// A file that a key names, and the line on which it does.
pub(super) struct Named<T = String> {
    pub(super) file: PathBuf,
    pub(super) text: T,
    pub(super) line: u64,
}

impl<T> Named<T> {
    /// Complains about the file, which the key `path` names.
    pub(super) fn complain(&self, desk: &Desk, path: &str, Fault { what, remedy }: Fault) {
        let what = format!("{} {what}", self.file.display());
        desk.complain(self.line, path, Fault::new(what, remedy));
    }

    /// Warns about it.
    pub(super) fn warn(&self, desk: &Desk, path: &str, Fault { what, remedy }: Fault) {
        let what = format!("{} {what}", self.file.display());
        desk.warn(self.line, path, Fault::new(what, remedy));
    }
}

impl<'d> Section<'d> {
    /// The mapping that this value is; an empty one, and a complaint, if it is something else.
    /// Nothing at all is an empty mapping: somebody has commented out all that stood there.
    pub(super) fn of(desk: &'d Desk, path: &str, node: Node) -> Self {
        let is_misshapen = matches!(node.value, Value::Text(_) | Value::List(_));
        let entries = match node.value {
            Value::Mapping(entries) => entries,
            Value::Nothing => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                let fault = Fault::new("must hold keys", "write 'key: value' lines under it");
                desk.complain(node.line, path, fault);
                Vec::new()
            }
        };
        let (path, line, known) = (path.to_owned(), node.line, Vec::new());
        let mut section = Self { desk, path, line, is_misshapen, entries: Vec::new(), known };
        let mut lines = HashMap::new();
        for (key, node) in entries {
            match lines.entry(key.text.clone()) {
                Entry::Vacant(new) => {
                    new.insert(key.line);
                    section.entries.push((key, node));
                }
                Entry::Occupied(earlier) => {
                    let what = format!("this key stands in line {} already", earlier.get());
                    let fault = Fault::new(what, "keep one of the two");
                    desk.complain(key.line, &section.below(&key.text), fault);
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
    pub(super) fn below(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// The mapping under a key; an empty one if there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let (line, path) = (self.line, self.below(key));
        let node = self.pull(key).map(|(_, node)| node);
        let node = node.unwrap_or(Node { line, value: Value::Nothing });
        let mut section = Section::of(self.desk, &path, node);
        section.is_misshapen |= self.is_misshapen;
        section
    }

    /// The mapping under a key, if the key is there.
    pub(super) fn section_if_there(&mut self, key: &'static str) -> Option<Section<'d>> {
        let path = self.below(key);
        let (_, node) = self.pull(key)?;
        Some(Section::of(self.desk, &path, node))
    }

    /// The value under a key, made into what is wanted of it. `None` if it is absent or unfit.
    pub(super) fn word<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.word_at(key, read).map(|(value, _)| value)
    }

    /// The same, and the line on which the value stands.
    pub(super) fn word_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<(T, u64)> {
        let (_, node) = self.pull(key)?;
        let word = word(self.desk, &self.below(key), node)?;
        match read(&word.text) {
            Ok(value) => Some((value, word.line)),
            Err(fault) => {
                self.desk.complain(word.line, &self.below(key), fault);
                None
            }
        }
    }

    /// The text of the file that a key names, relative to this one. The file is told in `files`,
    /// found or not. `None` if the key is absent or its file cannot be read.
    pub(super) fn file(&mut self, key: &'static str, files: &mut Vec<PathBuf>) -> Option<Named> {
        let Named { file, text, line } = self.octets(key, "name the file itself", files)?;
        match folder::text(text) {
            Ok(text) => Some(Named { file, text, line }),
            Err((_, fault)) => {
                Named { file, text: (), line }.complain(self.desk, &self.below(key), fault);
                None
            }
        }
    }

    /// The same, for a file that may be no text. What is no file gets the remedy `instead`.
    pub(super) fn octets(
        &mut self,
        key: &'static str,
        instead: &str,
        files: &mut Vec<PathBuf>,
    ) -> Option<Named<Vec<u8>>> {
        let (file, line) = self.path(key)?;
        files.push(file.clone());
        match folder::octets(&file, instead) {
            Ok(text) => Some(Named { file, text, line }),
            Err(fault) => {
                Named { file, text: (), line }.complain(self.desk, &self.below(key), fault);
                None
            }
        }
    }

    /// The path that a key names, relative to this file, and the line on which it does.
    pub(super) fn path(&mut self, key: &'static str) -> Option<(PathBuf, u64)> {
        let (name, line) = self.word_at(key, |text| Ok(text.to_owned()))?;
        Some((self.desk.file().parent().unwrap_or(Path::new("")).join(name), line))
    }

    /// The values of the list under a key. `None` if it is absent or no list. A value alone is
    /// complained about, and stands for a list of one: what is wrong is said once.
    pub(super) fn words(&mut self, key: &'static str) -> Option<Vec<Word>> {
        let path = self.below(key);
        let list = match self.pull(key)?.1 {
            Node { line, value: Value::Text(text) } => {
                let remedy = format!("write [{}]", shown(&text).trim_matches('\''));
                self.desk.complain(line, &path, Fault::new("must be a list", remedy));
                return Some(vec![Word { line, text }]);
            }
            node => self.list(key, node, "write it as [one, two]")?,
        };
        Some(list.into_iter().filter_map(|node| word(self.desk, &path, node)).collect())
    }

    /// The mappings of the list under a key. `None` if it is absent or no list.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'d>>> {
        let path = self.below(key);
        let (_, node) = self.pull(key)?;
        let list = self.list(key, node, "write '- key: value' lines under it")?;
        Some(list.into_iter().map(|node| Section::of(self.desk, &path, node)).collect())
    }

    fn list(&self, key: &str, node: Node, remedy: &str) -> Option<Vec<Node>> {
        match node.value {
            Value::List(list) => Some(list),
            Value::Nothing | Value::Text(_) | Value::Mapping(_) => {
                let fault = Fault::new("must be a list", remedy);
                self.desk.complain(node.line, &self.below(key), fault);
                None
            }
        }
    }

    /// Complains about a key that must be there. Where there are no keys at all, since something
    /// else stands in their place, that was said already.
    pub(super) fn miss(&self, key: &str, remedy: &str) {
        if self.is_misshapen {
            return;
        }
        self.desk.complain(self.line, &self.below(key), Fault::new("is missing", remedy));
    }

    /// Whether something else stands in its place, about which was complained already.
    pub(super) fn is_misshapen(&self) -> bool {
        self.is_misshapen
    }

    /// Whether a key is there, read or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.text == key)
    }

    /// Takes out all that is left: for a mapping whose keys are names.
    pub(super) fn drain(&mut self) -> Vec<(Key, Node)> {
        std::mem::take(&mut self.entries)
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn close(self) {
        let known = self.known.join(", ");
        for (key, _) in &self.entries {
            let what = format!("there is no key {}", shown(&key.text));
            let fault = Fault::new(what, format!("the keys here are {known}"));
            self.desk.complain(key.line, &self.below(&key.text), fault);
        }
    }

    fn pull(&mut self, key: &'static str) -> Option<(Key, Node)> {
        self.known.push(key);
        let index = self.entries.iter().position(|(entry, _)| entry.text == key)?;
        Some(self.entries.remove(index))
    }
}

fn word(desk: &Desk, path: &str, node: Node) -> Option<Word> {
    let fault = match node.value {
        Value::Text(text) => return Some(Word { line: node.line, text }),
        Value::Nothing => Fault::new("has no value", "write one, or remove the key"),
        Value::List(_) => Fault::new("must be one value and is a list", "write one value"),
        Value::Mapping(_) => Fault::new("must be one value and holds keys", "write one value"),
    };
    desk.complain(node.line, path, fault);
    None
}
