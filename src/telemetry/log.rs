//! The log: one line an event, to stderr, as JSON for machines or as text for people.
//!
//! The level comes from the configuration; `RUST_LOG`, where it is set, overrides it with
//! directives (`info,sconce::proxy=debug`). What must never happen here: a worker that waits for
//! whoever reads stderr (see `spool`), a panic because nobody does, and a line, or a command to a
//! terminal, that somebody else has written: every field of every event is escaped here.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, warn};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::Targets, fmt};

use super::ControlMetrics;
use super::escape::{self, Escaping};
use super::spool::Spool;

pub use super::spool::LogGuard;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line; fields of an event stand beside `timestamp`, `level`, `message`.
    Json,
    /// One line of text; coloured when stderr is a terminal and `NO_COLOR` is not set.
    Pretty,
}

/// Why there is no log. Both are faults of the process' surroundings, not of its configuration.
#[derive(Debug)]
pub enum LogFault {
    /// The system gave no thread to write with.
    NoThread(io::Error),
    /// Somebody has started a log in this process before.
    AlreadyStarted,
}

impl std::fmt::Display for LogFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoThread(fault) => write!(f, "no thread for the log: {fault}"),
            Self::AlreadyStarted => f.write_str("a log has been started in this process before"),
        }
    }
}

impl std::error::Error for LogFault {}

/// Starts the log of this process. Keep the guard until the end: it sees the last lines out.
///
/// # Errors
/// When the system gives no thread, or a log was started before.
pub fn start(
    format: LogFormat,
    level: LevelFilter,
    metrics: &ControlMetrics,
) -> Result<LogGuard, LogFault> {
    let (spool, guard) = Spool::start(io::stderr(), metrics.clone()).map_err(LogFault::NoThread)?;
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let (filter, complaint) = filter(level, directives.as_deref());
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = subscriber(format, filter, coloured, spool);
    lines.try_init().map_err(|_| LogFault::AlreadyStarted)?;
    if let Some(complaint) = complaint {
        warn!(complaint, "RUST_LOG is not understood: the configured level holds");
    }
    Ok(guard)
}

/// The filter, and what was wrong with `directives` if they could not be used.
fn filter(level: LevelFilter, directives: Option<&str>) -> (Targets, Option<String>) {
    let configured = Targets::new().with_default(level);
    match directives.map(str::parse::<Targets>) {
        None => (configured, None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(fault)) => (configured, Some(fault.to_string())),
    }
}

fn subscriber(
    format: LogFormat,
    filter: Targets,
    coloured: bool,
    spool: Spool,
) -> impl Subscriber + Send + Sync {
    let lines = fmt::layer().with_ansi(coloured).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.with_writer(EscapedJson(spool)).json().flatten_event(true).boxed(),
        LogFormat::Pretty => lines.with_writer(spool).fmt_fields(EscapedFields).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

/// Writes the fields of an event, the message among them, without control characters.
#[derive(Debug)]
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'w>,
        fields: R,
    ) -> std::fmt::Result {
        let mut escaping = Escaping::for_people(&mut writer);
        DefaultFields::new().format_fields(Writer::new(&mut escaping), fields)
    }
}

/// Takes lines of JSON, and escapes the control characters that JSON leaves in texts.
#[derive(Clone, Debug)]
struct EscapedJson(Spool);

impl Write for EscapedJson {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let object = text.trim_end_matches('\n');
        if object.contains(escape::is_control) {
            self.0.write_all((escape::json(object) + "\n").as_bytes())?;
        } else {
            self.0.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> MakeWriter<'a> for EscapedJson {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tracing::{debug, info};

    use super::*;
    use crate::telemetry::Metrics;

    /// What the log says of two events, one of them below `info`.
    fn said(format: LogFormat, directives: Option<&str>) -> String {
        told(format, directives, false)
    }

    /// The same, and perhaps of an event with control characters in all its parts.
    fn told(format: LogFormat, directives: Option<&str>, is_odd: bool) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let (spool, guard) = Spool::start(writer, Metrics::new("1").control()).unwrap();
        let filter = filter(LevelFilter::INFO, directives).0;
        tracing::subscriber::with_default(subscriber(format, filter, false, spool), || {
            info!(address = %"127.0.0.1:1", admin = %"127.0.0.1:2", "listening");
            debug!("quiet");
            if is_odd {
                let odd = "a\nb\u{1b}[31m\u{9b}\u{7f}\u{2028}\u{202e}";
                info!(display = %odd, debug = ?odd, text = odd, "message {odd}");
            }
        });
        drop(guard);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let said = said(LogFormat::Json, None);
        let line: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:1");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_is_one_line_with_fields_to_search_for() {
        let said = said(LogFormat::Pretty, None);
        assert!(said.ends_with("listening address=127.0.0.1:1 admin=127.0.0.1:2\n"), "{said}");
        assert_eq!(said.lines().count(), 1);
    }

    #[test]
    fn no_part_of_an_event_makes_a_line_or_steers_a_terminal() {
        for format in [LogFormat::Json, LogFormat::Pretty] {
            let told = told(format, None, true);
            assert_eq!(told.lines().count(), 2, "{told:?}");
            let is_plain = |line: &str| !line.contains(escape::is_control);
            assert!(told.split('\n').all(is_plain), "{told:?}");
            assert!(told.ends_with('\n') && told.matches("[31m").count() == 4, "{told:?}");
        }
    }

    #[test]
    fn directives_override_the_level() {
        assert_eq!(said(LogFormat::Pretty, Some("debug")).lines().count(), 2);
        assert_eq!(said(LogFormat::Pretty, Some("off")), "");
    }

    #[test]
    fn directives_that_make_no_sense_leave_the_level_and_are_told() {
        let (_, complaint) = filter(LevelFilter::INFO, Some("sconce=loud"));
        assert!(complaint.is_some());
        assert_eq!(said(LogFormat::Pretty, Some("sconce=loud")).lines().count(), 1);
    }
}
