//! The log: one line for each event on stderr, as JSON or text.
//!
//! The level comes from the configuration and may change while the process runs. `RUST_LOG`
//! overrides it with directives (`info,sconce::proxy=debug`). Lines of libraries appear only if
//! `RUST_LOG` names their targets. Lines of the `log` crate never appear: they contain paths of the
//! build machine.
//!
//! Must never happen here: a worker that waits for the reader of stderr (see `log_queue`), a panic
//! because stderr is closed, and control characters from a peer: every field of every event is
//! escaped.

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

pub(crate) use super::log_queue::LogGuard;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One JSON object for each line; fields of the event beside `timestamp`, `level`, `message`.
    Json,
    /// Text; coloured if stderr is a terminal and `NO_COLOR` is not set.
    Pretty,
}

/// The log could not be started.
#[derive(Debug)]
pub(crate) enum LogError {
    /// The writer thread could not be started.
    NoThread(io::Error),
    /// A log was already started in this process.
    AlreadyStarted,
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoThread(error) => write!(f, "cannot start the log thread: {error}"),
            Self::AlreadyStarted => f.write_str("the log was already started in this process"),
        }
    }
}

impl std::error::Error for LogError {}

/// Prefix of the targets of sconce and its filters.
const TARGET_PREFIX: &str = "sconce";

/// Changes the log level. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogLevel {
    set: Arc<dyn Fn(LevelFilter) + Send + Sync>,
    /// Whether `RUST_LOG` overrides the configuration.
    is_overridden: bool,
}

impl LogLevel {
    /// Changes the level, and logs the change at a level that is enabled before or after it.
    pub(crate) fn change(&self, from: LevelFilter, to: LevelFilter) {
        if self.is_overridden {
            warn!(%to, "log.level changed, but RUST_LOG overrides it");
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

/// Starts the log of this process. Dropping the guard flushes the last lines.
///
/// # Errors
/// If the writer thread cannot be started, or a log was already started.
pub(crate) fn start(
    format: LogFormat,
    level: LevelFilter,
    metrics: &ControlMetrics,
) -> Result<(LogGuard, LogLevel), LogError> {
    let (queue, guard) =
        LogQueue::start(io::stderr(), metrics.clone()).map_err(LogError::NoThread)?;
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let (filter, invalid) = filter(level, directives.as_deref());
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let is_overridden = directives.is_some() && invalid.is_none();
    let (lines, handle) = subscriber(format, filter, coloured, queue);
    tracing::subscriber::set_global_default(lines).map_err(|_| LogError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(log_panic));
    if let Some(error) = invalid {
        warn!(error, "RUST_LOG is invalid; using log.level");
    }
    // Fails only after the subscriber was dropped.
    let set = Arc::new(move |level| drop(handle.reload(own_targets(level))));
    Ok((guard, LogLevel { set, is_overridden }))
}

/// Logs a panic as one line, without paths of the build machine.
fn log_panic(info: &PanicHookInfo<'_>) {
    let error = info.payload_as_str().unwrap_or("no message");
    let location = info.location().map(|at| source_location(at.file(), at.line()));
    let thread = std::thread::current();
    error!(error, location, thread = thread.name(), "panicked");
}

/// Source location, relative to the crate's folder.
fn source_location(file: &str, line: u32) -> String {
    let source = file.rfind("/src/").filter(|_| file.starts_with('/'));
    let crate_at = source.and_then(|source| file.get(..source)?.rfind('/'));
    let shown = crate_at.and_then(|slash| file.get(slash.saturating_add(1)..)).unwrap_or(file);
    format!("{shown}:{line}")
}

/// Enables sconce's own lines of this level.
fn own_targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::OFF).with_target(TARGET_PREFIX, level)
}

/// The filter, and the error in `directives` if they are invalid.
fn filter(level: LevelFilter, directives: Option<&str>) -> (Targets, Option<String>) {
    let configured = own_targets(level);
    match directives.map(str::parse::<Targets>) {
        None => (configured, None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (configured, Some(error.to_string())),
    }
}

fn subscriber(
    format: LogFormat,
    filter: Targets,
    coloured: bool,
    queue: LogQueue,
) -> (impl Subscriber + Send + Sync, reload::Handle<Targets, Registry>) {
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_ansi(coloured).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.with_writer(EscapedJson(queue)).json().flatten_event(true).boxed(),
        LogFormat::Pretty => lines.with_writer(queue).fmt_fields(EscapedFields).boxed(),
    };
    (tracing_subscriber::registry().with(lines.with_filter(filter)), handle)
}

/// Formats the fields of an event, including the message, without control characters.
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

/// Escapes control characters that JSON permits in strings.
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

