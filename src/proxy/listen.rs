//! Listen: takes sockets, as many as the budget has places for, and hands each to a worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::proxy::admit::whole;
use crate::proxy::worker::{Accepted, Hand, Place, Told};
use crate::route::Live;
use crate::telemetry::WorkerMetrics;

/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Accepts until told to leave.
pub(super) async fn accept(
    listener: TcpListener,
    hands: &[Hand],
    live: &Live,
    mut told: watch::Receiver<Told>,
    metrics: WorkerMetrics,
) {
    let taken = Arc::new(AtomicUsize::new(0));
    loop {
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
