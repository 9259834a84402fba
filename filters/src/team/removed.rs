//! Teams, environments and members that a reload has removed recently.
//!
//! A session with a running query makes further calls when the query ends, and would lose its
//! result. For `teams.removal_delay`, calls that the previous settings would have admitted are
//! admitted with a mark, and the proxy decides by the session. Must never admit such a call without
//! the mark, or after the delay.

use super::{Settings, Team};
use crate::{Attributes, Call, Identity, Refusal, Revoked, TeamName};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

/// The part of the previous settings that a reload has removed.
pub struct Removed {
    generation: u64,
    expires_at: SystemTime,
    previous: Team,
}

/// What a reload has removed from a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalKind {
    /// The team.
    Team,
    /// Environments, possibly members as well.
    Environments,
    /// Members: users or groups.
    Members,
}

impl Settings {
    /// The teams of which later settings have removed a part.
    pub fn removed_in(&self, later: &Self) -> BTreeMap<TeamName, RemovalKind> {
        let removed_part = |team: &TeamName| -> Option<RemovalKind> {
            let Some(now) = later.teams.get(team) else { return Some(RemovalKind::Team) };
            if !self.teams.get(team)?.is_subset(now) {
                return Some(RemovalKind::Environments);
            }
            let members = |of: &Self| of.members.as_ref()?.get(team).cloned();
            let (previous, now) = (members(self)?, members(later).unwrap_or_default());
            let are_kept =
                previous.users.is_subset(&now.users) && previous.groups.is_subset(&now.groups);
            (!are_kept).then_some(RemovalKind::Members)
        };
        self.teams.keys().filter_map(|team| Some((team.clone(), removed_part(team)?))).collect()
    }

    /// These settings, restricted to some teams.
    fn restricted_to(&self, teams: &BTreeSet<&TeamName>) -> Self {
        let mut settings = Self { unserved: BTreeMap::new(), removed: Vec::new(), ..self.clone() };
        settings.teams.retain(|team, _| teams.contains(team));
        settings.authorities.retain(|_, (team, _)| teams.contains(team));
        settings
    }
}

impl Removed {
    /// What the reload to this configuration generation removes from these teams of the previous
    /// settings. Calls are admitted by it until `until`.
    pub fn new<'t>(
        previous: &Settings,
        teams: impl IntoIterator<Item = &'t TeamName>,
        generation: u64,
        until: SystemTime,
    ) -> Arc<Self> {
        let teams = teams.into_iter().collect();
        Arc::new(Self {
            generation,
            expires_at: until,
            previous: Team::new(previous.restricted_to(&teams)),
        })
    }

    /// The configuration generation that the reload created.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The end of the removal delay.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    fn is_active(&self, wall_time: Option<SystemTime>) -> bool {
        wall_time.is_some_and(|wall_time| wall_time < self.expires_at)
    }
}

impl Team {
    /// The route of a refused call previous the latest reload that removed it.
    pub(super) fn resolve_removed(
        &self,
        call: &Call,
        caller: Option<&Identity>,
        refusal: Refusal,
    ) -> Result<Attributes, Refusal> {
        let mut latest_first =
            self.removed.iter().rev().filter(|it| it.is_active(call.wall_time()));
        let route = latest_first.find_map(|removed| {
            let found = removed.previous.resolve(call, caller).ok()?;
            Some((removed.generation, Attributes::from(found)))
        });
        match route {
            Some((generation, attributes)) => {
                let revoked =
                    Rc::new(Revoked { generation, refusal: removal_refusal(&attributes, refusal) });
                Ok(Attributes { revoked: Some(revoked), ..attributes })
            }
            None => Err(refusal),
        }
    }

    /// The mark of an admitted call whose route or membership was removed.
    pub(super) fn recheck_removed(
        &self,
        call: &Call,
        caller: Option<&Identity>,
        refusal: Refusal,
    ) -> Result<Rc<Revoked>, Refusal> {
        let mut latest_first =
            self.removed.iter().rev().filter(|it| it.is_active(call.wall_time()));
        let by = latest_first.find(|it| it.previous.recheck_route(call, caller).is_ok());
        let Some(generation) = by.map(|removed| removed.generation) else { return Err(refusal) };
        Ok(Rc::new(Revoked { generation, refusal: removal_refusal(call.attributes(), refusal) }))
    }

