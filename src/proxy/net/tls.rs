//! TLS on a client's socket, without I/O: records in, octets of HTTP/2 out, and back.
//!
//! Records are decrypted and encrypted in one buffer of the worker. A connection keeps only a
//! partial record, and records that its socket has not accepted: an idle one has no buffer. Public
//! for the fuzz target alone.
//!
//! Must never happen here: octets of HTTP/2 before the handshake has ended, or another protocol
//! than h2.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{Error, InvalidMessage, ServerConfig};
use sconce_filters::Certificate;

use crate::config::ClientAuthorities;
use crate::proxy::net::certificate;
use crate::proxy::net::tls_records::{
    RECORD_OVERHEAD, copy, encode, gather, is_alert, whole_records,
};
use crate::wire::frame::PREFACE;

/// Octets that are read and decrypted at one time.
const BUFFER_SIZE: usize = 256 * 1024;
/// Plaintext octets that are encrypted for one write.
const ENCRYPT_MAX: usize = 64 * 1024;
/// Octets of an incomplete message that are kept. A handshake message has at most 64 KiB (a limit
/// of rustls), and its records add little, unless the peer fragments it.
pub const PARTIAL_RECORD_MAX: usize = 96 * 1024;
/// Steps without an octet of traffic after which a connection counts as broken.
const STEPS_MAX: usize = 64;

/// The buffer of a worker.
#[derive(Clone, Default)]
pub struct TlsBuffer(Rc<RefCell<Vec<u8>>>);

/// The TLS of one connection.
pub struct TlsStream {
    connection: UnbufferedServerConnection,
    buffer: TlsBuffer,
    /// The beginning of a record that is not complete.
    partial_record: Vec<u8>,
    /// Records that the socket has not accepted yet.
    unsent: Vec<u8>,
    /// Octets of `unsent` that it has accepted.
    sent: usize,
    /// Whether nothing has arrived that is certainly TLS.
    is_new: bool,
    is_established: bool,
    is_peer_closed: bool,
    has_sent_close_notify: bool,
    /// The client's certificate, after its verification.
    certificate: Option<Rc<Certificate>>,
    /// The authorities that verified it.
    authorities: Option<Arc<ClientAuthorities>>,
}

