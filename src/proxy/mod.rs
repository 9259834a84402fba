//! Proxy: sockets, tasks and time. One task on one thread relays each client connection.
//!
//! ```text
//!   worker      one thread each, with a runtime: spawns the relay of each connection
//!   acceptor    accepts sockets within the connection limits, gives each to a worker
//!   relay/      one client connection with its streams and its upstream connections: polls the
//!               parts in order, and acts on what they return. The only layer that acts.
//!   context     the state that the connections of one thread share
//!   probe       reconnects to unreachable drivers without a call
//!   downstream/ the client's side: state, TLS handshakes, connections without an admitted call
//!   upstream/   the driver's side: connections, connecting, the idle pool
//!   stream/     one call: its bodies, token expiry, grace sessions
//!   budget/     buffered octets of all workers, and the share of each user
//!   net/        a socket with TLS and HTTP/2, header block caches, the budget of one poll
//!   connection_limits, keys, round_robin, shutdown, convert
//! ```
//! A part imports only parts below it in this list, and `downstream`, `upstream` and `stream` never
//! import each other: `tests/tidy.rs` keeps the table.
//!
//! Must never happen here: a lock or an await in the path of a call, or a byte of one client on the
//! upstream connection of another.

mod acceptor;
mod budget;
mod connection_limits;
mod context;
mod convert;
mod downstream;
mod keys;
mod net;
pub(crate) mod probe;
mod relay;
mod round_robin;
mod shutdown;
mod stream;
mod upstream;
mod worker;

use std::io;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

pub use crate::proxy::acceptor::listen;
pub use crate::proxy::net::certificate::read as read_certificate;
pub use crate::proxy::net::tls;
pub use crate::proxy::shutdown::Shutdown;

use crate::proxy::acceptor::{Acceptor, WorkerHandle};
use crate::proxy::context::SharedState;
use crate::proxy::worker::WorkerArgs;
use crate::route::SnapshotHandle;
use crate::telemetry::Metrics;

/// Options of a proxy.
pub struct Options {
    /// Worker threads; at least one.
    pub workers: usize,
}

/// A running proxy.
pub struct Proxy {
    threads: Vec<JoinHandle<()>>,
    shutdown_tx: watch::Sender<Shutdown>,
}

impl Proxy {
    /// Starts the workers, the first of which runs the acceptor.
    ///
    /// # Errors
    /// The system's, when a thread or its runtime cannot be created.
    pub fn start(
        options: &Options,
        listener: TcpListener,
        snapshots: &SnapshotHandle,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let (shutdown_tx, shutdown_rx) = watch::channel(Shutdown::Run);
        let workers: Vec<_> = (0..options.workers.max(1)).map(|_| WorkerHandle::new()).collect();
        let mut handles = workers.iter().map(|(handle, _)| handle.clone());
        let own = handles.next();
        let shared = SharedState::default();
        let mut acceptor = own.map(|own| Acceptor { listener, own, others: handles.collect() });
        let threads = workers.into_iter().enumerate().map(|(index, (handle, handoff_rx))| {
            let (snapshots, metrics) = (snapshots.clone(), metrics.worker());
            let (shutdown_rx, shared) = (shutdown_rx.clone(), shared.clone());
            let acceptor = acceptor.take();
            let args = WorkerArgs {
                snapshots,
                metrics,
                shutdown_rx,
                handle,
                handoff_rx,
                acceptor,
                shared,
            };
            worker::start(index, args)
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, shutdown_tx })
    }

    /// Begins a phase of the shutdown, for all connections.
    pub fn shutdown(&self, phase: Shutdown) {
        self.shutdown_tx.send_replace(phase);
    }

    /// Waits until all connections have closed after a shutdown.
    pub async fn wait_closed(&self) {
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
