//! Sockets, tasks and time: where bytes move.
//!
//! ```text
//!   listen  -> takes a socket and a place in the budget, gives it to the least loaded
//!   places  -> that budget, and the share of each source
//!   newcomers, handshakes -> connections that have proved nothing yet
//!   worker  -> one thread each, with a runtime and a read buffer; runs one task a connection:
//!   relay   -> reads, passes on, writes;
//!   turn    -> what one connection may do before the others of its worker run
//!   read    -> octets become events; those of the client go
//!   upward  -> to the driver, those of a driver go
//!   downward-> to the client;
//!   rotation -> in turn, where streams share what is scarce
//!   admit, queue -> a stream becomes an exchange, passes the chain, waits for its
//!   driver  -> the leg to one driver, which
//!   dial    -> reaches at one of its addresses
//!   probe   -> tries drivers that were unreachable
//!   shelf   -> legs that nobody uses, for the next client connection
//!   tls, records -> records of a client's connection, opened and sealed
//!   cleartext -> clients without TLS where it is due, and with TLS where it is not
//!   stamp   -> the verified caller, written into every message on its way up
//!   buffer  -> octets that wait to be passed on
//!   parked, user_share -> what waits for drivers that do not take it, in all and of each user
//!   echo    -> what goes out as the same octets again
//!   endings -> every way in which things end
//!   malformed -> header lists that break a rule
//!   refusal_log -> what the log says of calls that are refused
//!   refused -> what a client is charged for calls that are refused
//!   clock   -> everything that takes too long
//!   lease, tenure -> streams, and sessions, that outlive the proof of their caller
//!   recheck -> permission, asked again when a request is complete
//! ```
//! Must never happen here: a lock or a wait on the way of a call, or a byte of one client's on
//! another client's leg.

mod acceptor;
mod admit;
mod budget;
mod buffer;
mod buffering;
mod certificate;
mod cleartext;
mod connect;
mod connection_limits;
mod context;
mod convert;
mod dispatch;
mod download;
mod downstream;
mod end;
mod eviction;
mod expiry;
mod gauge;
mod grace;
mod h2_connection;
mod handshakes;
mod header_cache;
mod malformed;
mod poll_budget;
mod poll_epoch;
mod pool;
pub mod probe;
mod read;
mod read_pause;
mod reauth;
mod recheck;
mod refusal_budget;
mod refusal_log;
mod relay;
mod removals;
mod request;
mod request_id;
mod round_robin;
mod shutdown;
mod stream;
mod timers;
pub mod tls;
mod tls_records;
mod unauthenticated;
mod upload;
mod upstream;
mod user_context;
mod user_share;
mod worker;

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

pub use crate::proxy::acceptor::listen;
pub use crate::proxy::certificate::read as read_certificate;
pub use crate::proxy::shutdown::Shutdown;

use crate::proxy::acceptor::{Acceptor, WorkerHandle};
use crate::proxy::context::SharedState;
use crate::proxy::worker::WorkerArgs;
use crate::route::SnapshotHandle;
use crate::telemetry::Metrics;

/// How a proxy is run.
pub struct Options {
    /// Worker threads; at least one.
    pub workers: usize,
}

/// A proxy whose workers run.
pub struct Proxy {
    threads: Vec<JoinHandle<()>>,
    shutdown_tx: watch::Sender<Shutdown>,
}

impl Proxy {
    /// Starts the workers, the first of which accepts until told otherwise.
    ///
    /// # Errors
    /// The system's, when a thread or its runtime cannot be made.
    pub fn start(
        options: &Options,
        listener: TcpListener,
        live: &SnapshotHandle,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let (told, hears) = watch::channel(Shutdown::Run);
        let workers: Vec<_> = (0..options.workers.max(1)).map(|_| WorkerHandle::new()).collect();
        let mut hands = workers.iter().map(|(hand, _)| hand.clone());
        let own = hands.next();
        let shared = SharedState::default();
        let mut door = own.map(|own| Acceptor { listener, own, others: hands.collect() });
        let threads = workers.into_iter().enumerate().map(|(index, (hand, handed))| {
            let (live, metrics, told) = (live.clone(), metrics.worker(), hears.clone());
            let (shared, door) = (shared.clone(), door.take());
            worker::start(
                index,
                WorkerArgs {
                    snapshots: live,
                    metrics,
                    shutdown_rx: told,
                    handle: hand,
                    handoff_rx: handed,
                    acceptor: door,
                    shared,
                },
            )
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, shutdown_tx: told })
    }

    /// Tells every connection what to do from now on.
    pub fn shutdown(&self, told: Shutdown) {
        self.shutdown_tx.send_replace(told);
    }

    /// Waits until every connection has ended, once they were told to.
    pub async fn wait_closed(&self) {
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
