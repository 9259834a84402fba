//! How the calls of one cluster may end, now and while a given call was open.
//!
//! An ending is allowed before something is done that may bring it about, and forbidden once it
//! can no longer come: a call may end in any way that was allowed at some time of its life. The
//! order of these events is counted, so that no clock and no margin is needed.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// A way for a call to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// A whole and right answer of the driver with this name.
    Driver(String),
    /// An error with this number in `grpc-status`.
    Status(u32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(name) => write!(f, "driver={name}"),
            Self::Status(code) => write!(f, "status={code}"),
        }
    }
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("driver", name)) => Ok(Self::Driver(name.to_owned())),
            Some(("status", code)) => {
                code.parse().map(Self::Status).map_err(|e| format!("{text}: {e}"))
            }
            _ => Err(format!("{text} is neither driver=NAME nor status=NUMBER")),
        }
    }
}

/// A moment in the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// What is allowed, and what was until when.
#[derive(Debug, Default)]
pub struct Ledger {
    events: u64,
    /// `None`: still allowed.
    allowed_until: HashMap<Ending, Option<Moment>>,
}

impl Ledger {
    /// The moment now; a call keeps the one at which it began.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(self.events)
    }

    /// From now on, calls that are open and those that follow may end so.
    pub fn allow(&mut self, ending: Ending) {
        self.events += 1;
        self.allowed_until.insert(ending, None);
    }

    /// Calls that begin from now on may not end so.
    pub fn forbid(&mut self, ending: Ending) {
        self.events += 1;
        let now = self.moment();
        self.allowed_until.insert(ending, Some(now));
    }

    /// Whether a call that began at `since` and ends now may end so.
    #[must_use]
    pub fn permits(&self, since: Moment, ending: &Ending) -> bool {
        self.allowed_until.get(ending).is_some_and(|until| until.is_none_or(|until| since < until))
    }

    /// All that such a call may end as, for people.
    #[must_use]
    pub fn told(&self, since: Moment) -> String {
        let endings = self.allowed_until.keys().filter(|ending| self.permits(since, ending));
        let mut told: Vec<_> = endings.map(Ending::to_string).collect();
        told.sort();
        if told.is_empty() { "nothing".to_owned() } else { told.join(" or ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Ending {
        Ending::Status(14)
    }

    #[test]
    fn nothing_is_allowed_that_was_not_said() {
        let ledger = Ledger::default();
        assert!(!ledger.permits(ledger.moment(), &unavailable()));
    }

    #[test]
    fn a_call_that_was_open_while_an_ending_was_allowed_may_end_so() {
        let mut ledger = Ledger::default();
        let before = ledger.moment();
        ledger.allow(unavailable());
        let during = ledger.moment();
        ledger.forbid(unavailable());
        assert!(ledger.permits(before, &unavailable()));
        assert!(ledger.permits(during, &unavailable()));
    }

    #[test]
    fn a_call_that_began_after_it_was_forbidden_may_not() {
        let mut ledger = Ledger::default();
        ledger.allow(unavailable());
        ledger.forbid(unavailable());
        assert!(!ledger.permits(ledger.moment(), &unavailable()));
    }

    #[test]
    fn one_ending_says_nothing_about_another() {
        let mut ledger = Ledger::default();
        ledger.allow(Ending::Driver("a".to_owned()));
        assert!(!ledger.permits(ledger.moment(), &Ending::Driver("b".to_owned())));
    }
}
