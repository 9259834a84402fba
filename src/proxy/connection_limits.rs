//! Connection limits: the number of client connections, in total and for each source.
//!
//! Only the acceptor acquires permits. A permit is released when it is dropped, on any thread.
//!
//! Must never happen here: unlimited memory for sources without a connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sources without a connection that may be kept, besides twice the number of connections.
const IDLE_SOURCES_MAX: usize = 1024;

/// The limits of all workers.
#[derive(Default)]
pub(super) struct ConnectionLimits {
    active: Arc<AtomicUsize>,
    sources: HashMap<IpAddr, Arc<AtomicUsize>>,
    /// The number of permits that were ever acquired.
    accepted_total: u64,
}

/// A permit for one connection; dropping it releases the permit.
pub(super) struct ConnectionPermit {
    active: Arc<AtomicUsize>,
    source_active: Option<Arc<AtomicUsize>>,
    /// The sequence number of this permit, in order of acceptance.
    pub(super) sequence: u64,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitExceeded {
    /// The limit of the source.
    Source,
    /// The total limit.
    Total,
}

/// The source of a connection for the limit: an IPv4 address, or an IPv6 /64, which one host can
/// easily have for itself.
pub(super) fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl ConnectionLimits {
    /// The number of permits in use.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Acquires a permit if fewer than `most` are in use, and fewer than `share` by this source.
    /// Without a `share` the source is not counted.
    pub(super) fn acquire(
        &mut self,
        source: IpAddr,
        share: Option<usize>,
        most: usize,
    ) -> Result<ConnectionPermit, LimitExceeded> {
        let of_source = share.map(|share| (Arc::clone(self.counter_of(source)), share));
        if let Some((count, share)) = &of_source
            && count.load(Ordering::Relaxed) >= *share
        {
            return Err(LimitExceeded::Source);
        }
        if self.active() >= most {
            return Err(LimitExceeded::Total);
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        let of_source = of_source.map(|(count, _)| count);
        if let Some(count) = &of_source {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.accepted_total = self.accepted_total.saturating_add(1);
        Ok(ConnectionPermit {
            active: Arc::clone(&self.active),
            source_active: of_source,
            sequence: self.accepted_total,
        })
    }

    fn counter_of(&mut self, source: IpAddr) -> &Arc<AtomicUsize> {
        if self.sources.len() > self.active().saturating_mul(2).saturating_add(IDLE_SOURCES_MAX) {
            self.sources.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        }
        self.sources.entry(source).or_default()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = &self.source_active {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_source_has_a_limit_of_its_own() {
        let mut places = ConnectionLimits::default();
        let held: Vec<_> = (0..2).map(|_| places.acquire(ip("192.0.2.1"), Some(2), 9)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(places.acquire(ip("192.0.2.1"), Some(2), 9).err(), Some(LimitExceeded::Source));
        assert!(places.acquire(ip("192.0.2.2"), Some(2), 9).is_ok());
        drop(held);
        assert_eq!(places.active(), 0);
        assert!(places.acquire(ip("192.0.2.1"), Some(2), 9).is_ok());
    }

    #[test]
    fn without_a_limit_per_source_only_the_total_counts() {
        let mut places = ConnectionLimits::default();
        let held: Vec<_> = (0..3).map(|_| places.acquire(ip("192.0.2.1"), None, 3)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(places.acquire(ip("192.0.2.1"), None, 3).err(), Some(LimitExceeded::Total));
        assert_eq!(places.acquire(ip("192.0.2.2"), Some(1), 3).err(), Some(LimitExceeded::Total));
    }

    #[test]
    fn addresses_of_one_ipv6_64_are_one_source_and_mapped_ipv4_is_ipv4() {
        assert_eq!(source(ip("2001:db8::1")), source(ip("2001:db8::ffff:0:0:2")));
        assert_ne!(source(ip("2001:db8:0:1::1")), source(ip("2001:db8::1")));
        assert_eq!(source(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_ne!(source(ip("192.0.2.1")), source(ip("192.0.2.2")));
    }

    #[test]
    fn sources_without_connections_take_limited_memory() {
        let mut places = ConnectionLimits::default();
        for n in 0..100_000_u32 {
            drop(places.acquire(IpAddr::V4(n.into()), Some(1), 10));
        }
        assert!(places.sources.len() <= IDLE_SOURCES_MAX + 2);
    }
}
