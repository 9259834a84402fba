//! Listen: takes sockets, as many as the budget has places for, and gives each to a worker.
//!
//! One of the workers minds the door: what it keeps for itself crosses no thread.
//!
//! Must never happen here: a wait for anybody but the kernel. A worker that stands still is passed
//! over.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
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
use crate::proxy::h2_connection;
use crate::proxy::shutdown::Shutdown;
use crate::proxy::unauthenticated::EvictionState;
use crate::proxy::worker::WorkerContext;
use crate::telemetry::log_limit::{self, LineKind};

/// How long to wait when the system has no more descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A client's host that answers nothing at all for so long is gone.
const DEAD_HOST_TIMEOUT: Duration = Duration::from_secs(20);

/// Sockets that are accepted before the worker's connections have their turn.
const ACCEPT_BATCH: usize = 64;

/// Connections beyond the budget that are taken while as many are about to make room.
const EVICTING_MAX: usize = 64;

/// A socket to accept from. Without a `backlog` as many connections may wait as the kernel allows.
///
/// # Errors
/// The system's.
pub fn listen(address: SocketAddr, backlog: Option<u32>) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The kernel cuts what is more than it allows.
    let backlog = backlog.and_then(|backlog| i32::try_from(backlog).ok());
    socket.listen(backlog.unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Where clients come in.
pub(super) struct Acceptor {
    pub(super) listener: std::net::TcpListener,
    /// The worker that minds the door.
    pub(super) own: WorkerHandle,
    pub(super) others: Vec<WorkerHandle>,
}

impl Acceptor {
    /// Accepts until told to leave.
    pub(super) async fn run(self, worker: Rc<WorkerContext>, mut told: watch::Receiver<Shutdown>) {
        let Self { listener, own, others } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(fault) => return tracing::error!(%fault, "nothing can be accepted"),
        };
        let mut hands = WorkerSet { own, others, limits: ConnectionLimits::default() };
        let mut tuned = None;
        loop {
            let timeouts = worker.snapshot().timeouts;
            if tuned != Some(timeouts) {
                tune(&listener, &timeouts);
                tuned = Some(timeouts);
            }
            let mut next = tokio::select! {
                accepted = listener.accept() => Some(accepted),
                _ = told.wait_for(|told| *told != Shutdown::Run) => return,
            };
            for taken in 1..=ACCEPT_BATCH {
                match next {
                    Some(Ok(accepted)) => hands.accept(accepted, &worker),
                    Some(Err(fault)) if is_exhaustion(&fault) => {
                        if log_limit::allow(LineKind::NotAccepted, &()) {
                            tracing::error!(%fault, "no socket can be accepted");
                        }
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                        break;
                    }
                    Some(Err(_)) => {}
                    None => break,
                }
                // What is taken from the kernel is never left behind.
                next = if taken < ACCEPT_BATCH { try_accept(&listener).await } else { None };
            }
            yield_now().await;
        }
    }
}

/// The next connection that waits already, if any does.
async fn try_accept(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|context| {
        Poll::Ready(match listener.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        })
    })
    .await
}

/// The workers, and the places for connections.
struct WorkerSet {
    own: WorkerHandle,
    others: Vec<WorkerHandle>,
    limits: ConnectionLimits,
}

impl WorkerSet {
    /// Gives a socket to a worker, if there is a place for it.
    fn accept(&mut self, (socket, peer): (TcpStream, SocketAddr), worker: &Rc<WorkerContext>) {
        let snapshot = worker.snapshot();
        let is_exempt = snapshot.exempt_networks.iter().any(|network| network.contains(peer.ip()));
        let share = (!is_exempt).then_some(usize_from(snapshot.connections_per_source));
        match self.acquire_permit(peer, share, usize_from(snapshot.connections)) {
            Ok(place) => {
                if let Some(accepted) = self.hand_off((socket, peer, place)) {
                    worker.spawn_connection(accepted);
                }
            }
            Err(LimitExceeded::Total) => worker.metrics.call_refused("connections.full"),
            Err(LimitExceeded::Source) => {
                worker.metrics.call_refused("connections.source");
                let source = connection_limits::source(peer.ip());
                if log_limit::allow(LineKind::SourceFull, &source) {
                    tracing::warn!(%source, "connection refused: its source has too many");
                }
            }
        }
    }

    /// A place for a connection: a free one, or that of the oldest connection that had no admitted
    /// call, which has to go.
    fn acquire_permit(
        &mut self,
        peer: SocketAddr,
        share: Option<usize>,
        most: usize,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let source = connection_limits::source(peer.ip());
        match self.limits.acquire(source, share, most) {
            Err(LimitExceeded::Total) => {}
            taken => return taken,
        }
        let hands = self.others.iter().chain([&self.own]);
        let oldest = hands.filter_map(|hand| Some((hand.eviction.oldest()?, hand)));
        let (_, hand) = oldest.min_by_key(|(order, _)| *order).ok_or(LimitExceeded::Total)?;
        let place = self.limits.acquire(source, share, most.saturating_add(EVICTING_MAX))?;
        hand.eviction.request_eviction();
        Ok(place)
    }

