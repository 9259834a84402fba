//! Acceptor: accepts sockets within the connection limits, and gives each to a worker.
//!
//! It runs on one of the workers: a socket that this worker keeps crosses no thread.
//!
//! Must never happen here: a wait for anything but the kernel. A worker that takes no sockets is
//! passed over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;

use crate::config::Timeouts;
use crate::proxy::connection_limits::{self, ConnectionLimits, ConnectionPermit, LimitExceeded};
use crate::proxy::convert::usize_from;
use crate::proxy::downstream::unauthenticated::EvictionState;
use crate::proxy::net::socket;
use crate::proxy::shutdown::Shutdown;
use crate::route::{Snapshot, SnapshotRef};
use crate::telemetry::WorkerMetrics;
use crate::telemetry::log_limit::{self, LineKind};

/// Delay before the next accept when the process has no file descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Least time after which the kernel ends the connection of a client's host that acknowledges
/// nothing.
const DEAD_HOST_TIMEOUT: Duration = Duration::from_secs(20);

/// Sockets that are accepted in a row before the tasks of the worker's connections run.
const ACCEPT_BATCH: usize = 64;

/// Connections above the limit that are accepted while as many others are being evicted.
const EVICTING_MAX: usize = 64;

/// Sockets that may wait for their worker.
const HANDOFF_QUEUE_MAX: usize = 256;

/// An accepted socket, its client's address and its permit.
pub(super) type AcceptedSocket = (TcpStream, SocketAddr, ConnectionPermit);
/// The same on its way to another thread.
pub(super) type HandedOff = (std::net::TcpStream, SocketAddr, ConnectionPermit);

/// A socket that listens on this address. Without a `backlog` the kernel's maximum is used.
///
/// # Errors
/// The system's.
pub fn listen(address: SocketAddr, backlog: Option<u32>) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The kernel reduces a backlog above its maximum.
    let backlog = backlog.and_then(|backlog| i32::try_from(backlog).ok());
    socket.listen(backlog.unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A worker as the acceptor sees it.
#[derive(Clone)]
pub(super) struct WorkerHandle {
    pub(super) handoff_tx: mpsc::Sender<HandedOff>,
    /// The number of its connections.
    pub(super) load: Arc<AtomicUsize>,
    /// Its connections without an admitted call.
    pub(super) eviction: Arc<EvictionState>,
}

impl WorkerHandle {
    /// A handle, and the receiver for its worker.
    pub(super) fn new() -> (Self, mpsc::Receiver<HandedOff>) {
        let (handoff_tx, handoff_rx) = mpsc::channel(HANDOFF_QUEUE_MAX);
        (Self { handoff_tx, load: Arc::default(), eviction: Arc::default() }, handoff_rx)
    }
}

/// Accepts the connections of all workers.
pub(super) struct Acceptor {
    pub(super) listener: std::net::TcpListener,
    /// The worker on which the acceptor runs.
    pub(super) own: WorkerHandle,
    pub(super) others: Vec<WorkerHandle>,
}

impl Acceptor {
    /// Accepts until shutdown begins. `spawn` runs a connection on the acceptor's own worker.
    pub(super) async fn run(
        self,
        snapshot: impl Fn() -> SnapshotRef,
        metrics: WorkerMetrics,
        mut shutdown_rx: watch::Receiver<Shutdown>,
        spawn: impl Fn(AcceptedSocket),
    ) {
        let Self { listener, own, others } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot use the listener"),
        };
        let mut workers = WorkerSet { own, others, limits: ConnectionLimits::default() };
        let mut tuned = None;
        loop {
            let timeouts = snapshot().timeouts;
            if tuned != Some(timeouts) {
                tune(&listener, &timeouts);
                tuned = Some(timeouts);
            }
            let mut next = tokio::select! {
                accepted = listener.accept() => Some(accepted),
                _ = shutdown_rx.wait_for(|shutdown| *shutdown != Shutdown::Run) => return,
            };
            for accepted in 1..=ACCEPT_BATCH {
                match next {
                    Some(Ok(socket)) => {
                        if let Some(own) = workers.accept(socket, &snapshot(), &metrics) {
                            spawn(own);
                        }
                    }
                    Some(Err(error)) if is_exhaustion(&error) => {
                        if log_limit::allow(LineKind::NotAccepted, &()) {
                            tracing::error!(%error, "accept failed");
                        }
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                        break;
                    }
                    Some(Err(_)) => {}
                    None => break,
                }
                // After the last one nothing is accepted, since the loop would drop it.
                next = if accepted < ACCEPT_BATCH { try_accept(&listener).await } else { None };
            }
            yield_now().await;
        }
    }
}