impl TlsStream {
    /// A connection at the beginning of its handshake.
    ///
    /// # Errors
    /// A configuration that rustls rejects.
    pub fn new(config: Arc<ServerConfig>, buffer: TlsBuffer) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            buffer,
            partial_record: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            is_new: true,
            is_established: false,
            is_peer_closed: false,
            has_sent_close_notify: false,
            certificate: None,
            authorities: None,
        })
    }

    /// Whether the handshake has ended.
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// The client's certificate, which TLS has verified.
    pub fn certificate(&self) -> Option<&Rc<Certificate>> {
        self.certificate.as_ref()
    }

    /// Whether the peer has sent close_notify.
    pub fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// Octets that are kept of an incomplete record.
    pub fn partial_record_len(&self) -> usize {
        self.partial_record.len()
    }

    /// Records that wait for the socket.
    pub fn unsent(&self) -> &[u8] {
        self.unsent.get(self.sent..).unwrap_or_default()
    }

    /// The socket has accepted this number of octets of [`Self::unsent`].
    pub fn mark_sent(&mut self, octets: usize) {
        self.sent = self.sent.saturating_add(octets);
        if self.unsent().is_empty() {
            self.unsent = Vec::new();
            self.sent = 0;
        }
    }

    /// Reads records with `read`, which fills a buffer, and decrypts them into `into`.
    ///
    /// # Errors
    /// The error of `read`, in which case nothing has changed; or a violation by the peer, as
    /// [`io::ErrorKind::InvalidData`], in which case an alert may wait to be sent.
    pub fn decrypt(
        &mut self,
        into: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decrypted> {
        let buffer = Rc::clone(&self.buffer.0);
        let Ok(mut buffer) = buffer.try_borrow_mut() else {
            return Err(io::ErrorKind::Other.into());
        };
        buffer.resize(BUFFER_SIZE, 0);
        // Plaintext is shorter than its record, so that it always fits.
        let end = buffer.len().min(into.len());
        let begun = self.partial_record.len();
        let encrypted = buffer.get_mut(..end).unwrap_or_default();
        let Some((kept, free)) = encrypted.split_at_mut_checked(begun) else {
            return Err(invalid_data(&Error::PeerSentOversizedRecord));
        };
        kept.copy_from_slice(&self.partial_record);
        let octets = read(free)?;
        if octets == 0 {
            return Ok(Decrypted::Eof);
        }
        let encrypted = encrypted.get_mut(..begun.saturating_add(octets)).unwrap_or_default();
        if self.is_new && PREFACE.starts_with(encrypted.get(..PREFACE.len()).unwrap_or(encrypted)) {
            return Ok(self.take_cleartext(encrypted, into));
        }
        self.is_new = false;
        self.decrypt_all(encrypted, into)
            .map(Decrypted::Octets)
            .map_err(|error| invalid_data(&error))
    }

    /// No TLS record begins like the preface of HTTP/2. An incomplete preface is kept.
    fn take_cleartext(&mut self, octets: &[u8], into: &mut [u8]) -> Decrypted {
        self.partial_record.clear();
        if octets.len() < PREFACE.len() {
            self.partial_record.extend_from_slice(octets);
            return Decrypted::Octets(0);
        }
        Decrypted::Cleartext(copy(octets, into, 0))
    }

    fn decrypt_all(&mut self, encrypted: &mut [u8], into: &mut [u8]) -> Result<usize, Error> {
        let (mut at, mut filled, mut idle) = (0_usize, 0_usize, 0_usize);
        loop {
            let before = (at, filled);
            let rest = encrypted.get_mut(at..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(rest);
            let mut more = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard = discard.saturating_add(record.discard);
                        filled = copy(record.payload, into, filled);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    more = false;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.is_peer_closed = true;
                    more = false;
                }
                Ok(_) => return Err(Error::General("an unknown state".to_owned())),
                Err(error) => {
                    at = at.saturating_add(discard);
                    self.encode_alert(encrypted.get_mut(at..).unwrap_or_default());
                    return Err(error);
                }
            }
            at = at.saturating_add(discard);
            idle = if before == (at, filled) { idle.saturating_add(1) } else { 0 };
            if idle > STEPS_MAX {
                return Err(Error::InvalidMessage(InvalidMessage::UnexpectedMessage("")));
            }
            if !more {
                break;
            }
        }
        let rest = encrypted.get(at..).unwrap_or_default();
        if rest.len() > PARTIAL_RECORD_MAX {
            return Err(Error::PeerSentOversizedRecord);
        }
        self.partial_record.clear();
        self.partial_record.extend_from_slice(rest);
        if self.partial_record.is_empty() {
            self.partial_record = Vec::new();
        }
        self.finish_handshake()?;
        Ok(filled)
    }

    /// After the handshake only h2 may follow (RFC 9113, 3.2).
    fn finish_handshake(&mut self) -> Result<(), Error> {
        if self.is_established || self.connection.is_handshaking() {
            return Ok(());
        }
        if self.connection.alpn_protocol() != Some(b"h2") {
            self.encode_close_notify();
            return Err(Error::NoApplicationProtocol);
        }
        self.is_established = true;
        let own = self.connection.peer_certificates().and_then(|chain| chain.first());
        self.certificate = own.map(|own| Rc::new(certificate::read(own)));
        Ok(())
    }

    /// Encodes what is left for a peer that violated the protocol: waiting records, and the alert.
    /// Stops after the alert: rustls would read the input again.
    fn encode_alert(&mut self, rest: &mut [u8]) {
        for _ in 0..STEPS_MAX {
            let state = self.connection.process_tls_records(rest).state;
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            let at = self.unsent.len();
            // Without an alert the peer only sees the end of the connection.
            let is_encoded = encode(data, &mut self.unsent).is_ok();
            if !is_encoded || is_alert(self.unsent.get(at..).unwrap_or_default()) {
                return;
            }
        }
    }

    /// Encrypts slices, as far as one write should carry, and passes them to `write`. Records that
    /// `write` does not accept are kept. Returns the number of plaintext octets that were consumed.
    ///
    /// # Errors
    /// The error of `write`, or a connection that cannot encrypt any more.
    pub fn encrypt(
        &mut self,
        slices: &[IoSlice<'_>],
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let buffer = Rc::clone(&self.buffer.0);
        let Ok(mut buffer) = buffer.try_borrow_mut() else {
            return Err(io::ErrorKind::Other.into());
        };
        buffer.resize(BUFFER_SIZE, 0);
        // Plaintext is gathered in front of the area for records.
        let Some((plain, into)) = buffer.split_at_mut_checked(ENCRYPT_MAX) else {
            return Err(io::ErrorKind::Other.into());
        };
        let plain = match whole_records(slices) {
            Some(octets) => octets.get(..plain.len()).unwrap_or(octets),
            None => {
                let taken = gather(slices, plain);
                plain.get(..taken).unwrap_or_default()
            }
        };
        let taken = plain.len();
        let mut length = 0;
        self.with_writer(|traffic| {
            length = traffic.encrypt(plain, into)?;
            Ok(())
        })?;
        let encrypted = into.get(..length).unwrap_or_default();
        // Records that answer the peer, such as a key update, go first.
        let written = if self.unsent().is_empty() { write(encrypted)? } else { 0 };
        self.unsent.extend_from_slice(encrypted.get(written..).unwrap_or_default());
        Ok(taken)
    }

    /// Whether close_notify was sent. Nothing may be decrypted then: an error could not be answered
    /// with an alert.
    pub fn has_sent_close_notify(&self) -> bool {
        self.has_sent_close_notify
    }

    /// Sends close_notify (RFC 8446, 6.1), once.
    pub fn send_close_notify(&mut self) {
        if self.is_established && !self.has_sent_close_notify {
            self.encode_close_notify();
        }
        self.has_sent_close_notify = true;
    }

    fn encode_close_notify(&mut self) {
        self.has_sent_close_notify = true;
        let mut alert = [0; 2 * RECORD_OVERHEAD];
        let mut length = 0;
        let said = self.with_writer(|traffic| {
            length = traffic.queue_close_notify(&mut alert)?;
            Ok(())
        });
        if said.is_ok() {
            self.unsent.extend_from_slice(alert.get(..length).unwrap_or_default());
        }
    }

    /// Runs `work` with the writer of the connection. The partial record is passed each time:
    /// rustls may have recorded offsets of messages in it.
    fn with_writer(
        &mut self,
        mut work: impl FnMut(&mut Encryptor<'_>) -> Result<(), EncryptError>,
    ) -> io::Result<()> {
        for _ in 0..STEPS_MAX {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.partial_record);
            let done = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(work(&mut traffic).map_err(io::Error::other))
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.unsent).map_err(|error| invalid_data(&error))?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_peer_closed = true;
                    None
                }
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(invalid_data(&error)),
            };
            self.partial_record.drain(..discard.min(self.partial_record.len()));
            if let Some(done) = done {
                return done;
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

type Encryptor<'c> = WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decrypted {
    /// Octets of HTTP/2; may be zero.
    Octets(usize),
    /// Octets of HTTP/2 in clear text: the client does not speak TLS, and this connection must not
    /// be used any more.
    Cleartext(usize),
    /// The end of the socket.
    Eof,
}

fn invalid_data(error: &Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl TlsStream {
    /// Sets the authorities that verified the client's certificate.
    #[must_use]
    pub(crate) fn with_authorities(mut self, authorities: Option<Arc<ClientAuthorities>>) -> Self {
        self.authorities = authorities;
        self
    }

    /// Withdraws the client's certificate if the latest authorities no longer trust it. Returns
    /// true if it was withdrawn. Compares pointers while the authorities are the same.
    pub(crate) fn withdraw_unless_trusted(
        &mut self,
        latest: Option<&Arc<ClientAuthorities>>,
        now: SystemTime,
    ) -> bool {
        let known = self.authorities.as_ref().map(Arc::as_ptr);
        let Some(own) = &self.certificate else { return false };
        if known == latest.map(Arc::as_ptr) || own.is_untrusted() {
            return false;
        }
        let chain = self.connection.peer_certificates().unwrap_or_default();
        if latest.is_some_and(|latest| latest.verify(chain, now)) {
            self.authorities = latest.cloned();
            return false;
        }
        own.mark_untrusted();
        true
    }
}
