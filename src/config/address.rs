//! Where a driver listens.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A driver's host and port. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriverAddress {
    host: Host,
    port: u16,
}

/// The host half of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address that needs no look-up.
    Ip(IpAddr),
    /// A name for DNS, in lower case, without its final dot.
    Name(Arc<str>),
}

impl DriverAddress {
    /// An address from its two halves.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether who listens on `own` would answer here, as far as that can be told without DNS.
    pub fn is_served_by(&self, own: SocketAddr) -> bool {
        let here = match &self.host {
            Host::Ip(ip) => *ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback()),
            Host::Name(name) => &**name == "localhost" && is_local(own.ip()),
        };
        here && self.port == own.port()
    }

    /// The port; never 0 when it comes from a file.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

impl fmt::Display for DriverAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_the_listener_itself_is_known() {
        let at = |host, port| DriverAddress::new(host, port);
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        let any: SocketAddr = "0.0.0.0:15009".parse().unwrap();
        assert!(at(ip("127.0.0.1"), 15009).is_served_by(any));
        assert!(at(Host::Name("localhost".into()), 15009).is_served_by(any));
        assert!(!at(ip("127.0.0.1"), 15002).is_served_by(any));
        assert!(!at(ip("10.0.0.1"), 15009).is_served_by(any));
        assert!(at(ip("::1"), 1).is_served_by("[::1]:1".parse().unwrap()));
    }
}
