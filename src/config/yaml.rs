//! What people write: YAML as a tree in which every key and value knows its line.
//!
//! The tree is read key by key (see `section`), so that one reading finds every complaint and not
//! only the first. Must never happen here: knowing what a key means, or a number that is written
//! anew. `1.10` may be somebody's name, and `1.1` is another's.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Error, Location, Span, Spanned, budget::BudgetBreach};
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
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) what: String,
    pub(super) help: &'static str,
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
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
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let seen = serde_saphyr::from_str_with_options(text, options);
    seen.map(|seen: Spanned<YamlValue>| node(seen, text))
        .map_err(|error| SyntaxError::new(&error, text))
}

/// A value as the reader of YAML tells it.
enum YamlValue {
    Nothing,
    Text(String),
    /// A number or a boolean: what was made of it is not what was written.
    Unquoted,
    List(Vec<Spanned<YamlValue>>),
    Mapping(Vec<(Key, Spanned<YamlValue>)>),
}

/// The value as it is written in the text.
fn node(seen: Spanned<YamlValue>, text: &str) -> Node {
    let line = Location::line(&seen.referenced);
    let value = match seen.value {
        YamlValue::Nothing => Value::Nothing,
        YamlValue::Text(written) => Value::Text(written),
        YamlValue::Unquoted => Value::Text(source_text(seen.defined.span(), text).to_owned()),
        YamlValue::List(list) => {
            Value::List(list.into_iter().map(|seen| node(seen, text)).collect())
        }
        YamlValue::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, seen)| (key, node(seen, text)));
            Value::Mapping(entries.collect())
        }
    };
    Node { line, value }
}

fn source_text(span: Span, text: &str) -> &str {
    let place = |offset: u64| usize::try_from(offset).ok();
    let start = span.byte_offset().and_then(place);
    let len = span.byte_len().and_then(place);
    let end = start.zip(len).and_then(|(start, len)| start.checked_add(len));
    let bare = start.zip(end).and_then(|(start, end)| text.get(start..end));
    bare.unwrap_or_default().trim().trim_matches(['\'', '"'])
}

impl SyntaxError {
    fn new(error: &Error, text: &str) -> Self {
        let line = error.location().map_or(0, |at| at.line());
        let at = usize::try_from(line).unwrap_or(0).saturating_sub(1);
        let written = text.lines().nth(at).unwrap_or_default();
        let indent = written.split(|c: char| !c.is_whitespace()).next().unwrap_or_default();
        if let Error::Budget { breach, .. } = error {
            return Self::limit_exceeded(breach, line);
        }
        let remedy = if indent.contains('\t') {
            "indent with spaces, not with tabs"
        } else if written.contains("[") && written.contains("]:") {
            "put an address that has brackets in quotes, as \"[::1]:15002\""
        } else {
            "look at the indentation, colons and quotes of this line and the one before"
        };
        let told = error.to_string();
        let what = told.split(" at line ").next().unwrap_or_default();
        Self { line, what: format!("not valid YAML: {what}"), help: remedy }
    }

    /// A text that is YAML, and more than is read of one file.
    fn limit_exceeded(breach: &BudgetBreach, line: u64) -> Self {
        let (what, remedy) = if matches!(breach, BudgetBreach::Documents { .. }) {
            let remedy = "remove the line '---' and what follows it, or move it to another file";
            ("a second YAML document begins here", remedy)
        } else {
            ("holds more than is read of one file", "nest less, repeat less, or split it")
        };
        Self { line, what: what.to_owned(), help: remedy }
    }
}

impl<'de> Deserialize<'de> for YamlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
    type Value = YamlValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a list or a mapping")
    }

    fn visit_unit<E: de::Error>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlValue, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<YamlValue, E> {
        Ok(YamlValue::Unquoted)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<YamlValue, E> {
        Ok(YamlValue::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<YamlValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(YamlValue::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<YamlValue, A::Error> {
        let mut mapping = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key { line: key.referenced.line(), text: key.value };
            mapping.push((key, entries.next_value()?));
        }
        Ok(YamlValue::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(u64, String, Value)> {
        let Value::Mapping(entries) = parse(text).unwrap().value else { panic!("a mapping") };
        entries.into_iter().map(|(key, node)| (key.line, key.text, node.value)).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn garbled(text: &str) -> String {
        let SyntaxError { line, what, help: remedy } = parse(text).unwrap_err();
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
        let long = "1234567890123456789012345678901234567890123";
        let written = [
            "0755",
            "1_000",
            ".inf",
            ".INF",
            "1e999",
            "on",
            "true",
            "True",
            "2024-01-01",
            "-3",
            "-0",
            "127.0.0.1:15002",
            "0x1F",
            "1e3",
            "1.10",
            "0o17",
            "0b1",
            "+1",
            "12345",
            ".5",
            long,
        ];
        let quoted = written.map(|word| format!("'{word}'"));
        let blocks = written.map(|word| format!("\n- {word}  # ä"));
        let tagged = written.map(|word| format!("&b{} {word}", word.len()));
        for list in [
            format!("[{}]", written.join(", ")),
            format!("# ä\r\n[{} ]", written.join(" ,\r\n")),
            format!("\u{feff}[{}]", written.join(", ")),
            format!("[{}]", quoted.join(", ")),
            format!("[{}]", tagged.join(", ")),
            blocks.concat(),
        ] {
            let Value::List(kept) = parse(&list).unwrap().value else { panic!("a list") };
            let kept: Vec<_> = kept.into_iter().map(|node| node.value).collect();
            assert_eq!(kept, written.map(text), "{list}");
        }
        let told = entries("a: &it 0x1F\nb: *it\n0x1F: 1.10");
        let told = told.iter().map(|(_, key, value)| (key.as_str(), value.clone()));
        let expected = [("a", text("0x1F")), ("b", text("0x1F")), ("0x1F", text("1.10"))];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(parse("1.10").unwrap().value, text("1.10"));
    }

    #[test]
    fn what_a_tag_makes_a_number_is_kept_as_written() {
        for written in
            ["!!int 0x1F", "!!int '0x1F'", "!!float 1.10", "!!bool \"true\"", "!!str 1.0"]
        {
            let kept = parse(written).unwrap().value;
            let (_, bare) = written.split_once(' ').unwrap();
            assert_eq!(kept, text(bare.trim_matches(['\'', '"'])), "{written}");
        }
    }

    #[test]
    fn no_document_and_no_value_are_nothing() {
        for written in ["", "# a remark\n", "---\n", "null", "~"] {
            assert_eq!(parse(written).unwrap().value, Value::Nothing, "{written:?}");
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
            ("a: 1\n---\nb: 2\n", "2: a second YAML document begins here", "line '---'"),
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
        assert!(parse(&deep).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let uses = vec![format!("*a{}", n - 1); 9].join(", ");
            laughs.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
        }
        assert!(parse(&laughs).is_err());
        let many = "- x\n".repeat(NODES_MAX + 1);
        assert!(garbled(&many).contains("holds more than is read of one file; nest less"));
    }
}
