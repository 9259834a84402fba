//! Leg: one socket and the HTTP/2 connection on it, towards a client or towards a driver.
//!
//! Reads into a buffer that belongs to the thread, writes what waits in the outbox. Holds no
//! buffer of its own while nothing waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::wire::connection::Connection;
use crate::wire::outbox::SLICES_MAX;

/// Octets that the kernel may hold unsent for one socket before it says that it is full.
const UNSENT_MAX: u32 = 128 * 1024;

/// One socket and the HTTP/2 connection on it.
pub(super) struct Leg {
    pub(super) wire: Connection,
    socket: TcpStream,
    /// When octets last came.
    pub(super) heard: Instant,
    /// Since when the socket takes nothing although something waits.
    pub(super) blocked: Option<Instant>,
    /// When we last asked, by PING, whether the peer is there.
    pub(super) asked: Option<Instant>,
}

impl Leg {
    pub(super) fn new(socket: TcpStream, wire: Connection, now: Instant) -> Self {
        Self { wire, socket, heard: now, blocked: None, asked: None }
    }

    /// Reads once. `Ok(0)` is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                self.heard = now;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes what waits until nothing does or the socket is full. Then keeps what still lies in
    /// `lent`, which may be used again. Says whether any octet left.
    #[inline]
    pub(super) fn flush(
        &mut self,
        context: &mut Context<'_>,
        lent: &[u8],
        now: Instant,
    ) -> io::Result<bool> {
        if self.wire.out.is_empty() {
            self.blocked = None;
            return Ok(false);
        }
        self.write(context, lent, now)
    }

    fn write(&mut self, context: &mut Context<'_>, lent: &[u8], now: Instant) -> io::Result<bool> {
        let mut moved = false;
        while !self.wire.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = self.wire.out.slices(lent, &mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            match Pin::new(&mut self.socket).poll_write_vectored(context, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.wire.out.advance(written);
                    self.blocked = None;
                    moved = true;
                }
                Poll::Ready(Err(fault)) => return Err(fault),
                Poll::Pending => {
                    self.wire.out.keep(lent);
                    self.blocked.get_or_insert(now);
                    return Ok(moved);
                }
            }
        }
        self.blocked = None;
        Ok(moved)
    }

    /// See [`tune`].
    pub(super) fn tune(&self, silence: Duration, ack: Duration) -> io::Result<()> {
        tune(&self.socket, silence, ack)
    }

    /// Tells the peer that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    /// Asks by PING whether the peer is there.
    pub(super) fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        self.wire.ask();
    }

    /// Whether a question of ours has waited for longer than that, and nothing was heard since.
    pub(super) fn is_silent_since_asked(&self, now: Instant, patience: Duration) -> bool {
        self.asked.is_some_and(|asked| self.heard <= asked && now >= asked + patience)
    }
}

/// Sets what every socket of ours wants: no delay, dead peers found by the kernel, few octets
/// unsent. A dead host is found within `silence` + `ack`. What a listener accepts inherits it all.
pub(super) fn tune<'s>(
    socket: impl Into<SockRef<'s>>,
    silence: Duration,
    ack: Duration,
) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    let probe = (ack / 3).max(Duration::from_secs(1));
    let idle = silence.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(probe).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(silence + ack))?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    }
    Ok(())
}
