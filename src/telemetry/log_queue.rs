//! The queue from workers to the thread that writes the log to stderr.
//!
//! Workers put finished lines into a bounded queue and continue; one thread writes. If the reader
//! of stderr is slow, lines are dropped and counted: a call never waits for the log, and the queue
//! never exceeds [`BYTES_MAX`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::ControlMetrics;

/// Limit of queued lines.
const LINES_MAX: usize = 8192;

/// Limit of queued bytes.
const BYTES_MAX: usize = 4 << 20;

/// Part of the queue reserved for warnings and errors: lines that peers can cause have lower
/// levels, and must not displace them.
const LINES_RESERVED: usize = 1024;
const BYTES_RESERVED: usize = 512 << 10;

/// Target size of one write.
const BATCH_BYTES: usize = 64 << 10;

/// Time for the last lines at exit, as a number of pauses and the length of each.
const FLUSH_PAUSES: u32 = 100;
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// Sender of the queue. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    lines: SyncSender<Box<[u8]>>,
    usage: Arc<QueueUsage>,
    /// Whether this writer is for warnings and errors.
    is_urgent: bool,
    metrics: ControlMetrics,
}

/// Lines and bytes that are queued.
#[derive(Debug, Default)]
struct QueueUsage {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

impl QueueUsage {
    /// Adds a line if it fits.
    fn try_add(&self, bytes: usize, is_urgent: bool) -> bool {
        let (lines_max, bytes_max) = if is_urgent {
            (LINES_MAX, BYTES_MAX)
        } else {
            (LINES_MAX - LINES_RESERVED, BYTES_MAX - BYTES_RESERVED)
        };
        let lines = self.lines.fetch_add(1, Ordering::AcqRel);
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = lines < lines_max && before.saturating_add(bytes) <= bytes_max;
        if !fits {
            self.remove(1, bytes);
        }
        fits
    }

    fn remove(&self, lines: usize, bytes: usize) {
        self.lines.fetch_sub(lines, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Keeps the log running. Dropping it gives queued lines one second to be written.
#[derive(Debug)]
#[must_use = "the last lines are lost if this is dropped at once"]
pub(crate) struct LogGuard {
    usage: Arc<QueueUsage>,
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        metrics: ControlMetrics,
    ) -> io::Result<(Self, LogGuard)> {
        let (lines, received) = sync_channel(LINES_MAX);
        let usage = Arc::<QueueUsage>::default();
        let writer =
            LogWriter { lines: received, usage: Arc::clone(&usage), metrics: metrics.clone(), out };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        let guard = LogGuard { usage: Arc::clone(&usage) };
        Ok((Self { lines, usage, is_urgent: false, metrics }, guard))
    }
}

/// The formatter passes one whole line to each `write`.
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

/// Receiver of the queue: writes many lines at a time.
struct LogWriter<W> {
    lines: Receiver<Box<[u8]>>,
    usage: Arc<QueueUsage>,
    metrics: ControlMetrics,
    out: W,
}

impl<W: Write> LogWriter<W> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        while let Ok(line) = self.lines.recv() {
            batch.extend_from_slice(&line);
            let mut lines = 1;
            while batch.len() < BATCH_BYTES
                && let Ok(line) = self.lines.try_recv()
            {
                batch.extend_from_slice(&line);
                lines += 1;
            }
            // Write errors are counted and ignored: the log must not stop the proxy.
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
    fn a_stalled_reader_blocks_no_writer_and_dropped_lines_are_counted() {
        let (reader, writer) = io::pipe().unwrap();
        let metrics = Metrics::new("1");
        let (mut queue, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        for _ in 0..200_000 {
            assert_eq!(queue.write(&line).unwrap(), line.len());
        }
        assert!(dropped(&metrics) > 100_000);
        assert!(guard.usage.bytes.load(Ordering::Acquire) <= BYTES_MAX);
        drop(queue);
        let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert!(lines.iter().all(|line| line.len() == 99));
        assert_eq!(lines.len() as u64 + dropped(&metrics), 200_000);
    }

    #[test]
    fn warnings_fit_into_the_queue_behind_a_flood_of_info_lines() {
        let (reader, writer) = io::pipe().unwrap();
        let metrics = Metrics::new("1");
        let (queue, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        let lines = tracing_subscriber::fmt().with_writer(queue).with_ansi(false).finish();
        tracing::subscriber::with_default(lines, || {
            (0..20_000).for_each(|_| tracing::info!("flood"));
            assert!(dropped(&metrics) > 0);
            let before = dropped(&metrics);
            (0..100).for_each(|_| tracing::warn!("the warning"));
            assert_eq!(dropped(&metrics), before);
        });
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        let warnings = lines.filter(|line| line.ends_with("the warning")).count();
        assert_eq!(warnings, 100);
        drop(guard);
    }

    #[test]
    fn a_closed_reader_only_drops_lines() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let metrics = Metrics::new("1");
        let (mut queue, guard) = LogQueue::start(writer, metrics.control()).unwrap();
        for _ in 0..10 {
            queue.write_all(b"dropped\n").unwrap();
        }
        drop(guard);
        assert_eq!(dropped(&metrics), 10);
    }

    #[test]
    fn dropping_the_guard_writes_the_last_lines() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut queue, guard) = LogQueue::start(writer, Metrics::new("1").control()).unwrap();
        for n in 0..100 {
            queue.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(guard);
        let mut all = BufReader::new(reader).lines();
        drop(queue);
        assert_eq!(all.by_ref().map(Result::unwrap).last().as_deref(), Some("99"));
    }
}
