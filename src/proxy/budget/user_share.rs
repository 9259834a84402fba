//! User shares: the buffered and earned octets of each user, over all workers.
//!
//! When memory for uploads is short, each user has an equal share of it, so that one user cannot
//! take it from another. A connection counts for the user of its last admitted call when it began
//! to buffer; before that, for its source address.
//!
//! Must never happen here: a lock for a connection whose user stays the same.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sconce_filters::Identity;

/// The users with a share of the memory for uploads. There are at most as many as connections.
#[derive(Default)]
pub(crate) struct UserShares {
    shares: Mutex<HashMap<Box<[u8]>, Arc<Usage>>>,
    count: AtomicUsize,
}

/// The octets of all connections of one user.
#[derive(Default)]
struct Usage {
    buffered: AtomicUsize,
    earned: AtomicUsize,
    /// Connections of this user; changed under the lock.
    connections: AtomicUsize,
}

/// The user of a connection, and the octets of that connection.
pub(crate) struct UserShare {
    users: Arc<UserShares>,
    name: Box<[u8]>,
    usage: Arc<Usage>,
    own: [usize; 2],
    /// Whether the user is authenticated.
    is_known: bool,
}

impl UserShares {
    /// The number of users, at least 1.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed).max(1)
    }

    /// The share of a connection's user: the authenticated one, or otherwise the source address.
    pub(crate) fn join(self: &Arc<Self>, proof: Option<&Identity>, source: IpAddr) -> UserShare {
        let name = match proof {
            Some(identity) => format!("{}\0{}", identity.source(), identity.user()),
            None => source.to_string(),
        };
        let name = name.into_bytes().into_boxed_slice();
        let mut all = self.lock();
        let usage = Arc::clone(all.entry(name.clone()).or_default());
        usage.connections.fetch_add(1, Ordering::Relaxed);
        self.count.store(all.len(), Ordering::Relaxed);
        let users = Arc::clone(self);
        UserShare { users, name, usage, own: [0; 2], is_known: proof.is_some() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<Usage>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserShare {
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Octets that all connections of this user buffer.
    pub(crate) fn buffered(&self) -> usize {
        self.usage.buffered.load(Ordering::Relaxed)
    }

    /// Octets of window growth that all connections of this user have earned.
    pub(crate) fn earned(&self) -> usize {
        self.usage.earned.load(Ordering::Relaxed)
    }

    /// Sets the buffered and earned octets of the connection.
    pub(crate) fn set(&mut self, [buffered, earned]: [usize; 2]) {
        let Usage { buffered: all_buffered, earned: all_earned, .. } = &*self.usage;
        let [buffered_before, earned_before] = std::mem::replace(&mut self.own, [buffered, earned]);
        replace_part(all_buffered, buffered_before, buffered);
        replace_part(all_earned, earned_before, earned);
    }
}

impl Drop for UserShare {
    fn drop(&mut self) {
        self.set([0; 2]);
        let mut all = self.users.lock();
        if self.usage.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            all.remove(&self.name);
            self.users.count.store(all.len(), Ordering::Relaxed);
        }
    }
}

/// Changes one part of a sum. Returns the sum before and after.
pub(crate) fn replace_part(sum: &AtomicUsize, before: usize, now: usize) -> (usize, usize) {
    if now >= before {
        let more = now.saturating_sub(before);
        let was = sum.fetch_add(more, Ordering::Relaxed);
        (was, was.saturating_add(more))
    } else {
        let less = before.saturating_sub(now);
        let was = sum.fetch_sub(less, Ordering::Relaxed);
        (was, was.saturating_sub(less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn connections_of_one_user_count_together_and_users_without_any_are_removed() {
        let users = Arc::new(UserShares::default());
        let [mut one, mut other] = [users.join(None, SOURCE), users.join(None, SOURCE)];
        let mut stranger = users.join(None, IpAddr::from([192, 0, 2, 1]));
        one.set([10, 1]);
        other.set([5, 2]);
        stranger.set([7, 7]);
        assert_eq!((one.buffered(), other.earned(), users.count()), (15, 3, 2));
        one.set([2, 0]);
        assert_eq!((other.buffered(), other.earned()), (7, 2));
        drop(one);
        assert_eq!((other.buffered(), other.earned(), users.count()), (5, 2, 2));
        drop(other);
        drop(stranger);
        assert!(users.lock().is_empty());
        assert_eq!(users.count(), 1, "a share is never of nobody");
    }

    #[test]
    fn a_user_whose_connections_all_end_at_one_time_is_removed() {
        let users = Arc::new(UserShares::default());
        for _ in 0..2_000 {
            let together = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let user = users.join(None, SOURCE);
                        together.wait();
                        drop(user);
                    });
                }
            });
            assert!(users.lock().is_empty());
        }
    }
}
