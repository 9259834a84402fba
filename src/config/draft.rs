//! What people write: YAML as a tree in which every key and value knows its line.
//!
//! The tree is read key by key (see `section`), so that one reading finds every complaint and not
//! only the first. Must never happen here: knowing what a key means.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Error, Location, Spanned};
use std::fmt;

/// How deep a file may nest.
const DEPTH_MAX: usize = 16;
/// How many values a file may hold, each use of an anchor counted anew.
const NODES_MAX: usize = 100_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// A key of a mapping and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) text: String,
}

/// What a person wrote. Numbers and booleans are kept as text: who reads a key knows what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing after the colon.
    Nothing,
    /// One word, number or sentence.
    Text(String),
    /// Values with a dash each, or in brackets.
    List(Vec<Node>),
    /// Keys with values, in their order, those that are written twice included.
    Mapping(Vec<(Key, Node)>),
}

/// A text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Garbled {
    pub(super) line: u64,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Node, Garbled> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 4,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let read = serde_saphyr::from_str_with_options(text, options);
    read.map_err(|error| Garbled::of(&error, text))
}

impl Garbled {
    fn of(error: &Error, text: &str) -> Self {
        let line = error.location().map_or(0, |at| at.line());
        let at = usize::try_from(line).unwrap_or(0).saturating_sub(1);
        let written = text.lines().nth(at).unwrap_or_default();
        let indent = written.split(|c: char| !c.is_whitespace()).next().unwrap_or_default();
        let remedy = if matches!(error, Error::Budget { .. }) {
            "a file holds one document of modest size: remove what follows '---', or split it"
        } else if indent.contains('\t') {
            "indent with spaces, not with tabs"
        } else if written.contains("[") && written.contains("]:") {
            "put an address that has brackets in quotes, as \"[::1]:15002\""
        } else {
            "look at the indentation, colons and quotes of this line and the one before"
        };
        let told = error.to_string();
        let what = told.split(" at line ").next().unwrap_or_default();
        Self { line, what: format!("not valid YAML: {what}"), remedy }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: Location::line(&referenced), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> de::Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a list or a mapping")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key { line: key.referenced.line(), text: key.value };
            mapping.push((key, entries.next_value()?));
        }
        Ok(Value::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(u64, String, Value)> {
        let Value::Mapping(entries) = read(text).unwrap().value else { panic!("a mapping") };
        entries.into_iter().map(|(key, node)| (key.line, key.text, node.value)).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn garbled(text: &str) -> String {
        let Garbled { line, what, remedy } = read(text).unwrap_err();
        format!("{line}: {what}; {remedy}")
    }

    #[test]
    fn each_key_knows_its_line_and_a_key_written_twice_is_kept_twice() {
        let expected = [
            (1, "a".to_owned(), text("1")),
            (3, "b".to_owned(), text("x")),
            (4, "a".to_owned(), text("2")),
        ];
        assert_eq!(entries("a: 1\n\nb: x\na: 2\n"), expected);
    }

    #[test]
    fn words_and_numbers_are_kept_as_written() {
        let written = "[0755, 1_000, .inf, on, 'true', true, 2024-01-01, 127.0.0.1:15002, -3]";
        let Value::List(list) = read(written).unwrap().value else { panic!("a list") };
        let kept: Vec<_> = list.into_iter().map(|node| node.value).collect();
        let expected = ["0755", "1_000", ".inf", "on", "true", "true", "2024-01-01"];
        let expected = expected.into_iter().chain(["127.0.0.1:15002", "-3"]).map(text);
        assert_eq!(kept, expected.collect::<Vec<_>>());
    }

    #[test]
    fn no_document_and_no_value_are_nothing() {
        for written in ["", "# a remark\n", "---\n", "null", "~"] {
            assert_eq!(read(written).unwrap().value, Value::Nothing, "{written:?}");
        }
        assert_eq!(entries("a:\n"), [(1, "a".to_owned(), Value::Nothing)]);
    }

    #[test]
    fn an_anchor_repeats_a_value_and_a_merge_is_a_key_like_any_other() {
        let expected = [(1, "a".to_owned(), text("1")), (2, "b".to_owned(), text("1"))];
        assert_eq!(entries("a: &one 1\nb: *one\n"), expected);
        let merged = entries("<<: {a: 1}\n");
        assert_eq!(merged.first().unwrap().1, "<<");
    }

    #[test]
    fn what_is_not_yaml_is_said_with_line_and_remedy() {
        let cases = [
            ("a:\n\tb: 1", "2: not valid YAML: tabs disallowed", "not with tabs"),
            ("a: [::1]:80\n", "1: not valid YAML: ", "in quotes, as \"[::1]:15002\""),
            ("a: b: c", "1: not valid YAML: mapping values are not allowed", "indentation, colons"),
            ("a: {b: 1", "1: not valid YAML: unclosed bracket", "quotes of this line"),
            ("a: 'x", "1: not valid YAML: unclosed quote", "quotes of this line"),
            ("a: 1\n---\nb: 2\n", "2: not valid YAML: ", "one document"),
            ("a: *none\n", "1: not valid YAML: alias references unknown anchor", "this line"),
            ("? [a]\n: 1", "1: not valid YAML: ", "this line"),
        ];
        for (written, begins, remedy) in cases {
            let said = garbled(written);
            assert!(said.starts_with(begins) && said.contains(remedy), "{written:?}: {said}");
        }
    }

    #[test]
    fn a_file_that_unfolds_without_end_is_cut_off() {
        let deep = "[".repeat(10_000);
        assert!(read(&deep).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let uses = vec![format!("*a{}", n - 1); 9].join(", ");
            laughs.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
        }
        assert!(read(&laughs).is_err());
    }
}
