//! Escapes control characters in text of peers, providers and files, for terminals and logs.
//!
//! A control character could forge a log line, colour a terminal or reverse the text direction.
//! Escaping is never left to the caller: the log escapes all fields of all events, and `cli` all of
//! its output.

use std::fmt::{self, Display, Write};

/// Whether a character controls a terminal: C0, DEL, C1, line and paragraph separators, and
/// direction marks (Unicode UAX #9).
pub(crate) fn is_control(character: char) -> bool {
    let turns = |character| {
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') || turns(character)
}

/// Displays its content on one line, with control characters as in Rust and Python: `\n` or
/// `\u{202e}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter { into: f, escape: escape_for_terminal }, "{}", self.0)
    }
}

/// Escapes control characters that JSON permits in strings. The value of the JSON is unchanged.
pub(super) fn json(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    // Writing to a `String` never fails.
    let _ = EscapingWriter { into: &mut escaped, escape: escape_for_json }.write_str(line);
    escaped
}

/// A writer that escapes control characters.
pub(super) struct EscapingWriter<'w, W> {
    into: &'w mut W,
    escape: fn(&mut W, char) -> fmt::Result,
}

impl<'w, W: Write> EscapingWriter<'w, W> {
    /// Escapes as Rust does.
    pub(super) fn for_terminal(into: &'w mut W) -> Self {
        Self { into, escape: escape_for_terminal }
    }
}

impl<W: Write> Write for EscapingWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_control) {
            let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.into.write_str(plain)?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                (self.escape)(self.into, character)?;
            }
            rest = characters.as_str();
        }
        self.into.write_str(rest)
    }
}

fn escape_for_terminal<W: Write>(into: &mut W, character: char) -> fmt::Result {
    write!(into, "{}", character.escape_default())
}

/// All control characters are in the basic plane: four digits suffice (RFC 8259, 7).
fn escape_for_json<W: Write>(into: &mut W, character: char) -> fmt::Result {
    write!(into, "\\u{:04x}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_executed() {
        for (text, shown) in [
            ("a\nb\r\t", r"a\nb\r\t"),
            ("\u{1b}[31mred\u{7}\0", r"\u{1b}[31mred\u{7}\u{0}"),
            ("\u{7f}\u{80}\u{9b}\u{85}\u{9f}", r"\u{7f}\u{80}\u{9b}\u{85}\u{9f}"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{202a}\u{202e}\u{2066}\u{2069}", r"\u{202a}\u{202e}\u{2066}\u{2069}"),
            ("\u{61c}\u{200e}\u{200f}", r"\u{61c}\u{200e}\u{200f}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
    }

    #[test]
    fn text_of_any_script_is_unchanged() {
        for text in ["", "Ann Ö.", "日本語 עברית", r"C:\new 'x' \u{1b}", "👩‍🚀", "a\u{a0}b\u{ad}"]
        {
            assert_eq!(Escaped(text).to_string(), text);
        }
    }

    #[test]
    fn the_value_of_escaped_json_is_unchanged() {
        let text = "a\n\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}Ö\\";
        let line = serde_json::to_string(text).unwrap();
        let escaped = json(&line);
        assert!(!escaped.contains(is_control), "{escaped:?}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        assert_eq!(json(r#"{"a":"Ö"}"#), r#"{"a":"Ö"}"#);
    }
}
