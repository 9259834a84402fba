//! Listen: takes sockets, as many as the budget has places for, and gives each to a worker.
//!
//! One of the workers minds the door: what it keeps for itself crosses no thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Timeouts;
use crate::proxy::admit::whole;
use crate::proxy::leg;
use crate::proxy::worker::{Accepted, Hand, Place, Told, Worker};

/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A client's host that answers nothing at all for so long is gone.
const DEAD_HOST: Duration = Duration::from_secs(20);

/// Where clients come in.
pub(super) struct Door {
    pub(super) listener: std::net::TcpListener,
    /// The worker that minds the door.
    pub(super) own: Hand,
    pub(super) others: Vec<Hand>,
}

impl Door {
    /// Accepts until told to leave.
    pub(super) async fn accept(self, worker: Rc<Worker>, mut told: watch::Receiver<Told>) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(fault) => return tracing::error!(%fault, "nothing can be accepted"),
        };
        let taken = Arc::default();
        let mut tuned = None;
        loop {
            let snapshot = worker.latest();
            if tuned != Some(snapshot.timeouts) {
                tune(&listener, &snapshot.timeouts);
                tuned = Some(snapshot.timeouts);
            }
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = told.wait_for(|told| *told != Told::Serve) => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    if is_exhaustion(&fault) {
                        tracing::error!(%fault, "no socket can be accepted");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                    continue;
                }
            };
            let Some(place) = Place::take(&taken, whole(worker.latest().connections)) else {
                worker.metrics.refused("connections.full");
                continue;
            };
            give((socket, peer, place), &worker, &self.own, &self.others).await;
        }
    }
}

/// The worker with the fewest connections gets it.
async fn give(accepted: Accepted, worker: &Rc<Worker>, own: &Hand, others: &[Hand]) {
    let load = |hand: &Hand| hand.load.load(Ordering::Relaxed);
    let least = others.iter().min_by_key(|hand| load(hand));
    let hand = least.filter(|least| load(least) < load(own)).unwrap_or(own);
    hand.load.fetch_add(1, Ordering::Relaxed);
    if std::ptr::eq(hand, own) {
        return worker.adopt(accepted);
    }
    let (socket, peer, place) = accepted;
    let handed = match socket.into_std() {
        Ok(socket) => hand.sockets.send((socket, peer, place)).await.is_ok(),
        Err(_) => false,
    };
    if !handed {
        hand.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sockets inherit what their listener has: that is cheaper than to tune each.
fn tune(listener: &TcpListener, timeouts: &Timeouts) {
    let ack = timeouts.keepalive_ack.max(DEAD_HOST);
    if let Err(fault) = leg::tune(listener, timeouts.keepalive, ack) {
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn an_accepted_socket_inherits_what_its_listener_was_tuned_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        leg::tune(&listener, Duration::from_secs(7), Duration::from_secs(20)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(27)));
        assert!(socket.tcp_notsent_lowat().unwrap() > 0);
    }
}
