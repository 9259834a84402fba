//! One client connection, with the windows that gRPC C-core clients grow to.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};

use crate::fault::Fault;
use crate::socket;
use crate::target::{self, Target};

/// Octets that a client takes on a stream, and on a connection, before it must give credit.
pub const CLIENT_WINDOW: u32 = 4 << 20;
/// `h2` counts overhead of small DATA frames; how a proxy cuts its frames is no fault here.
pub const FRAME_BUDGET: usize = 64 << 20;
/// A connection that takes longer to open or close means that something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open connection; dropping it cuts it off, [`Line::close`] says goodbye.
#[derive(Debug)]
pub struct Line {
    sender: SendRequest<Bytes>,
    driver: JoinSet<Result<(), h2::Error>>,
}

impl Line {
    /// Dials `target` and sends the preface.
    ///
    /// # Errors
    /// When nobody listens there, or whoever does speaks no HTTP/2, or no TLS where it should.
    pub async fn open(target: &Target) -> Result<Self, Fault> {
        let stream = TcpStream::connect(target.address).await;
        let stream = stream.map_err(|e| Fault::Io("connect", e))?;
        let socket = socket::ready(stream, target.turn).map_err(|e| Fault::Io("socket", e))?;
        match target.tls() {
            None => Self::begin(socket).await,
            Some(tls) => Self::begin(target::shake(tls, socket).await?).await,
        }
    }

    async fn begin<S>(socket: S) -> Result<Self, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .initial_window_size(CLIENT_WINDOW)
            .initial_connection_window_size(CLIENT_WINDOW)
            .data_frame_budget(FRAME_BUDGET)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(|e| Fault::Http2("handshake", e))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { sender, driver })
    }

    /// Something to make calls with; clones share the connection.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Waits until the connection has ended of itself, which only its other end can bring about.
    ///
    /// # Errors
    /// When it did not end in good order.
    pub async fn ended(&mut self) -> Result<(), Fault> {
        settle(self.driver.join_next().await)
    }

    /// Sends GOAWAY, and waits until the socket is closed.
    ///
    /// # Errors
    /// When the connection failed meanwhile, or does not end.
    pub async fn close(mut self) -> Result<(), Fault> {
        drop(self.sender);
        let ended = tokio::time::timeout(PATIENCE, self.driver.join_next());
        match ended.await {
            Err(_) => Err(Fault::Io("close", std::io::ErrorKind::TimedOut.into())),
            Ok(ended) => settle(ended),
        }
    }
}

fn settle(ended: Option<Result<Result<(), h2::Error>, JoinError>>) -> Result<(), Fault> {
    match ended {
        None => Ok(()),
        Some(Err(death)) => Err(Fault::Task(death)),
        Some(Ok(ended)) => ended.map_err(|e| Fault::Http2("connection", e)),
    }
}
