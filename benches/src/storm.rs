//! Many connections at once: how long each waits for the server's SETTINGS.
//!
//! Every connection is opened before the first one is waited for, so that they meet the server's
//! accept queue together. The clock of each starts before its `connect()` and stops when the first
//! frame, which must be SETTINGS, has arrived in full.

use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock::now;
use crate::fault::Fault;
use crate::target::{self, Target};

/// The client's preface and an empty SETTINGS frame (RFC 9113, 3.4).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Octets of a frame's header.
const HEADER: usize = 9;
/// The type of a SETTINGS frame.
const SETTINGS: u8 = 4;

/// What the storm measured; times in milliseconds from `connect()` to SETTINGS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Connections that were opened.
    pub connections: usize,
    /// Connections that got no SETTINGS in time; they count in none of the times.
    pub failed: usize,
    /// Why the first of these failed.
    pub failure: Option<String>,
    /// Half of the connections had SETTINGS by then.
    pub p50_ms: f64,
    /// 99 of 100 connections had.
    pub p99_ms: f64,
    /// The last one had.
    pub max_ms: f64,
    /// From the first `connect()` to the last SETTINGS.
    pub total_ms: f64,
}

/// Opens so many connections at once and waits for SETTINGS on each, for at most `patience`.
///
/// # Errors
/// When a task of the storm died.
pub async fn run(
    target: &Target,
    connections: usize,
    patience: Duration,
) -> Result<Outcome, Fault> {
    let began = now();
    let mut opened = JoinSet::new();
    for _ in 0..connections {
        let target = target.clone();
        opened.spawn(async move {
            let began = now();
            let greeted = tokio::time::timeout(patience, greet(&target)).await;
            // The connection stays open until all have been measured.
            (began.elapsed(), greeted.map_err(|_| timed_out()).and_then(|it| it))
        });
    }
    let (mut times, mut held) = (Vec::new(), Vec::new());
    let (mut failed, mut failure) = (0, None);
    while let Some(done) = opened.join_next().await {
        match done.map_err(Fault::Task)? {
            (took, Ok(socket)) => {
                times.push(took);
                held.push(socket);
            }
            (_, Err(fault)) => {
                failed += 1;
                failure.get_or_insert_with(|| fault.to_string());
            }
        }
    }
    let total = began.elapsed();
    times.sort_unstable();
    Ok(Outcome {
        connections,
        failed,
        failure,
        p50_ms: millis(quantile(&times, 50)),
        p99_ms: millis(quantile(&times, 99)),
        max_ms: millis(quantile(&times, 100)),
        total_ms: millis(total),
    })
}

/// A socket that is only to be held open.
trait Held: Send {}
impl<T: Send> Held for T {}

async fn greet(target: &Target) -> Result<Box<dyn Held>, Fault> {
    let socket = TcpStream::connect(target.address).await.map_err(|e| Fault::Io("connect", e))?;
    socket.set_nodelay(true).map_err(|e| Fault::Io("socket", e))?;
    match target.tls() {
        None => Ok(Box::new(meet(socket).await?)),
        Some(tls) => Ok(Box::new(meet(target::shake(tls, socket).await?).await?)),
    }
}

async fn meet<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) -> Result<S, Fault> {
    socket.write_all(GREETING).await.map_err(|e| Fault::Io("preface", e))?;
    socket.flush().await.map_err(|e| Fault::Io("preface", e))?;
    let mut header = [0; HEADER];
    socket.read_exact(&mut header).await.map_err(|e| Fault::Io("SETTINGS", e))?;
    let [high, middle, low, kind, ..] = header;
    if kind != SETTINGS {
        return Err(Fault::Head(format!("the first frame has the type {kind}")));
    }
    let mut payload =
        vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
    socket.read_exact(&mut payload).await.map_err(|e| Fault::Io("SETTINGS", e))?;
    Ok(socket)
}

fn timed_out() -> Fault {
    Fault::Io("SETTINGS", std::io::ErrorKind::TimedOut.into())
}

/// The smallest time that so many of a hundred do not exceed (nearest rank); zero of none.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_quantile_is_the_time_of_the_nearest_rank() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Duration::from_millis(100));
        assert_eq!(quantile(&times, 99), Duration::from_millis(198));
        assert_eq!(quantile(&times, 100), Duration::from_millis(200));
        assert_eq!(quantile(&[], 99), Duration::ZERO);
    }

    #[tokio::test]
    async fn connections_that_get_no_settings_are_counted_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        let mut server = JoinSet::<()>::new();
        server.spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                if held.len() % 2 == 0 {
                    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                }
                held.push(socket);
            }
        });
        let outcome = run(&target, 10, Duration::from_millis(500)).await.unwrap();
        server.abort_all();
        assert_eq!((outcome.connections, outcome.failed), (10, 5));
        assert!(outcome.p50_ms > 0.0 && outcome.p50_ms <= outcome.max_ms);
    }
}
