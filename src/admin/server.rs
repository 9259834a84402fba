//! The admin listener: sockets and deadlines.
//!
//! A connection serves one request and is closed, so that nothing has to be said about idle ones:
//! every connection ends within [`LIFE`], whatever its peer does or leaves undone. HTTP/1 only: no
//! probe and no scraper speaks HTTP/2 in clear text.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::pages::respond;
use super::state::State;
use crate::telemetry::log_limit::{self, LineKind};

/// How many connections at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long the head of a request may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take altogether.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How many octets the head of a request may have.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How many headers a request may have.
const HEADERS_MAX: usize = 64;

/// How long to wait before the next try when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener` until it is dropped, and every connection with it.
pub async fn serve(listener: TcpListener, state: Arc<State>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve_connection(socket, Arc::clone(&state)));
                }
                Err(fault) => {
                    if log_limit::allow(LineKind::NotAccepted, &"admin") {
                        warn!(%fault, "admin connection not accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, one request.
async fn serve_connection(socket: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(respond(&request, &state))));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(CONNECTION_TIMEOUT, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => debug!(%fault, "admin connection failed"),
        Err(_) => debug!("admin connection took too long"),
    }
}