/// The next connection in the backlog, if there is one.
async fn try_accept(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|context| {
        Poll::Ready(match listener.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        })
    })
    .await
}

/// The workers, and the connection limits.
struct WorkerSet {
    own: WorkerHandle,
    others: Vec<WorkerHandle>,
    limits: ConnectionLimits,
}

impl WorkerSet {
    /// Gives a socket to another worker if the limits allow it. Returns a socket that the
    /// acceptor's own worker is to run.
    fn accept(
        &mut self,
        (socket, peer): (TcpStream, SocketAddr),
        snapshot: &Snapshot,
        metrics: &WorkerMetrics,
    ) -> Option<AcceptedSocket> {
        let is_exempt = snapshot.exempt_networks.iter().any(|network| network.contains(peer.ip()));
        let per_source = (!is_exempt).then_some(usize_from(snapshot.connections_per_source));
        match self.acquire_permit(peer, per_source, usize_from(snapshot.connections)) {
            Ok(permit) => return self.hand_off((socket, peer, permit)),
            Err(LimitExceeded::Total) => metrics.call_refused("connections.full"),
            Err(LimitExceeded::Source) => {
                metrics.call_refused("connections.source");
                let source = connection_limits::source(peer.ip());
                if log_limit::allow(LineKind::SourceFull, &source) {
                    tracing::warn!(%source, "connection refused: its source has too many");
                }
            }
        }
        None
    }

    /// A permit for a connection. Above the total limit, the oldest connection without an admitted
    /// call is evicted.
    fn acquire_permit(
        &mut self,
        peer: SocketAddr,
        per_source: Option<usize>,
        total: usize,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let source = connection_limits::source(peer.ip());
        match self.limits.acquire(source, per_source, total) {
            Err(LimitExceeded::Total) => {}
            result => return result,
        }
        let workers = self.others.iter().chain([&self.own]);
        let oldest = workers.filter_map(|worker| Some((worker.eviction.oldest()?, worker)));
        let (_, worker) =
            oldest.min_by_key(|(sequence, _)| *sequence).ok_or(LimitExceeded::Total)?;
        let total = total.saturating_add(EVICTING_MAX);
        let permit = self.limits.acquire(source, per_source, total)?;
        worker.eviction.request_eviction();
        Ok(permit)
    }

    /// Sends a socket to the worker with the fewest connections whose queue has capacity. Returns
    /// it if that is the acceptor's own worker.
    fn hand_off(&self, (socket, peer, permit): AcceptedSocket) -> Option<AcceptedSocket> {
        let load = |worker: &WorkerHandle| worker.load.load(Ordering::Relaxed);
        let has_capacity = |worker: &&WorkerHandle| worker.handoff_tx.capacity() > 0;
        let least = self.others.iter().filter(has_capacity).min_by_key(|worker| load(worker));
        let Some(worker) = least.filter(|least| load(least) < load(&self.own)) else {
            self.own.load.fetch_add(1, Ordering::Relaxed);
            return Some((socket, peer, permit));
        };
        let Ok(socket) = socket.into_std() else { return None };
        worker.load.fetch_add(1, Ordering::Relaxed);
        match worker.handoff_tx.try_send((socket, peer, permit)) {
            Ok(()) => None,
            Err(
                mpsc::error::TrySendError::Full((socket, peer, permit))
                | mpsc::error::TrySendError::Closed((socket, peer, permit)),
            ) => {
                worker.load.fetch_sub(1, Ordering::Relaxed);
                let socket = TcpStream::from_std(socket).ok()?;
                self.own.load.fetch_add(1, Ordering::Relaxed);
                Some((socket, peer, permit))
            }
        }
    }
}

