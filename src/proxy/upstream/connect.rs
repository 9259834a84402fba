//! Connect: from a driver's address to a connected socket.
//!
//! All addresses of a name are tried, the families in turn, each 250 ms after the one before or at
//! once when that one has failed; the first to connect wins (RFC 8305). Connections of a worker
//! that look up the same name at the same time share one look-up, which takes one thread. Results
//! are not cached: a name may resolve to other addresses a moment later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{DriverAddress, Host};
use crate::telemetry::ConnectFailure;

/// Delay between two connection attempts (RFC 8305, 5: Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 32;

/// The addresses of a name; empty if it cannot be resolved.
type Addresses = Arc<[IpAddr]>;
type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>>>>;

/// Resolves names for the connections of one worker.
pub(crate) struct Resolver {
    lookup: fn(Arc<str>) -> Lookup,
    /// Look-ups in progress: at most one for each driver name.
    in_progress: RefCell<HashMap<Arc<str>, watch::Receiver<Option<Addresses>>>>,
}

impl Default for Resolver {
    /// The system's resolver.
    fn default() -> Self {
        Self::new(|name| Box::pin(system_lookup(name)))
    }
}

/// Runs on one of the few threads of the worker's runtime for blocking calls.
async fn system_lookup(name: Arc<str>) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((&*name, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

impl Resolver {
    fn new(lookup: fn(Arc<str>) -> Lookup) -> Self {
        Self { lookup, in_progress: RefCell::default() }
    }

    /// The addresses of a name; empty if it cannot be resolved.
    async fn resolve(self: &Rc<Self>, name: &Arc<str>) -> Addresses {
        let mut found = self.start(name);
        let found = found.wait_for(Option::is_some).await;
        found.ok().and_then(|found| found.clone()).unwrap_or_default()
    }

    /// Joins the look-up of a name, or starts one. It continues when all waiters are gone: a
    /// blocking look-up cannot be cancelled, and the next request for the name joins it.
    fn start(self: &Rc<Self>, name: &Arc<str>) -> watch::Receiver<Option<Addresses>> {
        if let Some(found) = self.in_progress.borrow().get(name) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        self.in_progress.borrow_mut().insert(Arc::clone(name), found.clone());
        let lookup = LookupGuard { resolver: Rc::clone(self), name: Arc::clone(name) };
        tokio::task::spawn_local(async move {
            let name = Arc::clone(&lookup.name);
            let addresses = (lookup.resolver.lookup)(name).await.unwrap_or_default();
            drop(lookup);
            tell.send_replace(Some(addresses.into()));
        });
        found
    }
}

/// A look-up in progress. It is removed however it ends.
struct LookupGuard {
    resolver: Rc<Resolver>,
    name: Arc<str>,
}

impl Drop for LookupGuard {
    fn drop(&mut self) {
        self.resolver.in_progress.borrow_mut().remove(&self.name);
    }
}

/// Connects to the driver at this address within the timeout.
pub(crate) async fn connect(
    resolver: Rc<Resolver>,
    address: DriverAddress,
    patience: Duration,
) -> Result<TcpStream, ConnectFailure> {
    let connected = tokio::time::timeout(patience, async {
        let port = address.port();
        match address.host() {
            Host::Ip(address) => connect_one((*address, port).into()).await,
            Host::Name(name) => {
                let found = resolver.resolve(name).await;
                let addresses = interleaved(&found).into_iter().map(|ip| (ip, port).into());
                connect_any(addresses.take(ADDRESSES_MAX).collect()).await
            }
        }
    });
    let socket = connected.await.map_err(|_| ConnectFailure::TimedOut)??;
    socket.set_nodelay(true).map_err(|_| ConnectFailure::Refused)?;
    Ok(socket)
}

/// The addresses with the families in turn, beginning with that of the first address (RFC 8305, 4).
pub(crate) fn interleaved(found: &[IpAddr]) -> Vec<IpAddr> {
    let is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let of = |v6: bool| found.iter().filter(move |address| address.is_ipv6() == v6);
    let (mut first, mut second) = (of(is_v6), of(!is_v6));
    let mut all = Vec::with_capacity(found.len());
    while all.len() < found.len() {
        all.extend(first.next());
        all.extend(second.next());
    }
    all
}

/// Connects to the first of these addresses that accepts.
pub(crate) async fn connect_any(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectFailure> {
    if let [only] = addresses.as_slice() {
        return connect_one(*only).await;
    }
    let mut next = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = ConnectFailure::Unresolved;
    loop {
        if let Some(address) = next.next() {
            attempts.spawn(connect_one(address));
        }
        let more = next.len() > 0;
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(socket))) => return Ok(socket),
                Some(Ok(Err(why))) => last = why,
                Some(Err(_)) => last = ConnectFailure::Refused,
                None => return Err(last),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

async fn connect_one(address: SocketAddr) -> Result<TcpStream, ConnectFailure> {
    TcpStream::connect(address).await.map_err(|error| connect_error(&error))
}

fn connect_error(error: &io::Error) -> ConnectFailure {
    if error.kind() == io::ErrorKind::TimedOut {
        ConnectFailure::TimedOut
    } else {
        ConnectFailure::Refused
    }
}

/// Unreachable: it accepts connections, but sends no SETTINGS.
pub(crate) const NO_HTTP2: &str = "no_http2";

/// Unreachable: it had streams and did not acknowledge a PING.
pub(crate) const SILENT: &str = "silent";

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};
    use tokio::task::LocalSet;

    use super::*;

    /// Long enough for a busy machine, and far below the connect timeout.
    const SOON: Duration = Duration::from_millis(900);
    const PATIENCE: Duration = Duration::from_secs(5);

    fn listener(at: [u8; 4], port: u16, backlog: i32) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((at, port)).into()).unwrap();
        socket.listen(backlog).unwrap();
        socket
    }

    fn port(socket: &Socket) -> u16 {
        socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    /// A host that does not answer: its accept queue is full. The returned sockets keep it full.
    fn dead(at: [u8; 4], port: u16) -> Vec<Socket> {
        let mut held = vec![listener(at, port, 0)];
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let to = SocketAddr::from((at, port)).into();
            if socket.connect_timeout(&to, Duration::from_millis(100)).is_err() {
                return held;
            }
            held.push(socket);
        }
    }

    fn named(port: u16) -> DriverAddress {
        DriverAddress::new(Host::Name("driver".into()), port)
    }

    fn ready(addresses: &[[u8; 4]]) -> Lookup {
        Box::pin(std::future::ready(Ok(addresses.iter().copied().map(IpAddr::from).collect())))
    }

    async fn dial(lookup: fn(Arc<str>) -> Lookup, port: u16) -> Result<TcpStream, ConnectFailure> {
        let resolver = Rc::new(Resolver::new(lookup));
        LocalSet::new().run_until(connect(resolver, named(port), PATIENCE)).await
    }

    #[tokio::test]
    async fn a_name_with_a_dead_first_address_connects_to_the_next_one() {
        let alive = listener([127, 0, 0, 1], 0, 8);
        let _dead = dead([127, 0, 0, 2], port(&alive));
        let began = Instant::now();
        let lookup = |_| ready(&[[127, 0, 0, 2], [127, 0, 0, 1]]);
        let socket = dial(lookup, port(&alive)).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(began.elapsed() < SOON, "only after {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let alive = listener([127, 0, 0, 1], 0, 8);
        let began = Instant::now();
        let refusing = |_| ready(&[[127, 0, 0, 3], [127, 0, 0, 4], [127, 0, 0, 5], [127, 0, 0, 1]]);
        assert!(dial(refusing, port(&alive)).await.is_ok());
        assert!(began.elapsed() < ATTEMPT_DELAY, "only after {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_failed_connect_has_a_reason() {
        let port = port(&listener([127, 0, 0, 1], 0, 8));
        let connected = dial(|_| ready(&[]), port).await;
        assert_eq!(connected.err(), Some(ConnectFailure::Unresolved));
        let unknown = |_| -> Lookup { Box::pin(async { Err(io::ErrorKind::NotFound.into()) }) };
        assert_eq!(dial(unknown, port).await.err(), Some(ConnectFailure::Unresolved));
        let refusing = |_| ready(&[[127, 0, 0, 3], [127, 0, 0, 4]]);
        assert_eq!(dial(refusing, port).await.err(), Some(ConnectFailure::Refused));
    }

    #[tokio::test]
    async fn the_timeout_covers_all_attempts_together() {
        let first = listener([127, 0, 0, 1], 0, 0);
        let port = port(&first);
        drop(first);
        let _dead = [dead([127, 0, 0, 1], port), dead([127, 0, 0, 2], port)];
        let resolver = Rc::new(Resolver::new(|_| ready(&[[127, 0, 0, 1], [127, 0, 0, 2]])));
        let began = Instant::now();
        let connected = connect(resolver, named(port), Duration::from_millis(600));
        let connected = LocalSet::new().run_until(connected).await;
        assert_eq!(connected.err(), Some(ConnectFailure::TimedOut));
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    thread_local! {
        static LOOKUPS: Cell<usize> = const { Cell::new(0) };
    }

    #[tokio::test]
    async fn concurrent_requests_for_one_name_share_one_look_up() {
        let slow = |_| -> Lookup {
            LOOKUPS.set(LOOKUPS.get() + 1);
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(vec![IpAddr::from([127, 0, 0, 1])])
            })
        };
        let resolver = Rc::new(Resolver::new(slow));
        LocalSet::new()
            .run_until(async {
                let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
                let all = tokio::join!(
                    resolver.resolve(&one),
                    resolver.resolve(&one),
                    resolver.resolve(&other)
                );
                assert!([&all.0, &all.1, &all.2].iter().all(|found| found.len() == 1));
                assert_eq!(LOOKUPS.get(), 2);
                // The result is not cached.
                resolver.resolve(&one).await;
                assert_eq!(LOOKUPS.get(), 3);
                assert!(resolver.in_progress.borrow().is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn a_look_up_that_panics_leaves_no_entry() {
        let fails = |_| -> Lookup {
            LOOKUPS.set(LOOKUPS.get() + 1);
            match LOOKUPS.get() {
                1 => Box::pin(async { panic!("this line is part of the test") }),
                _ => ready(&[[127, 0, 0, 1]]),
            }
        };
        let resolver = Rc::new(Resolver::new(fails));
        let name: Arc<str> = "one".into();
        let local = LocalSet::new();
        local
            .run_until(async {
                assert!(resolver.resolve(&name).await.is_empty());
                assert_eq!(resolver.resolve(&name).await.len(), 1);
                // A look-up that is cancelled with all others of its thread.
                drop(resolver.start(&name));
            })
            .await;
        drop(local);
        assert!(resolver.in_progress.borrow().is_empty());
    }

    #[test]
    fn address_families_alternate_beginning_with_the_first_address() {
        let ips =
            |text: &str| text.split(' ').map(|it| it.parse().unwrap()).collect::<Vec<IpAddr>>();
        let both = ips("2001:db8::1 2001:db8::2 192.0.2.1 192.0.2.2");
        assert_eq!(interleaved(&both), ips("2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2"));
        let four_first = ips("192.0.2.1 2001:db8::1 2001:db8::2 2001:db8::3");
        assert_eq!(interleaved(&four_first), four_first);
        assert_eq!(interleaved(&[]), Vec::<IpAddr>::new());
    }
}
