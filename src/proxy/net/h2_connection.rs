//! H2 connection: one socket and the HTTP/2 connection on it, with or without TLS.
//!
//! Reads into the worker's buffer and writes from the write buffer. Holds no buffer of its own
//! while nothing waits.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use sconce_filters::Certificate;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::ClientAuthorities;
use crate::proxy::net::poll_epoch::PollEpoch;
use crate::proxy::net::socket;
use crate::proxy::net::tls::{Decrypted, TlsStream};
use crate::wire::connection::{Connection, Event};
use crate::wire::write_buffer::SLICES_MAX;

/// Octets of one read from an idle connection.
const IDLE_READ: usize = 512;

/// See `write_failed_at`.
const NEVER: u64 = u64::MAX;

/// One socket and the HTTP/2 connection on it.
pub(crate) struct H2Connection {
    pub(crate) wire: Connection,
    socket: TcpStream,
    tls: Option<Box<TlsStream>>,
    /// The last poll in which the socket had nothing to read.
    drained_epoch: PollEpoch,
    /// When octets last arrived.
    last_read: Instant,
    /// Since when the socket has accepted nothing although octets wait.
    write_blocked_since: Option<Instant>,
    /// When the last PING was sent.
    ping_sent_at: Option<Instant>,
    /// The client speaks HTTP/2 in clear text where TLS is required.
    lacks_tls: bool,
    /// The offset in the write buffer at which writing failed: the peer is gone, but octets that it
    /// sent may wait in the socket. `NEVER` if writing has not failed.
    write_failed_at: u64,
}

impl H2Connection {
    pub(crate) fn new(
        socket: TcpStream,
        tls: Option<Box<TlsStream>>,
        wire: Connection,
        now: Instant,
    ) -> Self {
        Self {
            wire,
            socket,
            tls,
            drained_epoch: PollEpoch::default(),
            last_read: now,
            write_blocked_since: None,
            ping_sent_at: None,
            lacks_tls: false,
            write_failed_at: NEVER,
        }
    }

    /// Whether HTTP/2 frames can be exchanged: at once, or after the TLS handshake.
    pub(crate) fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    /// Whether the client speaks HTTP/2 in clear text where TLS is required.
    pub(crate) fn lacks_tls(&self) -> bool {
        self.lacks_tls
    }

    /// Whether a clear-text client has sent nothing yet.
    pub(crate) fn awaits_preface(&self) -> bool {
        self.tls.is_none() && self.wire.awaits_preface()
    }

    /// The client's certificate, which TLS has verified.
    pub(crate) fn certificate(&self) -> Option<Rc<Certificate>> {
        self.tls.as_ref().and_then(|tls| tls.certificate()).map(Rc::clone)
    }

    /// Withdraws the client's certificate if these authorities do not trust it. Returns true if it
    /// was withdrawn.
    pub(crate) fn withdraw_certificate_unless_trusted(
        &mut self,
        latest: Option<&Arc<ClientAuthorities>>,
        now: SystemTime,
    ) -> bool {
        self.tls.as_mut().is_some_and(|tls| tls.withdraw_unless_trusted(latest, now))
    }

    /// When octets last arrived.
    pub(crate) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// The socket is not read now: its silence means nothing.
    pub(crate) fn reset_silence(&mut self, now: Instant) {
        self.last_read = now;
        self.wire.reset_read_timer(now);
    }

    /// Since when the socket has accepted nothing although octets wait.
    pub(crate) fn write_blocked_since(&self) -> Option<Instant> {
        self.write_blocked_since
    }

    /// When the last PING was sent.
    pub(crate) fn ping_sent_at(&self) -> Option<Instant> {
        self.ping_sent_at
    }

    /// When the last PING was sent, if nothing has arrived since.
    pub(crate) fn unanswered_ping_sent_at(&self) -> Option<Instant> {
        self.ping_sent_at.filter(|sent| self.last_read <= *sent)
    }

    /// Octets that wait to be written.
    pub(crate) fn pending_bytes(&self) -> usize {
        let encrypted = self.tls.as_ref().map_or(0, |tls| tls.unsent().len());
        self.wire.write_buffer.len().saturating_add(encrypted)
    }