    /// Whether the removal delay of a marked call has not passed.
    pub(super) fn recheck_revoked(
        &self,
        call: &Call,
        wall_time: SystemTime,
    ) -> Result<(), Refusal> {
        let Some(revoked) = &call.attributes().revoked else { return Ok(()) };
        let removed = self.removed.iter().find(|it| it.generation == revoked.generation);
        match removed.is_some_and(|removed| removed.is_active(Some(wall_time))) {
            true => Ok(()),
            false => Err(revoked.refusal.clone()),
        }
    }
}

/// The refusal of a call whose route was removed.
fn removal_refusal(route: &Attributes, refusal: Refusal) -> Refusal {
    let Attributes { team: Some(team), environment: Some(environment), .. } = route else {
        return refusal;
    };
    let message = format!(
        "{team}/{environment}, or your membership in its team, was removed: {}",
        refusal.message
    );
    Refusal { message, ..refusal }
}

impl PartialEq for Removed {
    /// Each reload has a generation of its own.
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.expires_at == other.expires_at
    }
}

impl Eq for Removed {}

impl fmt::Debug for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a call made by hand needs some moment")]
mod tests {
    use super::*;
    use crate::{
        Decision, EnvironmentName, Filter, Method,
        call::StaticMetadata,
        identity::{IdentitySource, RawIdentity},
        team::{Authority, Members, TEAM, UnservedReason},
    };
    use std::time::{Duration, Instant};

    fn team(name: &str) -> TeamName {
        TeamName::parse(name).unwrap()
    }

    /// Teams with their environments and users.
    fn settings(teams: &[(&str, &[&str], &[&str])]) -> Settings {
        let mut settings = Settings { members: Some(BTreeMap::new()), ..Settings::default() };
        for (name, environments, users) in teams {
            let environments = environments.iter().map(|it| EnvironmentName::parse(it).unwrap());
            settings.teams.insert(team(name), environments.collect());
            let users = users.iter().map(|user| (*user).to_owned()).collect();
            let members = Members { users, groups: BTreeSet::new() };
            settings.members.get_or_insert_default().insert(team(name), members);
        }
        settings
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn call(user: &str, team: &str, environment: &str, seconds: u64) -> Call {
        let metadata = StaticMetadata::new("h").with(TEAM, team).with("x-sconce-env", environment);
        call_of(user, metadata, seconds)
    }

    fn call_of(user: &str, metadata: StaticMetadata, seconds: u64) -> Call {
        let peer = ([127, 0, 0, 1], 1).into();
        let call = Call::new(Method::Config, Rc::new(metadata), peer, Instant::now());
        let claimed = RawIdentity { user: user.to_owned(), ..RawIdentity::default() };
        let identity = Identity::new(claimed, IdentitySource::Certificate, None).unwrap();
        let mut call = call.with_wall_time(at(seconds));
        call.set_attributes(Attributes {
            identity: Some(Rc::new(identity)),
            ..Attributes::default()
        });
        call
    }

    /// The generation of the removal by which a call is admitted; 0 if it is admitted without one.
    fn admitted(filter: &Team, mut call: Call) -> Result<u64, &'static str> {
        match filter.admit(&mut call) {
            Decision::Admitted => {
                Ok(call.attributes().revoked.as_ref().map_or(0, |it| it.generation))
            }
            Decision::Refused(refusal) => Err(refusal.label),
            Decision::Pending(_) => Err("waits"),
        }
    }

    /// The filter of the last settings, after reloads at 100, 110, ... with a removal delay of 60
    /// s.
    fn after(reloads: &[Settings]) -> Team {
        let mut removed = Vec::new();
        for (generation, pair) in (1_u64..).zip(reloads.windows(2)) {
            let lost = pair[0].removed_in(&pair[1]);
            let until = at(90 + generation * 10 + 60);
            removed.push(Removed::new(&pair[0], lost.keys(), generation, until));
        }
        Team::new(Settings { removed, ..reloads.last().unwrap().clone() })
    }

    #[test]
    fn removals_are_found_by_team() {
        let previous = settings(&[
            ("a", &["prod"], &["ann"]),
            ("b", &["prod", "dev"], &["ann"]),
            ("c", &["prod"], &["ann", "bob"]),
            ("d", &["prod"], &["ann"]),
        ]);
        let later = settings(&[
            ("b", &["prod"], &[]),
            ("c", &["prod", "dev"], &["bob"]),
            ("d", &["prod", "dev"], &["ann", "bob"]),
            ("e", &["prod"], &[]),
        ]);
        let lost = previous.removed_in(&later);
        let expected = [
            ("a", RemovalKind::Team),
            ("b", RemovalKind::Environments),
            ("c", RemovalKind::Members),
        ];
        assert_eq!(lost, expected.map(|(name, removed_part)| (team(name), removed_part)).into());
        assert!(previous.removed_in(&previous).is_empty());
    }

