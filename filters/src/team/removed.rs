//! Removed: teams, environments and members that a reload has taken away a short while ago.
//!
//! A session whose query runs at that moment makes further calls when the query ends, and would
//! lose its result. For a while, calls that the settings before the reload would have admitted are
//! admitted with a mark: whoever knows the sessions decides then. Must never admit a call without
//! that mark, nor after its time.

use super::{Settings, Team};
use crate::{Attributes, Call, Identity, Refusal, Revoked, TeamName};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

/// What a reload has taken away, as the settings before it had it.
pub struct Removed {
    generation: u64,
    expires_at: SystemTime,
    previous: Team,
}

/// What became of a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalKind {
    /// It is gone.
    Team,
    /// It has lost environments, and perhaps members as well.
    Environments,
    /// It has lost members: users or groups.
    Members,
}

impl Settings {
    /// The teams of which something is not there any more in later settings.
    pub fn removed_in(&self, later: &Self) -> BTreeMap<TeamName, RemovalKind> {
        let loss = |team: &TeamName| -> Option<RemovalKind> {
            let Some(now) = later.teams.get(team) else { return Some(RemovalKind::Team) };
            if !self.teams.get(team)?.is_subset(now) {
                return Some(RemovalKind::Environments);
            }
            let members = |of: &Self| of.members.as_ref()?.get(team).cloned();
            let (before, now) = (members(self)?, members(later).unwrap_or_default());
            let stay = before.users.is_subset(&now.users) && before.groups.is_subset(&now.groups);
            (!stay).then_some(RemovalKind::Members)
        };
        self.teams.keys().filter_map(|team| Some((team.clone(), loss(team)?))).collect()
    }

    /// What these settings say of some teams.
    fn restricted_to(&self, teams: &BTreeSet<&TeamName>) -> Self {
        let mut about = Self { unserved: BTreeMap::new(), removed: Vec::new(), ..self.clone() };
        about.teams.retain(|team, _| teams.contains(team));
        about.authorities.retain(|_, (team, _)| teams.contains(team));
        about
    }
}

impl Removed {
    /// What is taken away from these teams of the settings before: by the reload of this number,
    /// for calls until then.
    pub fn new<'t>(
        before: &Settings,
        teams: impl IntoIterator<Item = &'t TeamName>,
        number: u64,
        until: SystemTime,
    ) -> Arc<Self> {
        let teams = teams.into_iter().collect();
        Arc::new(Self {
            generation: number,
            expires_at: until,
            previous: Team::new(before.restricted_to(&teams)),
        })
    }

    /// Which reload it was.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Until when calls may be admitted by it.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    fn is_active(&self, wall: Option<SystemTime>) -> bool {
        wall.is_some_and(|wall| wall < self.expires_at)
    }
}

impl Team {
    /// The place that a refused call would have had before the latest reload that took it away.
    pub(super) fn resolve_removed(
        &self,
        call: &Call,
        caller: Option<&Identity>,
        refusal: Refusal,
    ) -> Result<Attributes, Refusal> {
        let mut latest_first =
            self.removed.iter().rev().filter(|it| it.is_active(call.wall_time()));
        let place = latest_first.find_map(|removed| {
            let found = removed.previous.resolve(call, caller).ok()?;
            Some((removed.generation, Attributes::from(found)))
        });
        match place {
            Some((number, slots)) => {
                let revoked = Rc::new(Revoked {
                    generation: number,
                    refusal: removal_refusal(&slots, refusal),
                });
                Ok(Attributes { revoked: Some(revoked), ..slots })
            }
            None => Err(refusal),
        }
    }

    /// The same for a call that was admitted, and whose place or caller is not there any more.
    pub(super) fn recheck_removed(
        &self,
        call: &Call,
        caller: Option<&Identity>,
        refusal: Refusal,
    ) -> Result<Rc<Revoked>, Refusal> {
        let mut latest_first =
            self.removed.iter().rev().filter(|it| it.is_active(call.wall_time()));
        let by = latest_first.find(|it| it.previous.recheck_route(call, caller).is_ok());
        let Some(number) = by.map(|removed| removed.generation) else { return Err(refusal) };
        Ok(Rc::new(Revoked {
            generation: number,
            refusal: removal_refusal(call.attributes(), refusal),
        }))
    }

    /// Whether the mark of a call still counts.
    pub(super) fn recheck_revoked(&self, call: &Call, wall: SystemTime) -> Result<(), Refusal> {
        let Some(revoked) = &call.attributes().revoked else { return Ok(()) };
        let removed = self.removed.iter().find(|it| it.generation == revoked.generation);
        match removed.is_some_and(|removed| removed.is_active(Some(wall))) {
            true => Ok(()),
            false => Err(revoked.refusal.clone()),
        }
    }
}

/// The refusal of a call whose place was removed.
fn removal_refusal(place: &Attributes, refusal: Refusal) -> Refusal {
    let Attributes { team: Some(team), environment: Some(environment), .. } = place else {
        return refusal;
    };
    let message = format!(
        "{team}/{environment} was removed from this service, or you from its team: {}",
        refusal.message
    );
    Refusal { message, ..refusal }
}

impl PartialEq for Removed {
    /// Each reload has a number of its own.
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.expires_at == other.expires_at
    }
}

impl Eq for Removed {}

