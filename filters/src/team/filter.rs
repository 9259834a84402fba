//! The filter: resolves the team and environment of a call, and rechecks them.

use super::{NAME, Team};
use crate::{Attribute, Attributes, Call, Decision, Filter, Identity, Refusal, TeamName};
use std::time::SystemTime;

impl Team {
    /// The caller, if teams have members.
    fn caller<'c>(&self, call: &'c Call) -> Result<Option<&'c Identity>, Refusal> {
        self.members.as_ref().map(|_| call.identity().map(|caller| &**caller)).transpose()
    }

    /// The team of a refused call, if its caller belongs to it.
    fn team_of_refused(&self, call: &Call) -> Option<TeamName> {
        self.resolve_team(call, self.caller(call).ok()?).ok()
    }

    /// The attributes of a call. They depend on metadata and on the caller, whom metadata
    /// authenticates: all calls with the same metadata share them.
    fn resolve_attributes(&self, call: &Call) -> Result<Attributes, Refusal> {
        let cache = call.metadata().cache();
        if let Some(cached) = cache.and_then(|cache| cache.get::<Attributes>(&self.cache_key)) {
            return Ok(Attributes::clone(&cached));
        }
        let caller = self.caller(call)?;
        let attributes = match self.resolve(call, caller) {
            Ok(resolved) => Attributes::from(resolved),
            // Not cached: the result depends on time.
            Err(error) => return self.resolve_removed(call, caller, error.into()),
        };
        if let Some(cache) = cache {
            cache.insert(&self.cache_key, attributes.clone());
        }
        Ok(attributes)
    }
}

impl Filter for Team {
    fn name(&self) -> &'static str {
        NAME
    }

    fn requires(&self) -> &'static [Attribute] {
        if self.members.is_some() { &[Attribute::Identity] } else { &[] }
    }

    fn provides(&self) -> &'static [Attribute] {
        &[Attribute::Team, Attribute::Environment]
    }

    fn admit(&self, call: &mut Call) -> Decision {
        match self.resolve_attributes(call) {
            Ok(attributes) => {
                call.set_attributes(attributes);
                Decision::Admitted
            }
            Err(refusal) => {
                // The log and the metrics report the team of a refused call.
                call.set_attributes(Attributes {
                    team: self.team_of_refused(call),
                    ..Attributes::default()
                });
                Decision::Refused(refusal)
            }
        }
    }

    fn recheck(&self, call: &mut Call) -> Result<(), Refusal> {
        let caller = self.caller(call)?;
        let revoked = match self.recheck_route(call, caller) {
            Ok(()) => None,
            Err(error) => Some(self.recheck_removed(call, caller, error.into())?),
        };
        call.set_revoked(revoked);
        Ok(())
    }

    fn recheck_time(&self, call: &Call, wall_time: SystemTime) -> Result<(), Refusal> {
        self.recheck_revoked(call, wall_time)
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let caller = self.caller(call).ok()?;
        self.resolve(call, caller).ok().map(|resolved| resolved.to_string())
    }
}
