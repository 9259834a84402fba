//! The workloads by name: what each does, and how it stresses a proxy.

use std::time::Duration;

use clap::ValueEnum;

use crate::call::{Ask, Reading};
use crate::envelope::Method::{self, AddArtifacts, Config, ExecutePlan};
use crate::message::Messages;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// A configuration key has about so many octets, and a short query.
const KEY: usize = 32;
const SQL: usize = 128;
/// A download of W2 and an upload of W3 have so many octets.
const BULK: usize = 64 * MIB;
/// What a slow reader of W8 asks for.
const SLOW: usize = 16 * MIB;
/// It takes so long at least, or it would not be slow.
const SLOW_TIME: Duration = Duration::from_secs(5);
/// A slow reader gives credit in such steps.
const SLOW_STEP: usize = 128 * KIB;

/// A workload by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Unary calls, 50 connections with 10 streams each, closed loop.
    #[value(name = "W1")]
    Unary,
    /// The same, each call with a trace context of its own: no two heads are alike.
    #[value(name = "W1t")]
    UnaryTraced,
    /// Unary calls, 1 connection with 100 streams, closed loop.
    #[value(name = "W1b")]
    UnaryOne,
    /// Downloads of 64 messages of 1 MiB, one after another on one connection.
    #[value(name = "W2")]
    Download,
    /// The same on 4 connections at a time.
    #[value(name = "W2x4")]
    DownloadFour,
    /// Downloads of 1024 messages of 64 KiB on one connection.
    #[value(name = "W2b")]
    DownloadSmall,
    /// Uploads of 2048 messages of 32 KiB on one connection.
    #[value(name = "W3")]
    Upload,
    /// Uploads of 64 messages of 1 MiB on one connection.
    #[value(name = "W3m")]
    UploadLarge,
    /// Connections that have made one call each and stay.
    #[value(name = "W4")]
    Idle,
    /// Connect, one unary call, close; 4 at a time.
    #[value(name = "W5")]
    Churn,
    /// 500 unary calls a second on 10 connections, whether or not earlier ones have ended.
    #[value(name = "W6")]
    Open,
    /// 32 connections that each read 16 MiB slowly.
    #[value(name = "W8")]
    Slow,
    /// Uploads side by side on one connection, several times; not gated, for `benches/wan`.
    #[value(name = "W9")]
    Parallel,
    /// Unary calls one after another on one connection, 5 ms apart at least, with their latencies.
    #[value(name = "probe")]
    Probe,
    /// 8 connections with an endless download each, at whose side others are measured.
    #[value(name = "8-down")]
    EightDown,
    /// 8 connections with an upload each.
    #[value(name = "8-up")]
    EightUp,
}

/// How the calls of a workload follow one another.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Each stream makes its next call when the last has ended.
    Closed {
        /// Connections open at the same time.
        connections: usize,
        /// Calls open at the same time on each.
        streams: usize,
    },
    /// Connections that stay open after one call.
    Idle {
        /// How many.
        connections: usize,
    },
    /// A connection for each call.
    Churn {
        /// Connections open at the same time.
        lanes: usize,
    },
    /// A call whenever one is due.
    Open {
        /// Connections that take turns.
        connections: usize,
        /// Time between two calls.
        every: Duration,
    },
    /// One call on each connection, read slowly.
    Slow {
        /// How many.
        readers: usize,
    },
    /// Calls one after another, each of them timed.
    Probe,
    /// Calls at the same time on one connection; the next ones when all of them have ended.
    Parallel(Parallel),
}

/// The uploads of W9.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Parallel {
    /// W9: uploads at the same time.
    #[arg(long, default_value_t = Self::default().streams)]
    pub streams: usize,
    /// W9: how often.
    #[arg(long, default_value_t = Self::default().times)]
    pub times: usize,
    /// W9: octets of each upload, about.
    #[arg(long, default_value_t = Self::default().upload)]
    pub upload: usize,
    /// W9: octets of each message.
    #[arg(long, default_value_t = Self::default().message)]
    pub message: usize,
}