    /// The worker with the fewest connections gets it, unless that one does not take what it was
    /// given before. What is left is for the worker that minds the door.
    fn hand_off(&self, (socket, peer, place): AcceptedSocket) -> Option<AcceptedSocket> {
        let load = |hand: &WorkerHandle| hand.load.load(Ordering::Relaxed);
        let has_room = |hand: &&WorkerHandle| hand.handoff_tx.capacity() > 0;
        let least = self.others.iter().filter(has_room).min_by_key(|hand| load(hand));
        let Some(hand) = least.filter(|least| load(least) < load(&self.own)) else {
            self.own.load.fetch_add(1, Ordering::Relaxed);
            return Some((socket, peer, place));
        };
        let Ok(socket) = socket.into_std() else { return None };
        hand.load.fetch_add(1, Ordering::Relaxed);
        match hand.handoff_tx.try_send((socket, peer, place)) {
            Ok(()) => None,
            Err(
                mpsc::error::TrySendError::Full((socket, peer, place))
                | mpsc::error::TrySendError::Closed((socket, peer, place)),
            ) => {
                hand.load.fetch_sub(1, Ordering::Relaxed);
                let socket = TcpStream::from_std(socket).ok()?;
                self.own.load.fetch_add(1, Ordering::Relaxed);
                Some((socket, peer, place))
            }
        }
    }
}

/// Sockets inherit what their listener has: that is cheaper than to tune each.
fn tune(listener: &TcpListener, timeouts: &Timeouts) {
    let ack = timeouts.keepalive_ack.max(DEAD_HOST_TIMEOUT);
    if let Err(fault) = h2_connection::tune(listener, timeouts.keepalive, ack) {
        tracing::error!(%fault, "the kernel will not look for dead clients");
    }
}

fn is_exhaustion(fault: &io::Error) -> bool {
    !matches!(
        fault.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A socket that was accepted, and its client's address.
pub(super) type AcceptedSocket = (TcpStream, SocketAddr, ConnectionPermit);

/// The same on its way to another thread.
pub(super) type HandedOff = (std::net::TcpStream, SocketAddr, ConnectionPermit);

/// A worker as others see it.
#[derive(Clone)]
pub(super) struct WorkerHandle {
    pub(super) handoff_tx: mpsc::Sender<HandedOff>,
    pub(super) load: Arc<AtomicUsize>,
    /// The oldest of its connections that had no admitted call.
    pub(super) eviction: Arc<EvictionState>,
}

impl WorkerHandle {
    /// A hand, and what the worker takes from it.
    pub(super) fn new() -> (Self, mpsc::Receiver<HandedOff>) {
        let (sockets, handed) = mpsc::channel(HANDOFF_QUEUE_MAX);
        (Self { handoff_tx: sockets, load: Arc::default(), eviction: Arc::default() }, handed)
    }
}

/// Sockets that may wait for their worker.
const HANDOFF_QUEUE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn an_accepted_socket_inherits_what_its_listener_was_tuned_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        h2_connection::tune(&listener, Duration::from_secs(7), Duration::from_secs(20)).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(27)));
        assert!(socket.tcp_notsent_lowat().unwrap() > 0);
    }

    /// A socket that was accepted.
    async fn accepted(places: &mut ConnectionLimits) -> AcceptedSocket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (_, accepted) = tokio::join!(client, listener.accept());
        let (socket, peer) = accepted.unwrap();
        (socket, peer, places.acquire(peer.ip(), None, 10_000).unwrap())
    }

    #[tokio::test]
    async fn a_worker_that_takes_no_sockets_is_passed_over_and_nobody_waits_for_it() {
        let (own, _) = WorkerHandle::new();
        let (stalled, stalled_takes) = WorkerHandle::new();
        let (other, mut other_takes) = WorkerHandle::new();
        own.load.store(1_000_000, Ordering::Relaxed);
        other.load.store(100_000, Ordering::Relaxed);
        let mut places = ConnectionLimits::default();
        let hands =
            WorkerSet { own, others: vec![stalled, other], limits: ConnectionLimits::default() };
        while hands.others[0].handoff_tx.capacity() > 0 {
            assert!(hands.hand_off(accepted(&mut places).await).is_none());
            assert!(other_takes.try_recv().is_err());
        }
        assert!(hands.hand_off(accepted(&mut places).await).is_none());
        assert!(other_takes.try_recv().is_ok(), "the next worker gets it");
        drop(other_takes);
        assert!(hands.hand_off(accepted(&mut places).await).is_some(), "the acceptor keeps it");
        assert_eq!(hands.others[1].load.load(Ordering::Relaxed), 100_001);
        drop(stalled_takes);
    }

    #[test]
    fn a_full_house_makes_room_where_the_oldest_newcomer_is_and_for_no_more_than_may_leave() {
        let peer = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 1);
        let ((own, _), (other, _)) = (WorkerHandle::new(), WorkerHandle::new());
        let mut hands = WorkerSet { own, others: vec![other], limits: ConnectionLimits::default() };
        let mut held: Vec<_> = (0..3).map(|_| hands.acquire_permit(peer, None, 3)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(
            hands.acquire_permit(peer, None, 3).err(),
            Some(LimitExceeded::Total),
            "nobody is there to go"
        );
        let all = crate::proxy::unauthenticated::UnauthenticatedConnections::new(
            hands.others[0].eviction.clone(),
        );
        let newcomer = all.register(2, peer);
        held.push(hands.acquire_permit(peer, None, 3));
        assert_eq!(
            hands.acquire_permit(peer, None, 3).err(),
            Some(LimitExceeded::Total),
            "one makes room for one"
        );
        drop(newcomer);
        let _newcomers: Vec<_> = (10..200).map(|order| all.register(order, peer)).collect();
        for _ in 1..EVICTING_MAX {
            held.push(hands.acquire_permit(peer, None, 3));
        }
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(hands.acquire_permit(peer, None, 3).err(), Some(LimitExceeded::Total));
        assert_eq!(hands.acquire_permit(peer, Some(0), 3).err(), Some(LimitExceeded::Source));
    }
}
