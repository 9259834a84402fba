//! Sockets, tasks and time: where bytes move.
//!
//! ```text
//!   listen  -> takes a socket and a place in the budget, hands it to the least loaded
//!   worker  -> one thread each, with a runtime and a read buffer; runs one task a connection:
//!   relay   -> reads, passes on, writes; events of the client go
//!   upward  -> to the driver, those of a driver go
//!   downward-> to the client;
//!   admit   -> a stream becomes an exchange, passes the chain, finds its
//!   driver  -> the leg to one driver
//!   echo    -> what goes out as the same octets again
//!   endings -> every way in which things end
//!   clock   -> everything that takes too long
//! ```
//! Must never happen here: a lock or a wait on the way of a call, or a byte of one client's on
//! another client's leg.

mod admit;
mod clock;
mod downward;
mod driver;
mod echo;
mod endings;
mod exchange;
mod leg;
mod listen;
mod relay;
mod upward;
mod worker;

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use crate::proxy::worker::Told;

use crate::route::Live;
use crate::telemetry::Metrics;

/// How a proxy is run.
pub struct Options {
    /// Worker threads; at least one.
    pub workers: usize,
}

/// A proxy whose workers run.
pub struct Proxy {
    hands: Vec<worker::Hand>,
    told: watch::Sender<Told>,
    live: Live,
    metrics: Metrics,
}

impl Proxy {
    /// Starts the workers.
    ///
    /// # Errors
    /// The system's, when a thread or its runtime cannot be made.
    pub fn start(options: &Options, live: &Live, metrics: &Metrics) -> io::Result<Self> {
        let (told, hears) = watch::channel(Told::Serve);
        let hands = (0..options.workers.max(1))
            .map(|index| {
                let heard = hears.clone();
                worker::start(index, live.clone(), metrics.worker(), heard)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { hands, told, live: live.clone(), metrics: metrics.clone() })
    }

    /// Accepts until told otherwise.
    pub async fn accept(&self, listener: TcpListener) {
        let hears = self.told.subscribe();
        listen::accept(listener, &self.hands, &self.live, hears, self.metrics.worker()).await;
    }

    /// Tells every connection what to do from now on.
    pub fn tell(&self, told: Told) {
        self.told.send_replace(told);
    }

    /// Waits until every connection has ended, once they were told to.
    pub async fn ended(&self) {
        while self.hands.iter().any(|hand| !hand.thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
