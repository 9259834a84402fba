//! What verbs print. Text of files, of providers and of calls is escaped here, and nowhere else.

use crate::telemetry::escape::Escaped;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints lines to whoever listens; nobody listening is no error. What a line says is escaped: it
/// may come from files, from providers or from a call.
pub(super) fn print<L: Display>(lines: impl IntoIterator<Item = L>) {
    let text: String = lines.into_iter().map(|line| format!("{}\n", Escaped(line))).collect();
    print_raw(text.as_bytes());
}

/// Prints what sconce itself has made, and a machine reads.
pub(super) fn print_raw(octets: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(octets).and_then(|()| out.flush());
}

/// Several lines on the way for what went wrong.
pub(super) fn print_error_lines(text: &str) {
    let text: String = text.lines().map(|line| format!("{}\n", Escaped(line))).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same on the way for what went wrong.
pub(super) fn print_error<L: Display>(line: L) {
    // At once, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{}\n", Escaped(line)).as_bytes());
}