    #[test]
    fn calls_to_removed_routes_are_marked_during_the_removal_delay() {
        let full: &[(&str, &[&str], &[&str])] = &[("a", &["prod", "dev"], &["ann", "bob"])];
        for (later, user, environment, label) in [
            (&[][..], "ann", "prod", "team.no_membership"),
            (&[("a", &["prod", "dev"][..], &["bob"][..])], "ann", "prod", "team.no_membership"),
            (&[("a", &["prod"], &["ann"])], "ann", "dev", "team.environment_unknown"),
        ] {
            let filter = after(&[settings(full), settings(later)]);
            let ask =
                |user, team, seconds| admitted(&filter, call(user, team, environment, seconds));
            assert_eq!(ask(user, "a", 159), Ok(1), "{later:?}");
            assert_eq!(ask(user, "a", 160), Err(label), "{later:?}");
            assert_eq!(ask("eve", "a", 150), Err("team.no_membership"), "{later:?}");
            assert!(ask(user, "b", 150).is_err(), "{later:?}");
        }
        let filter = after(&[settings(full), settings(&[("a", &["prod"], &["ann"])])]);
        assert_eq!(admitted(&filter, call("ann", "a", "prod", 120)), Ok(0));
    }

    #[test]
    fn a_host_without_a_route_before_the_reload_gets_no_removed_team() {
        let host = Authority::parse("gone.example.com").unwrap();
        let with_host = |settings: Settings| Settings {
            unserved_authorities: [(host.clone(), UnservedReason::Removed)].into(),
            ..settings
        };
        let previous = with_host(settings(&[("a", &["prod"], &["ann"])]));
        let filter = after(&[previous, with_host(settings(&[]))]);
        let ask = |host| admitted(&filter, call_of("ann", StaticMetadata::new(host), 150));
        assert_eq!(ask("gone.example.com"), Err("team.removed"));
        assert_eq!(ask("other.example.com"), Ok(1), "her only team");
    }

    #[test]
    fn the_latest_removal_of_a_route_applies() {
        let filter = after(&[
            settings(&[("a", &["prod", "dev"], &["ann", "bob"])]),
            settings(&[("a", &["prod"], &["ann", "bob"])]),
            settings(&[("a", &["prod"], &["ann"])]),
            settings(&[]),
        ]);
        let ask = |user, environment, at| admitted(&filter, call(user, "a", environment, at));
        assert_eq!(ask("ann", "prod", 125), Ok(3));
        assert_eq!(ask("bob", "prod", 125), Ok(2));
        assert_eq!(ask("ann", "dev", 125), Ok(1));
        assert_eq!(
            ask("ann", "dev", 165),
            Err("team.no_membership"),
            "the first is refusal by then"
        );
        assert_eq!(ask("ann", "prod", 165), Ok(3));
    }

    #[test]
    fn an_admitted_call_is_marked_until_the_removal_delay_ends() {
        let full = settings(&[("a", &["prod"], &["ann"])]);
        let mut first = call("ann", "a", "prod", 90);
        assert_eq!(Team::new(full.clone()).admit(&mut first).label(), "admitted");
        let filter = after(&[full, settings(&[])]);
        let mut copy = first.copy_for_recheck(at(120));
        assert_eq!(filter.recheck(&mut copy), Ok(()));
        assert_eq!(copy.attributes().revoked.as_ref().map(|it| it.generation), Some(1));
        assert_eq!(filter.recheck_time(&copy, at(159)), Ok(()));
        let refusal = filter.recheck_time(&copy, at(160)).unwrap_err();
        let message = "a/prod, or your membership in its team, was removed: you belong to no team \
                       here";
        assert!(refusal.message.starts_with(message), "{refusal}");
        assert_eq!(
            filter.recheck(&mut first.copy_for_recheck(at(160))).unwrap_err().label,
            "team.no_membership"
        );
    }

    impl Decision {
        fn label(&self) -> &'static str {
            match self {
                Self::Admitted => "admitted",
                Self::Refused(refusal) => refusal.label,
                Self::Pending(_) => "waits",
            }
        }
    }
}
