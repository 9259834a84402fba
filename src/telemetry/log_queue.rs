//! The way of a log line to stderr, which may be slow, stuck or closed.
//!
//! A worker that logs puts the finished line into a bounded queue and goes on; one thread writes.
//! When the reader of stderr stalls, lines are given up and counted: never does a call wait for a
//! terminal, and never does a log hold more than [`OCTETS_MAX`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::ControlMetrics;

/// How many lines may wait.
const LINES_MAX: usize = 8192;

/// How many octets of lines may wait; a burst of long lines is cut by this.
const OCTETS_MAX: usize = 4 << 20;

/// Lines and octets that are kept free for warnings and errors: what strangers can cause is logged
/// at lower levels, and must not drown them.
const LINES_RESERVED: usize = 1024;
const OCTETS_RESERVED: usize = 512 << 10;

/// How many octets are written at once.
const BATCH_OCTETS: usize = 64 << 10;

/// How long the last lines may take when the process ends: so many pauses of such a length.
const FLUSH_PAUSES: u32 = 100;
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// The near end: takes lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    lines: SyncSender<Box<[u8]>>,
    usage: Arc<QueueUsage>,
    /// Whether what is written is a warning or an error.
    is_urgent: bool,
    metrics: ControlMetrics,
}

/// What has been logged and not been written.
#[derive(Debug, Default)]
struct QueueUsage {
    lines: AtomicUsize,
    octets: AtomicUsize,
}

impl QueueUsage {
    /// Counts a line, if it fits.
    fn try_add(&self, octets: usize, is_urgent: bool) -> bool {
        let (lines_max, octets_max) = if is_urgent {
            (LINES_MAX, OCTETS_MAX)
        } else {
            (LINES_MAX - LINES_RESERVED, OCTETS_MAX - OCTETS_RESERVED)
        };
        let lines = self.lines.fetch_add(1, Ordering::AcqRel);
        let before = self.octets.fetch_add(octets, Ordering::AcqRel);
        let fits = lines < lines_max && before.saturating_add(octets) <= octets_max;
        if !fits {
            self.remove(1, octets);
        }
        fits
    }

    fn remove(&self, lines: usize, octets: usize) {
        self.lines.fetch_sub(lines, Ordering::AcqRel);
        self.octets.fetch_sub(octets, Ordering::AcqRel);
    }
}

/// Keeps the log alive. When it is dropped, the lines that wait get a second to leave.
#[derive(Debug)]
#[must_use = "the last lines are lost if this is dropped at once"]
pub struct LogGuard {
    usage: Arc<QueueUsage>,
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        metrics: ControlMetrics,
    ) -> io::Result<(Self, LogGuard)> {
        let (lines, queue) = sync_channel(LINES_MAX);
        let waiting = Arc::default();
        let spool = Self { lines, usage: waiting, is_urgent: false, metrics: metrics.clone() };
        let waiting = Arc::clone(&spool.usage);
        let pump = LogWriter { queue, usage: Arc::clone(&waiting), metrics, out };
        thread::Builder::new().name("log".to_owned()).spawn(move || pump.run())?;
        Ok((spool, LogGuard { usage: waiting }))
    }
}

/// One line each: the formatter hands a whole line to one `write`.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.usage.try_add(line.len(), self.is_urgent) {
            self.metrics.log_lines_dropped(1);
        } else if self.lines.try_send(line.into()).is_err() {
            self.usage.remove(1, line.len());
            self.metrics.log_lines_dropped(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self {
        Self { is_urgent: *meta.level() <= Level::WARN, ..self.clone() }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        for _ in 0..FLUSH_PAUSES {
            if self.usage.lines.load(Ordering::Acquire) == 0 {
                return;
            }
            thread::sleep(FLUSH_PAUSE);
        }
    }
}

/// The far end: writes what waits, many lines at once.
struct LogWriter<W> {
    queue: Receiver<Box<[u8]>>,
    usage: Arc<QueueUsage>,
    metrics: ControlMetrics,
    out: W,
}

impl<W: Write> LogWriter<W> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_OCTETS);
        while let Ok(line) = self.queue.recv() {
            batch.extend_from_slice(&line);
            let mut lines = 1;
            while batch.len() < BATCH_OCTETS
                && let Ok(line) = self.queue.try_recv()
            {
                batch.extend_from_slice(&line);
                lines += 1;
            }
            // A reader that is gone is no reason to stop: the log is not what sconce is for.
            if self.out.write_all(&batch).and_then(|()| self.out.flush()).is_err() {
                self.metrics.log_lines_dropped(u64::try_from(lines).unwrap_or(u64::MAX));
            }
            self.usage.remove(lines, batch.len());
            batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::telemetry::{Metrics, MetricsFormat};

    fn dropped(metrics: &Metrics) -> u64 {
        let page = metrics.encode(MetricsFormat::Classic);
        let line =
            page.lines().find_map(|line| line.strip_prefix("sconce_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_the_loss_is_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let metrics = Metrics::new("1");
        let (mut spool, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        for _ in 0..200_000 {
            assert_eq!(spool.write(&line).unwrap(), line.len());
        }
        assert!(dropped(&metrics) > 100_000);
        assert!(guard.usage.octets.load(Ordering::Acquire) <= OCTETS_MAX);
        drop(spool);
        let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert!(lines.iter().all(|line| line.len() == 99));
        assert_eq!(lines.len() as u64 + dropped(&metrics), 200_000);
    }

    #[test]
    fn a_warning_finds_room_behind_a_flood_of_lesser_lines() {
        let (reader, writer) = io::pipe().unwrap();
        let metrics = Metrics::new("1");
        let (spool, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        let lines = tracing_subscriber::fmt().with_writer(spool).with_ansi(false).finish();
        tracing::subscriber::with_default(lines, || {
            (0..20_000).for_each(|_| tracing::info!("a stranger"));
            assert!(dropped(&metrics) > 0);
            let before = dropped(&metrics);
            (0..100).for_each(|_| tracing::warn!("the driver is gone"));
            assert_eq!(dropped(&metrics), before);
        });
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        let warnings = lines.filter(|line| line.ends_with("the driver is gone")).count();
        assert_eq!(warnings, 100);
        drop(guard);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let metrics = Metrics::new("1");
        let (mut spool, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        for _ in 0..10 {
            spool.write_all(b"nobody reads this\n").unwrap();
        }
        drop(guard);
        assert_eq!(dropped(&metrics), 10);
    }

    #[test]
    fn the_last_lines_leave_before_the_guard_is_gone() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut spool, guard) = LogQueue::start(writer, Metrics::new("1").control()).unwrap();
        for n in 0..100 {
            spool.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(guard);
        let mut all = BufReader::new(reader).lines();
        drop(spool);
        assert_eq!(all.by_ref().map(Result::unwrap).last().as_deref(), Some("99"));
    }
}
