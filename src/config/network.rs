//! Networks in CIDR notation: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    section::Section,
};
use std::{fmt, net::IpAddr};

/// Maximum number of networks in a list: each new connection is compared with all of them.
const NETWORKS_MAX: usize = 64;

/// A network of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Length of the prefix in bits.
    bits: u32,
}

impl Network {
    /// Whether the network contains an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u32| {
            (one ^ other).checked_shr(width.saturating_sub(self.bits)).unwrap_or(0) == 0
        };
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same(first.to_bits().into(), address.to_bits().into(), u32::BITS)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                same(first.to_bits(), address.to_bits(), u128::BITS)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let no = || {
            let help = "write CIDR notation, for example 10.0.0.0/8 or 2001:db8::/32, or one \
                        address";
            Problem::new(format!("{} is not a network", quote(text)), help)
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| no())?;
        let width = if address.is_ipv4() { u32::BITS } else { u128::BITS };
        let digits = |bits: &str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) if digits(bits) => bits.parse().map_err(|_| no())?,
            Some(_) => return Err(no()),
        };
        if bits > width {
            return Err(no());
        }
        let network = Self { first: masked(address, bits), bits };
        if network.first != address {
            let what = format!("{} has host bits set", quote(text));
            return Err(Problem::new(what, format!("write {network}, or one address")));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// The first address of the network with this prefix length.
pub(super) fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Reads a list of networks; empty if the key is absent.
pub(super) fn read_all(
    section: &mut Section<'_>,
    diagnostics: &Diagnostics,
    key: &'static str,
) -> Vec<Network> {
    let path = section.path_of(key);
    let values = section.scalars(key).unwrap_or_default();
    if let Some(value) = values.get(NETWORKS_MAX) {
        let what = format!("has more than {NETWORKS_MAX} networks");
        diagnostics.report(value.line, &path, Problem::new(what, "write fewer, larger networks"));
    }
    let network = |value: &crate::config::section::Scalar| match Network::parse(&value.text) {
        Ok(network) => Some(network),
        Err(problem) => {
            diagnostics.report(value.line, &path, problem);
            None
        }
    };
    values.iter().filter_map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(holds(network, address), inside, "{network} {address}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_network_shows_the_notation() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "lb", "::/129"] {
            let Problem { what, help } = Network::parse(text).unwrap_err();
            assert_eq!(what, format!("{} is not a network", quote(text)));
            assert!(help.starts_with("write CIDR notation"));
        }
        let Problem { what, help } = Network::parse("10.1.2.3/8").unwrap_err();
        assert_eq!(what, "'10.1.2.3/8' has host bits set");
        assert_eq!(help, "write 10.0.0.0/8, or one address");
    }
}