impl fmt::Debug for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed").field("number", &self.generation).finish_non_exhaustive()
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

    /// Each with environments and users.
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
        let listed = StaticMetadata::new("h").with(TEAM, team).with("x-sconce-env", environment);
        call_of(user, listed, seconds)
    }

    fn call_of(user: &str, listed: StaticMetadata, seconds: u64) -> Call {
        let peer = ([127, 0, 0, 1], 1).into();
        let call = Call::new(Method::Config, Rc::new(listed), peer, Instant::now());
        let claimed = RawIdentity { user: user.to_owned(), ..RawIdentity::default() };
        let identity = Identity::new(claimed, IdentitySource::Certificate, None).unwrap();
        let mut call = call.with_wall_time(at(seconds));
        call.set_attributes(Attributes {
            identity: Some(Rc::new(identity)),
            ..Attributes::default()
        });
        call
    }

    /// The reload by which a call is admitted all the same; 0 if it needs none.
    fn admitted(room: &Team, mut call: Call) -> Result<u64, &'static str> {
        match room.admit(&mut call) {
            Decision::Admitted => {
                Ok(call.attributes().revoked.as_ref().map_or(0, |it| it.generation))
            }
            Decision::Refused(refusal) => Err(refusal.label),
            Decision::Pending(_) => Err("waits"),
        }
    }

    /// The room of the last settings, after reloads at 100, 110, ... whose removals last 60 s.
    fn after(reloads: &[Settings]) -> Team {
        let mut removed = Vec::new();
        for (number, pair) in (1_u64..).zip(reloads.windows(2)) {
            let lost = pair[0].removed_in(&pair[1]);
            let until = at(90 + number * 10 + 60);
            removed.push(Removed::new(&pair[0], lost.keys(), number, until));
        }
        Team::new(Settings { removed, ..reloads.last().unwrap().clone() })
    }

    #[test]
    fn what_a_reload_takes_away_is_found_by_team() {
        let before = settings(&[
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
        let lost = before.removed_in(&later);
        let expected = [
            ("a", RemovalKind::Team),
            ("b", RemovalKind::Environments),
            ("c", RemovalKind::Members),
        ];
        assert_eq!(lost, expected.map(|(name, loss)| (team(name), loss)).into());
        assert!(before.removed_in(&before).is_empty());
    }

    #[test]
    fn calls_that_a_reload_would_refuse_are_admitted_with_a_mark_for_a_while() {
        let full: &[(&str, &[&str], &[&str])] = &[("a", &["prod", "dev"], &["ann", "bob"])];
        for (later, user, environment, label) in [
            (&[][..], "ann", "prod", "team.none"),
            (&[("a", &["prod", "dev"][..], &["bob"][..])], "ann", "prod", "team.none"),
            (&[("a", &["prod"], &["ann"])], "ann", "dev", "team.environment_unknown"),
        ] {
            let room = after(&[settings(full), settings(later)]);
            let ask = |user, team, seconds| admitted(&room, call(user, team, environment, seconds));
            assert_eq!(ask(user, "a", 159), Ok(1), "{later:?}");
            assert_eq!(ask(user, "a", 160), Err(label), "{later:?}");
            assert_eq!(ask("eve", "a", 150), Err("team.none"), "{later:?}");
            assert!(ask(user, "b", 150).is_err(), "{later:?}");
        }
        let room = after(&[settings(full), settings(&[("a", &["prod"], &["ann"])])]);
        assert_eq!(admitted(&room, call("ann", "a", "prod", 120)), Ok(0));
    }

    #[test]
    fn a_host_that_led_nowhere_before_leads_to_no_team_that_was_removed() {
        let host = Authority::parse("gone.example.com").unwrap();
        let with_host = |settings: Settings| Settings {
            unserved_authorities: [(host.clone(), UnservedReason::Removed)].into(),
            ..settings
        };
        let before = with_host(settings(&[("a", &["prod"], &["ann"])]));
        let room = after(&[before, with_host(settings(&[]))]);
        let ask = |host| admitted(&room, call_of("ann", StaticMetadata::new(host), 150));
        assert_eq!(ask("gone.example.com"), Err("team.removed"));
        assert_eq!(ask("other.example.com"), Ok(1), "her only team");
    }

    #[test]
    fn the_latest_reload_that_took_a_place_away_is_the_one_that_counts() {
        let room = after(&[
            settings(&[("a", &["prod", "dev"], &["ann", "bob"])]),
            settings(&[("a", &["prod"], &["ann", "bob"])]),
            settings(&[("a", &["prod"], &["ann"])]),
            settings(&[]),
        ]);
        let ask = |user, environment, at| admitted(&room, call(user, "a", environment, at));
        assert_eq!(ask("ann", "prod", 125), Ok(3));
        assert_eq!(ask("bob", "prod", 125), Ok(2));
        assert_eq!(ask("ann", "dev", 125), Ok(1));
        assert_eq!(ask("ann", "dev", 165), Err("team.none"), "the first is over by then");
        assert_eq!(ask("ann", "prod", 165), Ok(3));
    }

    #[test]
    fn a_call_that_was_admitted_before_is_marked_and_its_mark_ends() {
        let full = settings(&[("a", &["prod"], &["ann"])]);
        let mut first = call("ann", "a", "prod", 90);
        assert_eq!(Team::new(full.clone()).admit(&mut first).label(), "admitted");
        let room = after(&[full, settings(&[])]);
        let mut again = first.copy_for_recheck(at(120));
        assert_eq!(room.recheck(&mut again), Ok(()));
        assert_eq!(again.attributes().revoked.as_ref().map(|it| it.generation), Some(1));
        assert_eq!(room.recheck_time(&again, at(159)), Ok(()));
        let over = room.recheck_time(&again, at(160)).unwrap_err();
        let message = "a/prod was removed from this service, or you from its team: you belong to \
                       no team here";
        assert!(over.message.starts_with(message), "{over}");
        assert_eq!(
            room.recheck(&mut first.copy_for_recheck(at(160))).unwrap_err().label,
            "team.none"
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
