//! Socket: the options of all TCP sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Unsent octets in the kernel above which a socket is not writable.
const UNSENT_MAX: u32 = 512 * 1024;

/// Sets the options of all sockets: TCP_NODELAY, keepalive, and a limit of unsent octets. The
/// kernel detects a dead host within `silence` + `ack`. Accepted sockets inherit the options of
/// their listener.
pub(crate) fn tune<'s>(
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
