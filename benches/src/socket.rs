//! The TCP sockets of load and stub driver.
//!
//! `h2` writes as it does of its own: small frames of one turn together, 16 KiB at most, and each
//! large DATA frame by itself. It would read 8 KiB at a time, though, and so measure its own
//! system calls; unless that is asked for, it reads from a buffer here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

/// How a socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All that is there, so that what is answered to it is answered at once.
    Whole,
    /// One read; then whoever got it has its turn, as in netty, and the next read comes after.
    OneRead,
    /// As `h2` does it with no buffer before it, about 8 KiB at a time.
    Plain,
}

impl Turn {
    /// A read takes so many octets at most.
    const fn read_max(self) -> usize {
        match self {
            Self::Whole => 128 << 10,
            Self::OneRead => 64 << 10,
            Self::Plain => 1,
        }
    }
}

/// A socket as `h2` is given it.
pub type Socket = BufReader<Reads>;

/// A stream that may want a pause after each read.
#[derive(Debug)]
pub struct Reads {
    stream: TcpStream,
    turn: Turn,
    /// Something was read in this turn.
    has_read: bool,
}

/// Takes a connected stream and switches Nagle's algorithm off.
///
/// # Errors
/// When the socket is dead already.
pub fn ready(stream: TcpStream, turn: Turn) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let reads = Reads { stream, turn, has_read: false };
    Ok(BufReader::with_capacity(turn.read_max(), reads))
}

impl AsyncRead for Reads {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn == Turn::OneRead && std::mem::take(&mut self.has_read) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.has_read = read.is_ready();
        read
    }
}

impl AsyncWrite for Reads {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