impl Default for Parallel {
    /// One artifact of 40 MB at a time, in PySpark's chunks.
    fn default() -> Self {
        Self { streams: 1, times: 3, upload: 40_000_000, message: 32 * KIB }
    }
}

/// What the command line may change.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Connections of W4.
    pub idle: usize,
    /// How long the measured part is.
    pub measure: Duration,
    /// What W9 does.
    pub parallel: Parallel,
}

impl Workload {
    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "W1",
            Self::UnaryTraced => "W1t",
            Self::UnaryOne => "W1b",
            Self::Download => "W2",
            Self::DownloadFour => "W2x4",
            Self::DownloadSmall => "W2b",
            Self::Upload => "W3",
            Self::UploadLarge => "W3m",
            Self::Idle => "W4",
            Self::Churn => "W5",
            Self::Open => "W6",
            Self::Slow => "W8",
            Self::Parallel => "W9",
            Self::Probe => "probe",
            Self::EightDown => "8-down",
            Self::EightUp => "8-up",
        }
    }

    /// How its calls follow one another.
    #[must_use]
    pub fn shape(self, scale: Scale) -> Shape {
        match self {
            Self::Unary | Self::UnaryTraced => Shape::Closed { connections: 50, streams: 10 },
            Self::UnaryOne => Shape::Closed { connections: 1, streams: 100 },
            Self::Download | Self::DownloadSmall | Self::Upload | Self::UploadLarge => {
                Shape::Closed { connections: 1, streams: 1 }
            }
            Self::EightDown | Self::EightUp => Shape::Closed { connections: 8, streams: 1 },
            Self::Probe => Shape::Probe,
            Self::DownloadFour => Shape::Closed { connections: 4, streams: 1 },
            Self::Idle => Shape::Idle { connections: scale.idle },
            Self::Churn => Shape::Churn { lanes: 4 },
            Self::Open => Shape::Open { connections: 10, every: Duration::from_millis(2) },
            Self::Slow => Shape::Slow { readers: 32 },
            Self::Parallel => Shape::Parallel(scale.parallel),
        }
    }

    /// The call it makes, over and over.
    #[must_use]
    pub fn ask(self, scale: Scale) -> Ask {
        match self {
            Self::Unary | Self::UnaryOne | Self::Idle | Self::Churn | Self::Open | Self::Probe => {
                ask(Config, (KEY, 1), (128, 1))
            }
            Self::UnaryTraced => Ask { traced: true, ..ask(Config, (KEY, 1), (128, 1)) },
            Self::Download | Self::DownloadFour | Self::EightDown => {
                ask(ExecutePlan, (SQL, 1), (MIB, BULK / MIB))
            }
            Self::DownloadSmall => ask(ExecutePlan, (SQL, 1), (64 * KIB, BULK / (64 * KIB))),
            Self::UploadLarge => ask(AddArtifacts, (MIB, BULK / MIB), (128, 1)),
            Self::Upload | Self::EightUp => {
                ask(AddArtifacts, (32 * KIB, BULK / (32 * KIB)), (128, 1))
            }
            Self::Parallel => {
                let Parallel { upload, message, .. } = scale.parallel;
                ask(AddArtifacts, (message, upload.div_ceil(message.max(1))), (128, 1))
            }
            Self::Slow => {
                let steps = u32::try_from(SLOW / SLOW_STEP).unwrap_or(u32::MAX);
                let reading =
                    Reading::Slow { step: SLOW_STEP, pause: SLOW_TIME.max(scale.measure) / steps };
                Ask { reading, ..ask(ExecutePlan, (SQL, 1), (MIB, SLOW / MIB)) }
            }
        }
    }
}

/// A call with messages up and down, each given as size of the pattern in it and count.
fn ask(method: Method, up: (usize, usize), down: (usize, usize)) -> Ask {
    Ask {
        method,
        upload: Messages::requests(method, up.0, None),
        upload_count: up.1 as u64,
        answer: Messages::answers(down.0),
        answer_count: down.1 as u64,
        reading: Reading::Eager,
        number: None,
        delay: Duration::ZERO,
        timeout: None,
        traced: false,
    }
}
