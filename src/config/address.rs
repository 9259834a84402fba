//! Addresses of drivers.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Host and port of a driver. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriverAddress {
    host: Host,
    port: u16,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name in lower case, without a final dot.
    Name(Arc<str>),
}

impl DriverAddress {
    /// An address of host and port.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether a listener on `own` would accept connections to this address, as far as known
    /// without DNS.
    pub fn is_served_by(&self, own: SocketAddr) -> bool {
        let here = match &self.host {
            Host::Ip(ip) => *ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback()),
            Host::Name(name) => &**name == "localhost" && is_local(own.ip()),
        };
        here && self.port == own.port()
    }

    /// The port; not 0 in a validated config.
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
    fn a_driver_address_equal_to_the_listen_address_is_detected() {
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
