//! Listen: takes sockets, as many as the budget has places for, and hands each to a worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Timeouts;
use crate::proxy::admit::whole;
use crate::proxy::leg;
use crate::proxy::worker::{Accepted, Hand, Place, Told};
use crate::route::Live;
use crate::telemetry::WorkerMetrics;

/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A client's host that answers nothing at all for so long is gone.
const DEAD_HOST: Duration = Duration::from_secs(20);

/// Accepts until told to leave.
pub(super) async fn accept(
    listener: TcpListener,
    hands: &[Hand],
    live: &Live,
    mut told: watch::Receiver<Told>,
    metrics: WorkerMetrics,
) {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut tuned = None;
    loop {
        let timeouts = live.load().timeouts;
        if tuned != Some(timeouts) {
            tune(&listener, &timeouts);
            tuned = Some(timeouts);
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
        let Some(place) = Place::take(&taken, whole(live.load().connections)) else {
            metrics.refused("connections.full");
            continue;
        };
        if let Ok(socket) = socket.into_std() {
            hand_over((socket, peer, place), hands).await;
        }
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

/// The worker with the fewest connections gets it.
async fn hand_over(accepted: Accepted, hands: &[Hand]) {
    let Some(hand) = hands.iter().min_by_key(|hand| hand.load.load(Ordering::Relaxed)) else {
        return;
    };
    hand.load.fetch_add(1, Ordering::Relaxed);
    if hand.sockets.send(accepted).await.is_err() {
        hand.load.fetch_sub(1, Ordering::Relaxed);
    }
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
