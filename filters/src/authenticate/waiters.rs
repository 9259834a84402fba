//! Limits the calls that wait for a JWKS refresh, fairly among source addresses.
//!
//! A source may add a waiter while it has fewer waiters than are free. One source alone gets half
//! of the limit, and later sources still find capacity.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Maximum number of calls that wait for the keys of one provider.
pub const WAITERS_MAX: usize = 256;

/// The waiters of one provider.
#[derive(Clone, Default)]
pub(super) struct WaiterLimit(Arc<Mutex<WaiterCounts>>);

#[derive(Default)]
struct WaiterCounts {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One waiter. Dropping it frees its capacity.
pub(super) struct WaiterPermit {
    limit: WaiterLimit,
    source: IpAddr,
}

impl WaiterLimit {
    /// Adds a waiter for a call from this address, if the limits allow it.
    pub(super) fn try_acquire(&self, peer: IpAddr) -> Option<WaiterPermit> {
        let source = source_network(peer);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_source.get(&source).copied().unwrap_or(0);
        if own >= WAITERS_MAX.saturating_sub(taken.total) {
            return None;
        }
        taken.total = taken.total.saturating_add(1);
        taken.by_source.insert(source, own.saturating_add(1));
        Some(WaiterPermit { limit: self.clone(), source })
    }
}

impl Drop for WaiterPermit {
    fn drop(&mut self) {
        let mut taken = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        match taken.by_source.get_mut(&self.source) {
            Some(own) if *own > 1 => *own = own.saturating_sub(1),
            Some(_) | None => {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// The source that counts: an IPv4 address, or the /64 network of an IPv6 address, since one host
/// has all its addresses.
fn source_network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn all(seats: &WaiterLimit, from: u8) -> Vec<WaiterPermit> {
        std::iter::from_fn(|| seats.try_acquire(at(from))).collect()
    }

    #[test]
    fn one_source_gets_half_and_later_sources_find_capacity() {
        let seats = WaiterLimit::default();
        let first = all(&seats, 1);
        let second = all(&seats, 2);
        assert_eq!((first.len(), second.len()), (WAITERS_MAX / 2, WAITERS_MAX / 4));
        assert!(seats.try_acquire(at(3)).is_some());
    }

    #[test]
    fn waiters_are_limited_and_permits_are_returned() {
        let seats = WaiterLimit::default();
        let held: Vec<_> = (0..=u8::MAX).flat_map(|from| all(&seats, from)).collect();
        assert!(held.len() <= WAITERS_MAX && held.len() > WAITERS_MAX * 3 / 4);
        drop(held);
        assert!(seats.0.lock().unwrap().by_source.is_empty());
        assert_eq!(all(&seats, 1).len(), WAITERS_MAX / 2);
    }

    #[test]
    fn dropping_a_permit_frees_exactly_one_waiter() {
        let seats = WaiterLimit::default();
        let mut held = all(&seats, 1);
        held.pop();
        assert_eq!(all(&seats, 1).len(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let of = |text: &str| source_network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), at(1));
        assert_ne!(at(1), at(2));
    }
}
