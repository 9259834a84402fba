//! The log: one line an event, to stderr, as JSON for machines or as text for people.
//!
//! The level comes from the configuration, and may change while the process runs; `RUST_LOG`, where
//! it is set, overrides it with directives (`info,sconce::proxy=debug`). It counts for lines of
//! sconce alone: what libraries say is for those who wrote them, and is shown if `RUST_LOG` names
//! them. Lines of the `log` crate are not taken at all: they carry paths of the build machine.
//!
//! What must never happen here: a worker that waits for whoever reads stderr (see `spool`), a panic
//! because nobody does, and a line, or a command to a terminal, that somebody else has written:
//! every field of every event is escaped here.

use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error, info, warn};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt, reload};

use super::ControlMetrics;
use super::escape::{self, EscapingWriter};
use super::log_queue::LogQueue;

pub use super::log_queue::LogGuard;

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
pub enum LogError {
    /// The system gave no thread to write with.
    NoThread(io::Error),
    /// Somebody has started a log in this process before.
    AlreadyStarted,
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoThread(fault) => write!(f, "no thread for the log: {fault}"),
            Self::AlreadyStarted => f.write_str("a log has been started in this process before"),
        }
    }
}

impl std::error::Error for LogError {}

/// The beginning of the targets of sconce's own lines: those of its filters are among them.
const TARGET_PREFIX: &str = "sconce";

/// How much is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    set: Arc<dyn Fn(LevelFilter) + Send + Sync>,
    /// Whether the environment has decided.
    is_overridden: bool,
}

impl LogLevel {
    /// Changes how much is logged, and logs that: by the level under which the line is seen.
    pub fn change(&self, from: LevelFilter, to: LevelFilter) {
        if self.is_overridden {
            warn!(%to, "log.level has changed, but RUST_LOG overrides it");
            return;
        }
        (self.set)(from.max(to));
        info!(%from, %to, "log level changed");
        (self.set)(to);
    }
}

impl Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLevel").field("is_overridden", &self.is_overridden).finish()
    }
}

/// Starts the log of this process. Keep the guard until the end: it sees the last lines out.
///
/// # Errors
/// When the system gives no thread, or a log was started before.
pub fn start(
    format: LogFormat,
    level: LevelFilter,
    metrics: &ControlMetrics,
) -> Result<(LogGuard, LogLevel), LogError> {
    let (spool, guard) =
        LogQueue::start(io::stderr(), metrics.clone()).map_err(LogError::NoThread)?;
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let (filter, complaint) = filter(level, directives.as_deref());
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let is_overridden = directives.is_some() && complaint.is_none();
    let (lines, handle) = subscriber(format, filter, coloured, spool);
    tracing::subscriber::set_global_default(lines).map_err(|_| LogError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(log_panic));
    if let Some(complaint) = complaint {
        warn!(complaint, "RUST_LOG is not understood: the configured level holds");
    }
    // It fails only once the log is gone.
    let set = Arc::new(move |level| drop(handle.reload(own_targets(level))));
    Ok((guard, LogLevel { set, is_overridden }))
}

/// A panic is a line like any other, without the paths of the machine that built the program.
fn log_panic(info: &PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("no reason given");
    let at = info.location().map(|at| place(at.file(), at.line())).unwrap_or_default();
    let thread = std::thread::current();
    error!(what, at, thread = thread.name(), "panicked");
}

/// Where in the source, from the folder of the crate on.
fn place(file: &str, line: u32) -> String {
    let source = file.rfind("/src/").filter(|_| file.starts_with('/'));
    let crate_at = source.and_then(|source| file.get(..source)?.rfind('/'));
    let shown = crate_at.and_then(|slash| file.get(slash.saturating_add(1)..)).unwrap_or(file);
    format!("{shown}:{line}")
}

/// sconce's own lines of this level.
fn own_targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::OFF).with_target(TARGET_PREFIX, level)
}

/// The filter, and what was wrong with `directives` if they could not be used.
fn filter(level: LevelFilter, directives: Option<&str>) -> (Targets, Option<String>) {
    let configured = own_targets(level);
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
    spool: LogQueue,
) -> (impl Subscriber + Send + Sync, reload::Handle<Targets, Registry>) {
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_ansi(coloured).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.with_writer(EscapedJson(spool)).json().flatten_event(true).boxed(),
        LogFormat::Pretty => lines.with_writer(spool).fmt_fields(EscapedFields).boxed(),
    };
    (tracing_subscriber::registry().with(lines.with_filter(filter)), handle)
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
        let mut escaping = EscapingWriter::for_terminal(&mut writer);
        DefaultFields::new().format_fields(Writer::new(&mut escaping), fields)
    }
}

/// Takes lines of JSON, and escapes the control characters that JSON leaves in texts.
#[derive(Clone, Debug)]
struct EscapedJson(LogQueue);

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
        let (spool, guard) = LogQueue::start(writer, Metrics::new("1").control()).unwrap();
        let filter = filter(LevelFilter::INFO, directives).0;
        let (lines, _) = subscriber(format, filter, false, spool);
        tracing::subscriber::with_default(lines, || {
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
    fn a_panic_says_where_without_the_folders_of_the_machine_that_built_it() {
        for (file, shown) in [
            ("src/proxy/relay.rs", "src/proxy/relay.rs:7"),
            (
                "/home/b/.cargo/registry/src/index-0f/tokio-1.2.3/src/io/read.rs",
                "tokio-1.2.3/src/io/read.rs:7",
            ),
            ("/rustc/0f1e/library/core/src/option.rs", "core/src/option.rs:7"),
        ] {
            assert_eq!(place(file, 7), shown);
        }
    }

    #[test]
    fn lines_of_libraries_are_shown_only_where_they_are_asked_for() {
        let said = |directives: Option<&str>| {
            let filter = filter(LevelFilter::INFO, directives).0;
            filter.would_enable("notify::inotify", &tracing::Level::WARN)
        };
        assert!(!said(None));
        assert!(!said(Some("sconce=debug")));
        assert!(said(Some("notify=warn")));
        assert!(
            own_targets(LevelFilter::INFO)
                .would_enable("sconce_filters::team", &tracing::Level::INFO)
        );
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
