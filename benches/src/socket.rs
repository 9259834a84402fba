//! A TCP socket that hands over in few, large writes what `h2` writes frame by frame.
//!
//! `h2` flushes after every DATA frame. Real drivers and clients (netty, gRPC C-core) gather
//! frames, and a peer that makes a system call for each 16 KiB would measure itself. So a flush
//! of `h2` does nothing here; the task that drives the connection calls [`Socket::flush`] when it
//! has no more to do. Must never hold more than [`GATHER_MAX`] octets.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

/// So many octets wait at most for the next write.
const GATHER_MAX: usize = 256 << 10;
/// A read takes so many octets at most.
const READ_MAX: usize = 128 << 10;

/// One socket, held by `h2` and by the task that drives `h2`; never by two threads at a time.
#[derive(Clone, Debug)]
pub struct Socket(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
    sent: usize,
}

impl Socket {
    /// Takes a connected stream and switches Nagle's algorithm off.
    ///
    /// # Errors
    /// When the socket is dead already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(READ_MAX, stream);
        Ok(Self(Arc::new(Mutex::new(Inner { stream, out: Vec::new(), sent: 0 }))))
    }

    /// Writes what was gathered. Pending leaves the task to be woken when there is room.
    pub fn flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_out(cx)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(self.stream.get_mut()).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        self.out.clear();
        if self.out.capacity() > GATHER_MAX {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        let mut stream = Pin::new(&mut inner.stream);
        let waiting = ready!(stream.as_mut().poll_fill_buf(cx))?;
        let take = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..take).unwrap_or_default());
        stream.consume(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        if inner.out.len() >= GATHER_MAX {
            ready!(inner.poll_out(cx))?;
        }
        let take = buf.len().min(GATHER_MAX - inner.out.len());
        inner.out.extend_from_slice(buf.get(..take).unwrap_or_default());
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.poll_out(cx))?;
        Pin::new(inner.stream.get_mut()).poll_shutdown(cx)
    }
}
