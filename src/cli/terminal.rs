//! Output of commands. Text from files, providers and calls is escaped here and nowhere else.

use crate::telemetry::escape::Escaped;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints lines to stdout, escaped. A closed pipe is not an error.
pub(super) fn print<L: Display>(lines: impl IntoIterator<Item = L>) {
    let text: String = lines.into_iter().map(|line| format!("{}\n", Escaped(line))).collect();
    print_raw(text.as_bytes());
}

/// Prints machine-readable output of sconce without escaping.
pub(super) fn print_raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints several lines to stderr, escaped.
pub(super) fn print_error_lines(text: &str) {
    let text: String = text.lines().map(|line| format!("{}\n", Escaped(line))).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints one line to stderr, escaped.
pub(super) fn print_error<L: Display>(line: L) {
    // One write, so that lines of several threads do not interleave.
    let _ = io::stderr().write_all(format!("{}\n", Escaped(line)).as_bytes());
}
