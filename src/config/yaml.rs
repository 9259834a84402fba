//! YAML, parsed into a tree with the line of every key and value.
//!
//! Must never happen here: knowledge of keys, or a conversion of numbers. `1.10` can be a name, and
//! `1.1` is a different one.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Error, Location, Span, Spanned, budget::BudgetBreach};
use std::fmt;

/// Maximum nesting depth of a file.
const DEPTH_MAX: usize = 16;
/// Maximum number of values of a file; each use of an anchor counts.
const NODES_MAX: usize = 100_000;

/// A value and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// A key of a mapping and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) text: String,
}

/// A value. Numbers and booleans stay text; the reader of a key parses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// No value after the colon.
    Nothing,
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file, including duplicate keys.
    Mapping(Vec<(Key, Node)>),
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) what: String,
    pub(super) help: &'static str,
}

/// Parses one YAML document.
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
    let spanned = serde_saphyr::from_str_with_options(text, options);
    spanned
        .map(|spanned: Spanned<YamlValue>| node(spanned, text))
        .map_err(|error| SyntaxError::new(&error, text))
}

/// A value as deserialized.
enum YamlValue {
    Nothing,
    Text(String),
    /// A number or a boolean: the deserialized value differs from the source text.
    Unquoted,
    List(Vec<Spanned<YamlValue>>),
    Mapping(Vec<(Key, Spanned<YamlValue>)>),
}

/// The value with the source text of numbers and booleans.
fn node(spanned: Spanned<YamlValue>, text: &str) -> Node {
    let line = Location::line(&spanned.referenced);
    let value = match spanned.value {
        YamlValue::Nothing => Value::Nothing,
        YamlValue::Text(written) => Value::Text(written),
        YamlValue::Unquoted => Value::Text(source_text(spanned.defined.span(), text).to_owned()),
        YamlValue::List(list) => {
            Value::List(list.into_iter().map(|spanned| node(spanned, text)).collect())
        }
        YamlValue::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, spanned)| (key, node(spanned, text)));
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
        let help = if indent.contains('\t') {
            "indent with spaces, not with tabs"
        } else if written.contains("[") && written.contains("]:") {
            "quote an address with brackets, for example \"[::1]:15002\""
        } else {
            "check the indentation, colons and quotes of this line and the line before"
        };
        let message = error.to_string();
        let what = message.split(" at line ").next().unwrap_or_default();
        Self { line, what: format!("not valid YAML: {what}"), help }
    }

    /// A file that exceeds a limit.
    fn limit_exceeded(breach: &BudgetBreach, line: u64) -> Self {
        let (what, help) = if matches!(breach, BudgetBreach::Documents { .. }) {
            let help = "remove the line '---' and the text after it, or move that text to another \
                        file";
            ("a second YAML document starts here", help)
        } else {
            (
                "exceeds the limits for nesting (16 levels) or values (100000)",
                "simplify or split the file",
            )
        };
        Self { line, what: what.to_owned(), help }
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
        let SyntaxError { line, what, help } = parse(text).unwrap_err();
        format!("{line}: {what}; {help}")
    }

    #[test]
    fn keys_have_lines_and_duplicates_are_kept() {
        let expected = [
            (1, "a".to_owned(), text("1")),
            (3, "b".to_owned(), text("x")),
            (4, "a".to_owned(), text("2")),
        ];
        assert_eq!(entries("a: 1\n\nb: x\na: 2\n"), expected);
    }

    #[test]
    fn scalars_keep_their_source_text() {
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
        let found = entries("a: &it 0x1F\nb: *it\n0x1F: 1.10");
        let found = found.iter().map(|(_, key, value)| (key.as_str(), value.clone()));
        let expected = [("a", text("0x1F")), ("b", text("0x1F")), ("0x1F", text("1.10"))];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!(parse("1.10").unwrap().value, text("1.10"));
    }

    #[test]
    fn tagged_numbers_keep_their_source_text() {
        for written in
            ["!!int 0x1F", "!!int '0x1F'", "!!float 1.10", "!!bool \"true\"", "!!str 1.0"]
        {
            let kept = parse(written).unwrap().value;
            let (_, bare) = written.split_once(' ').unwrap();
            assert_eq!(kept, text(bare.trim_matches(['\'', '"'])), "{written}");
        }
    }

    #[test]
    fn an_empty_document_and_an_empty_value_are_nothing() {
        for written in ["", "# a remark\n", "---\n", "null", "~"] {
            assert_eq!(parse(written).unwrap().value, Value::Nothing, "{written:?}");
        }
        assert_eq!(entries("a:\n"), [(1, "a".to_owned(), Value::Nothing)]);
    }

    #[test]
    fn anchors_are_expanded_and_merge_keys_are_ordinary_keys() {
        let expected = [(1, "a".to_owned(), text("1")), (2, "b".to_owned(), text("1"))];
        assert_eq!(entries("a: &one 1\nb: *one\n"), expected);
        let merged = entries("<<: {a: 1}\n");
        assert_eq!(merged.first().unwrap().1, "<<");
    }

    #[test]
    fn a_syntax_error_has_a_line_and_a_help() {
        let cases = [
            ("a:\n\tb: 1", "2: not valid YAML: tabs disallowed", "not with tabs"),
            (
                "a: [::1]:80\n",
                "1: not valid YAML: ",
                "quote an address with brackets, for example \"[::1]:15002\"",
            ),
            ("a: b: c", "1: not valid YAML: mapping values are not allowed", "indentation, colons"),
            ("a: {b: 1", "1: not valid YAML: unclosed bracket", "quotes of this line"),
            ("a: 'x", "1: not valid YAML: unclosed quote", "quotes of this line"),
            ("a: 1\n---\nb: 2\n", "2: a second YAML document starts here", "line '---'"),
            ("a: *none\n", "1: not valid YAML: alias references unknown anchor", "this line"),
            ("? [a]\n: 1", "1: not valid YAML: ", "this line"),
        ];
        for (written, begins, help) in cases {
            let messages = garbled(written);
            assert!(
                messages.starts_with(begins) && messages.contains(help),
                "{written:?}: {messages}"
            );
        }
    }

    #[test]
    fn expansion_of_anchors_is_limited() {
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let uses = vec![format!("*a{}", n - 1); 9].join(", ");
            laughs.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
        }
        assert!(parse(&laughs).is_err());
        let many = "- x\n".repeat(NODES_MAX + 1);
        assert!(
            garbled(&many).contains(
                "exceeds the limits for nesting (16 levels) or values (100000); simplify"
            )
        );
    }
}