/// Sets the options of the listener, which accepted sockets inherit: that is cheaper than to set
/// them on each.
fn tune(listener: &TcpListener, timeouts: &Timeouts) {
    let ack = timeouts.keepalive_ack.max(DEAD_HOST_TIMEOUT);
    if let Err(error) = socket::tune(listener, timeouts.keepalive, ack) {
        tracing::error!(%error, "cannot enable TCP keepalive");
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use socket2::SockRef;

    use super::*;
    use crate::proxy::downstream::unauthenticated::UnauthenticatedConnections;

    #[test]
    fn an_accepted_socket_inherits_the_options_of_its_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket::tune(&listener, Duration::from_secs(7), Duration::from_secs(20)).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(27)));
        assert!(socket.tcp_notsent_lowat().unwrap() > 0);
    }

    async fn accepted(limits: &mut ConnectionLimits) -> AcceptedSocket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_, accepted) = tokio::join!(client, listener.accept());
        let (socket, peer) = accepted.unwrap();
        (socket, peer, limits.acquire(peer.ip(), None, 10_000).unwrap())
    }

    #[tokio::test]
    async fn a_worker_that_takes_no_sockets_is_passed_over_without_a_wait() {
        let (own, _) = WorkerHandle::new();
        let (stalled, stalled_rx) = WorkerHandle::new();
        let (other, mut other_rx) = WorkerHandle::new();
        own.load.store(1_000_000, Ordering::Relaxed);
        other.load.store(100_000, Ordering::Relaxed);
        let mut limits = ConnectionLimits::default();
        let others = vec![stalled, other];
        let workers = WorkerSet { own, others, limits: ConnectionLimits::default() };
        while workers.others[0].handoff_tx.capacity() > 0 {
            assert!(workers.hand_off(accepted(&mut limits).await).is_none());
            assert!(other_rx.try_recv().is_err());
        }
        assert!(workers.hand_off(accepted(&mut limits).await).is_none());
        assert!(other_rx.try_recv().is_ok(), "the next worker gets it");
        drop(other_rx);
        assert!(workers.hand_off(accepted(&mut limits).await).is_some(), "the acceptor keeps it");
        assert_eq!(workers.others[1].load.load(Ordering::Relaxed), 100_001);
        drop(stalled_rx);
    }

    #[test]
    fn at_the_limit_the_oldest_unauthenticated_connection_is_evicted_and_only_so_many_at_once() {
        let peer = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 1);
        let ((own, _), (other, _)) = (WorkerHandle::new(), WorkerHandle::new());
        let limits = ConnectionLimits::default();
        let mut workers = WorkerSet { own, others: vec![other], limits };
        let mut permits: Vec<_> = (0..3).map(|_| workers.acquire_permit(peer, None, 3)).collect();
        assert!(permits.iter().all(Result::is_ok));
        let full = Some(LimitExceeded::Total);
        assert_eq!(workers.acquire_permit(peer, None, 3).err(), full, "nothing can be evicted");
        let registry = UnauthenticatedConnections::new(workers.others[0].eviction.clone());
        let connection = registry.register(2, peer);
        permits.push(workers.acquire_permit(peer, None, 3));
        assert_eq!(workers.acquire_permit(peer, None, 3).err(), full, "one permit per eviction");
        drop(connection);
        let _connections: Vec<_> = (10..200).map(|n| registry.register(n, peer)).collect();
        for _ in 1..EVICTING_MAX {
            permits.push(workers.acquire_permit(peer, None, 3));
        }
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(workers.acquire_permit(peer, None, 3).err(), full);
        let source_full = Some(LimitExceeded::Source);
        assert_eq!(workers.acquire_permit(peer, Some(0), 3).err(), source_full);
    }
}