    /// The log of two events, one of them below `info`.
    fn logged(format: LogFormat, directives: Option<&str>) -> String {
        logged_with(format, directives, false)
    }

    /// The same, optionally with an event that has control characters in all its parts.
    fn logged_with(format: LogFormat, directives: Option<&str>, has_control: bool) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let (queue, guard) = LogQueue::start(writer, Metrics::new("1").control()).unwrap();
        let filter = filter(LevelFilter::INFO, directives).0;
        let (lines, _) = subscriber(format, filter, false, queue);
        tracing::subscriber::with_default(lines, || {
            info!(address = %"127.0.0.1:1", admin = %"127.0.0.1:2", "listening");
            debug!("quiet");
            if has_control {
                let odd = "a\nb\u{1b}[31m\u{9b}\u{7f}\u{2028}\u{202e}";
                info!(display = %odd, debug = ?odd, text = odd, "message {odd}");
            }
        });
        drop(guard);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged(LogFormat::Json, None);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:1");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_is_one_line_with_fields_to_search_for() {
        let text = logged(LogFormat::Pretty, None);
        assert!(text.ends_with("listening address=127.0.0.1:1 admin=127.0.0.1:2\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn no_part_of_an_event_forges_a_line_or_controls_a_terminal() {
        for format in [LogFormat::Json, LogFormat::Pretty] {
            let text = logged_with(format, None, true);
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let is_plain = |line: &str| !line.contains(escape::is_control);
            assert!(text.split('\n').all(is_plain), "{text:?}");
            assert!(text.ends_with('\n') && text.matches("[31m").count() == 4, "{text:?}");
        }
    }

    #[test]
    fn the_location_of_a_panic_contains_no_path_of_the_build_machine() {
        for (file, shown) in [
            ("src/proxy/relay.rs", "src/proxy/relay.rs:7"),
            (
                "/home/b/.cargo/registry/src/index-0f/tokio-1.2.3/src/io/read.rs",
                "tokio-1.2.3/src/io/read.rs:7",
            ),
            ("/rustc/0f1e/library/core/src/option.rs", "core/src/option.rs:7"),
        ] {
            assert_eq!(source_location(file, 7), shown);
        }
    }

    #[test]
    fn lines_of_libraries_are_logged_only_if_rust_log_names_them() {
        let is_logged = |directives: Option<&str>| {
            let filter = filter(LevelFilter::INFO, directives).0;
            filter.would_enable("notify::inotify", &tracing::Level::WARN)
        };
        assert!(!is_logged(None));
        assert!(!is_logged(Some("sconce=debug")));
        assert!(is_logged(Some("notify=warn")));
        assert!(
            own_targets(LevelFilter::INFO)
                .would_enable("sconce_filters::team", &tracing::Level::INFO)
        );
    }

    #[test]
    fn directives_override_the_level() {
        assert_eq!(logged(LogFormat::Pretty, Some("debug")).lines().count(), 2);
        assert_eq!(logged(LogFormat::Pretty, Some("off")), "");
    }

    #[test]
    fn invalid_directives_are_reported_and_leave_the_level() {
        let (_, invalid) = filter(LevelFilter::INFO, Some("sconce=loud"));
        assert!(invalid.is_some());
        assert_eq!(logged(LogFormat::Pretty, Some("sconce=loud")).lines().count(), 1);
    }
}
