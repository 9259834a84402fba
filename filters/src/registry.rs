//! Every room by its name in config. To add a room: its folder, and one line here.

use crate::{Filter, authenticate, team};
use std::sync::Arc;

/// What the rooms are built from: one field a room, checked already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// For [`authenticate`].
    pub authenticate: authenticate::Settings,
    /// For [`team`].
    pub team: team::Settings,
}

type Build = fn(&Settings) -> Arc<dyn Filter>;

const FILTERS: &[(&str, Build)] = &[
    (authenticate::NAME, |all| Arc::new(authenticate::Authenticate::new(all.authenticate.clone()))),
    (team::NAME, |all| Arc::new(team::Team::new(all.team.clone()))),
];

/// Builds the room with this name; `None` when there is none.
pub fn build(name: &str, settings: &Settings) -> Option<Arc<dyn Filter>> {
    let (_, build) = FILTERS.iter().find(|(room, _)| *room == name)?;
    Some(build(settings))
}

/// The names of all rooms.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_room_is_built_under_its_own_name() {
        for name in names() {
            assert_eq!(build(name, &Settings::default()).unwrap().name(), name);
        }
    }

    #[test]
    fn a_name_that_is_nobody_s_builds_nothing() {
        assert!(build("no-such-room", &Settings::default()).is_none());
    }
}