    /// Whether the socket may have octets to read; if not, the task is woken when it has.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(context)
    }

    /// Reads once, at most `most` octets. `Ok(0)` is the end. After `Pending` the socket is not
    /// read again in the same poll: the task will be woken.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        (into, most): (&mut [u8], usize),
        (turn, now): (PollEpoch, Instant),
    ) -> Poll<io::Result<usize>> {
        if self.drained_epoch == turn {
            return Poll::Pending;
        }
        let read = self.read(context, (into, most), now);
        if read.is_pending() {
            self.drained_epoch = turn;
        }
        read
    }

    fn read(
        &mut self,
        context: &mut Context<'_>,
        (into, most): (&mut [u8], usize),
        now: Instant,
    ) -> Poll<io::Result<usize>> {
        // After close_notify was sent, octets are drained without being decrypted.
        let Some(tls) = self.tls.as_mut().filter(|tls| !tls.has_sent_close_notify()) else {
            let read = poll_read(&mut self.socket, context, prefix(into, most));
            if let Poll::Ready(Ok(1..)) = read {
                self.last_read = now;
            }
            return read;
        };
        while !tls.is_peer_closed() {
            let socket = &mut self.socket;
            let decrypted = tls.decrypt(into, |buffer| {
                match poll_read(socket, context, prefix(buffer, most)) {
                    Poll::Ready(read) => read,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            match decrypted {
                Ok(Decrypted::Octets(octets)) => {
                    self.last_read = now;
                    let _: Poll<()> = write_encrypted(tls, &mut self.socket, context)?;
                    if octets > 0 {
                        return Poll::Ready(Ok(octets));
                    }
                }
                Ok(Decrypted::Cleartext(octets)) => {
                    self.last_read = now;
                    (self.tls, self.lacks_tls) = (None, true);
                    return Poll::Ready(Ok(octets));
                }
                Ok(Decrypted::Eof) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    // The alert, as far as the socket accepts it at once.
                    let _ = write_encrypted(tls, &mut self.socket, context);
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Writes until nothing waits or the socket is full. Then copies the rest of `lent`, which may
    /// be reused after this call. Returns true if octets were written.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        context: &mut Context<'_>,
        borrowed: &[u8],
        now: Instant,
    ) -> io::Result<bool> {
        if self.pending_bytes() == 0 || !self.is_established() {
            self.write_blocked_since = None;
            return Ok(false);
        }
        if !self.can_write() {
            self.wire.write_buffer.advance(usize::MAX);
            return Ok(false);
        }
        self.write(context, borrowed, now)
    }

    /// Discards output: nothing can be written any more, but octets that have arrived can be read.
    /// Returns true, since output changed.
    pub(crate) fn abandon_writes(&mut self) -> bool {
        self.write_failed_at = self.write_failed_at.min(self.wire.write_buffer.written());
        self.write_blocked_since = None;
        self.wire.write_buffer.advance(usize::MAX);
        true
    }

    pub(crate) fn can_write(&self) -> bool {
        self.write_failed_at == NEVER
    }

    /// Whether all octets before this offset of the write buffer have left, see
    /// `WriteBuffer::end_offset`.
    pub(crate) fn has_flushed(&self, end: u64) -> bool {
        end <= self.write_failed_at.min(self.wire.write_buffer.written())
    }

    fn write(
        &mut self,
        context: &mut Context<'_>,
        borrowed: &[u8],
        now: Instant,
    ) -> io::Result<bool> {
        let mut moved = false;
        while self.pending_bytes() > 0 {
            match self.write_once(context, borrowed) {
                Poll::Ready(Ok(written)) => {
                    self.wire.write_buffer.advance(written);
                    self.write_blocked_since = None;
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.wire.write_buffer.copy_borrowed(borrowed);
                    self.write_blocked_since.get_or_insert(now);
                    return Ok(moved);
                }
            }
        }
        self.write_blocked_since = None;
        Ok(moved)
    }

    /// Writes once. Returns the number of octets of the write buffer that were written.
    fn write_once(
        &mut self,
        context: &mut Context<'_>,
        borrowed: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { wire, socket, tls, .. } = self;
        if let Some(tls) = tls {
            ready!(write_encrypted(tls, socket, context))?;
        }
        if let (None, Some(all)) = (&tls, wire.write_buffer.single_slice()) {
            // Cheaper than a vectored write, and the common case.
            return Poll::Ready(reject_zero(ready!(Pin::new(socket).poll_write(context, all))));
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = wire.write_buffer.io_slices(borrowed, &mut slices);
        let slices = slices.get(..filled).unwrap_or_default();
        let Some(tls) = tls else {
            let written = ready!(Pin::new(socket).poll_write_vectored(context, slices));
            return Poll::Ready(reject_zero(written));
        };
        if filled == 0 {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(tls.encrypt(slices, |encrypted| {
            match Pin::new(socket).poll_write(context, encrypted) {
                Poll::Ready(written) => written,
                Poll::Pending => Ok(0),
            }
        }))
    }

    /// Reads what a driver has sent on an idle connection. Returns true if the connection is still
    /// healthy: the kernel knows of no end, and the driver has sent at most WINDOW_UPDATE and PING.
    /// Reads the socket directly, since the runtime learns of readiness a moment later.
    pub(crate) fn is_healthy_after_read(&mut self, now: Instant) -> bool {
        let mut octets = [0; IDLE_READ];
        match (&*SockRef::from(&self.socket)).read(&mut octets) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(read) => {
                self.last_read = now;
                // A driver that has sent more than this is not worth waiting for.
                (1..IDLE_READ).contains(&read)
                    && self.receive_idle(octets.get(..read).unwrap_or_default(), now)
                    && self.wire.is_reusable_once_flushed()
            }
        }
    }

    fn receive_idle(&mut self, mut octets: &[u8], now: Instant) -> bool {
        loop {
            match self.wire.receive(octets, now) {
                Ok((_, Event::NeedMoreData)) => return true,
                Ok((taken, Event::WindowUpdate { .. })) => {
                    octets = octets.get(taken..).unwrap_or_default();
                }
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// See [`socket::tune`].
    pub(crate) fn tune(&self, silence: Duration, ack: Duration) -> io::Result<()> {
        socket::tune(&self.socket, silence, ack)
    }

    /// Shuts down writing, after close_notify with TLS.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            ready!(write_encrypted(tls, &mut self.socket, context))?;
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    /// Sends a keepalive PING.
    pub(crate) fn send_ping(&mut self, now: Instant) {
        self.ping_sent_at = Some(now);
        self.wire.send_ping();
    }

    /// Whether the last PING has been unanswered for `patience`, and nothing has arrived since.
    pub(crate) fn is_ping_overdue(&self, now: Instant, patience: Duration) -> bool {
        self.ping_sent_at
            .is_some_and(|request| self.last_read <= request && now >= request + patience)
    }
}

/// A write of zero octets will never make progress.
fn reject_zero(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}

/// The first octets of a buffer, at most `most`.
fn prefix(buffer: &mut [u8], most: usize) -> &mut [u8] {
    let end = buffer.len().min(most);
    buffer.get_mut(..end).unwrap_or_default()
}

fn poll_read(
    socket: &mut TcpStream,
    context: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Writes encrypted records that wait.
fn write_encrypted(
    tls: &mut TlsStream,
    socket: &mut TcpStream,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !tls.unsent().is_empty() {
        match ready!(Pin::new(&mut *socket).poll_write(context, tls.unsent()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => tls.mark_sent(written),
        }
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use super::*;
    use crate::wire::connection::{LocalConfig, Role};
    use crate::wire::hpack::Limits;
    use crate::wire::settings::Settings;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn read(h2: &mut H2Connection, turn: PollEpoch) -> Poll<io::Result<usize>> {
        let (mut buffer, now) = ([0; 8], Instant::now());
        poll_fn(|context| {
            Poll::Ready(h2.poll_read(context, (&mut buffer, usize::MAX), (turn, now)))
        })
        .await
    }

    #[tokio::test]
    async fn a_drained_socket_is_read_again_in_the_next_poll_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let headers = Limits { octets: 1_000, count: 10 };
        let offer = LocalConfig { settings: Settings::INITIAL, window: 65_535, headers };
        let now = Instant::now();
        let mut h2 =
            H2Connection::new(socket, None, Connection::new(Role::Client, offer, now), now);
        let one = PollEpoch::default().next();
        assert!(read(&mut h2, one).await.is_pending());
        peer.write_all(b"abc").await.unwrap();
        h2.socket.readable().await.unwrap();
        assert!(read(&mut h2, one).await.is_pending());
        assert!(matches!(read(&mut h2, one.next()).await, Poll::Ready(Ok(3))));
    }
}
