//! The admin listener: sockets and timeouts.
//!
//! A connection serves one request and is closed within [`CONNECTION_TIMEOUT`]. HTTP/1 only: probes
//! and scrapers do not use HTTP/2 without TLS.

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

/// Maximum concurrent connections; more wait in the accept queue.
const CONNECTIONS_MAX: usize = 64;

/// Time to receive the request headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum duration of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of the request line and headers in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Maximum number of request headers.
const HEADERS_MAX: usize = 64;

/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the pages on `listener`. Dropping the future closes every connection.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) -> Infallible {
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
                Err(error) => {
                    if log_limit::allow(LineKind::NotAccepted, &"admin") {
                        warn!(%error, "cannot accept an admin connection");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one request on one connection.
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
        Ok(Err(error)) => debug!(%error, "admin connection failed"),
        Err(_) => debug!("admin connection timed out"),
    }
}
