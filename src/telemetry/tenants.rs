//! Tenants: pairs of team and environment that metrics are counted by.
//!
//! A pair has a number from its first call to the end of the process.
//! [`DriverHealth`](super::DriverHealth) caches the number, so that a call needs no look-up. There
//! are at most [`TENANTS_MAX`] pairs; later pairs share one number.
//!
//! Must never happen here: a lock, or a name chosen by a peer.

use super::names::{OTHER, TENANTS_MAX, UNKNOWN};
use super::table::Table;

/// The number of a team and environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TenantId(u32);

impl TenantId {
    /// Index into lists of counters.
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn of_number(number: u32) -> Self {
        Self(number)
    }
}

/// All known pairs.
#[derive(Debug)]
pub(super) struct Tenants(Table<(Box<str>, Box<str>), ()>);

impl Tenants {
    pub(super) fn new() -> Self {
        Self(Table::new(TENANTS_MAX))
    }

    /// Upper limit of the indices.
    pub(super) fn len(&self) -> usize {
        self.0.len().saturating_add(2)
    }

    /// Neither team nor environment is known.
    pub(super) fn unknown(&self) -> TenantId {
        self.id(self.0.len())
    }

    /// All pairs beyond the limit.
    pub(super) fn overflow(&self) -> TenantId {
        self.id(self.0.len().saturating_add(1))
    }

    /// The number of a pair, which is added if it is new. Either may be unknown.
    pub(super) fn find_or_insert(&self, team: Option<&str>, environment: Option<&str>) -> TenantId {
        if team.is_none() && environment.is_none() {
            return self.unknown();
        }
        let (team, environment) = (team.unwrap_or(UNKNOWN), environment.unwrap_or(UNKNOWN));
        let place = self.0.slot_or_insert(
            (team, environment),
            |(known, at)| **known == *team && **at == *environment,
            || (team.into(), environment.into()),
        );
        place.map_or_else(|| self.overflow(), |(slot, ())| self.id(slot))
    }

    /// The names of a number; `None` if it has no pair.
    pub(super) fn names(&self, id: TenantId) -> Option<(&str, &str)> {
        if id == self.unknown() {
            return Some((UNKNOWN, UNKNOWN));
        }
        if id == self.overflow() {
            return Some((OTHER, OTHER));
        }
        self.0.key(id.index()).map(|(team, environment)| (&**team, &**environment))
    }

    /// All numbers in use, sorted by names.
    pub(super) fn all(&self) -> Vec<(TenantId, (&str, &str))> {
        let ids = (0..self.len()).map(|slot| self.id(slot));
        let mut all: Vec<_> = ids.filter_map(|id| Some((id, self.names(id)?))).collect();
        all.sort_by_key(|(_, names)| *names);
        all
    }

    fn id(&self, slot: usize) -> TenantId {
        TenantId(u32::try_from(slot).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_one_number_of_its_own() {
        let tenants = Tenants::new();
        let ads = tenants.find_or_insert(Some("ads"), Some("prod"));
        assert_ne!(ads, tenants.find_or_insert(Some("ads"), Some("dev")));
        assert_ne!(ads, tenants.find_or_insert(Some("ads"), None));
        assert_eq!(ads, tenants.find_or_insert(Some("ads"), Some("prod")));
        assert_eq!(tenants.names(ads), Some(("ads", "prod")));
        assert_eq!(tenants.find_or_insert(None, None), tenants.unknown());
    }

    #[test]
    fn pairs_beyond_the_limit_share_a_number() {
        let tenants = Tenants::new();
        let find = |n: usize| tenants.find_or_insert(Some(&format!("team-{n}")), Some("prod"));
        let first: Vec<_> = (0..TENANTS_MAX).map(find).collect();
        assert!(!first.contains(&tenants.overflow()));
        assert!((TENANTS_MAX..5_000).all(|n| find(n) == tenants.overflow()));
        assert_eq!((0..TENANTS_MAX).map(find).collect::<Vec<_>>(), first);
        assert_eq!(tenants.all().len(), TENANTS_MAX + 2);
    }
}
