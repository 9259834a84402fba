//! The TCP sockets of load and stub driver.
//!
//! `h2` writes as it does of its own: small frames of one turn together, 16 KiB at most, and each
//! large DATA frame by itself. It would read 8 KiB at a time, though, and so measure its own
//! system calls; here it reads from a buffer.

use std::io;

use tokio::io::BufReader;
use tokio::net::TcpStream;

/// A read takes so many octets at most.
const READ_MAX: usize = 128 << 10;

/// A socket as `h2` is given it.
pub type Socket = BufReader<TcpStream>;

/// Takes a connected stream and switches Nagle's algorithm off.
///
/// # Errors
/// When the socket is dead already.
pub fn ready(stream: TcpStream) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(READ_MAX, stream))
}
