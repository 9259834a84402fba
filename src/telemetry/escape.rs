//! Escaping: text of peers, providers and files, made fit for a terminal and for a log of lines.
//!
//! A control character could forge a line, colour a screen or turn the direction of a text. Must
//! never be left to whoever writes a message: the log escapes all fields of all events, and `cli`
//! all that it prints.

use std::fmt::{self, Display, Write};

/// Whether a letter does something to whoever shows it: C0, DEL, C1, separators of lines and of
/// paragraphs, and the marks of direction (Unicode UAX #9).
pub fn is_control(letter: char) -> bool {
    let turns = |letter| {
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') || turns(letter)
}

/// Shows what it holds on one line: each control character as Rust and Python write it, `\n` or
/// `\u{202e}`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter { into: f, escape: escape_for_terminal }, "{}", self.0)
    }
}

/// A line of JSON with the control characters escaped that JSON itself would let stand. They can be
/// in texts alone, so that it reads as before.
pub(super) fn json(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    // Writing to a text never fails.
    let _ = EscapingWriter { into: &mut escaped, escape: escape_for_json }.write_str(line);
    escaped
}

/// Passes text on, but for control characters.
pub(super) struct EscapingWriter<'w, W> {
    into: &'w mut W,
    escape: fn(&mut W, char) -> fmt::Result,
}

impl<'w, W: Write> EscapingWriter<'w, W> {
    /// As a person reads it.
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
            let mut letters = from.chars();
            if let Some(letter) = letters.next() {
                (self.escape)(self.into, letter)?;
            }
            rest = letters.as_str();
        }
        self.into.write_str(rest)
    }
}

fn escape_for_terminal<W: Write>(into: &mut W, letter: char) -> fmt::Result {
    write!(into, "{}", letter.escape_default())
}

/// All of them are in the basic plane, which four digits tell (RFC 8259, 7).
fn escape_for_json<W: Write>(into: &mut W, letter: char) -> fmt::Result {
    write!(into, "\\u{:04x}", u32::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_done() {
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
    fn a_text_of_any_script_is_left_as_it_is() {
        for text in ["", "Ann Ö.", "日本語 עברית", r"C:\new 'x' \u{1b}", "👩‍🚀", "a\u{a0}b\u{ad}"]
        {
            assert_eq!(Escaped(text).to_string(), text);
        }
    }

    #[test]
    fn a_line_of_json_reads_as_before() {
        let text = "a\n\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}Ö\\";
        let line = serde_json::to_string(text).unwrap();
        let escaped = json(&line);
        assert!(!escaped.contains(is_control), "{escaped:?}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        assert_eq!(json(r#"{"a":"Ö"}"#), r#"{"a":"Ö"}"#);
    }
}
