//! The attributes of a call: values that one filter sets and a later one reads.
//!
//! Team, environment and identity are fields, since routing needs them at each call. A filter may
//! define further attributes as types of its own. A call without such attributes allocates nothing
//! for them.

use crate::{EnvironmentName, Identity, Revoked, TeamName};
use std::{
    any::{Any, TypeId},
    fmt,
    rc::Rc,
};

/// The name of an attribute, for the contract between filters: see
/// [`Filter::requires`](crate::Filter::requires).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The team of the call.
    Team,
    /// The environment of that team.
    Environment,
    /// The authenticated caller.
    Identity,
    /// An attribute that a filter defines: see [`Attribute::of`].
    Custom(CustomAttribute),
}

/// The type and the name of a [`CallAttribute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomAttribute {
    id: TypeId,
    name: &'static str,
}

/// An attribute that a filter defines: a type of its own, so that filters of different crates never
/// conflict.
pub trait CallAttribute: Any {
    /// The name in messages, such as `cost center`.
    const NAME: &'static str;
}

impl Attribute {
    /// The attribute of this type.
    #[must_use]
    pub const fn of<T: CallAttribute>() -> Self {
        Self::Custom(CustomAttribute { id: TypeId::of::<T>(), name: T::NAME })
    }

    /// The name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Environment => "environment",
            Self::Identity => "identity",
            Self::Custom(CustomAttribute { name, .. }) => name,
        }
    }
}

/// The attributes of one call. Each is absent until a filter sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// See [`Attribute::Team`].
    pub team: Option<TeamName>,
    /// See [`Attribute::Environment`].
    pub environment: Option<EnvironmentName>,
    /// See [`Attribute::Identity`]. Shared, since one verified credential serves many calls.
    pub identity: Option<Rc<Identity>>,
    /// Set if a reload has removed the team, the environment or the membership of the caller, and
    /// `teams.removal_delay` has not passed. The proxy admits only sessions that had an open
    /// execution at the reload.
    pub revoked: Option<Rc<Revoked>>,
    /// See [`Attribute::Custom`].
    pub custom: CustomAttributes,
}

impl Attributes {
    /// Whether an attribute is set.
    #[must_use]
    pub fn is_set(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Team => self.team.is_some(),
            Attribute::Environment => self.environment.is_some(),
            Attribute::Identity => self.identity.is_some(),
            Attribute::Custom(CustomAttribute { id, .. }) => self.custom.find(id).is_some(),
        }
    }

    /// Sets the attributes that are set in `found`, and keeps the others.
    pub(crate) fn merge(&mut self, found: Self) {
        let Self { team, environment, identity, revoked, custom } = found;
        if team.is_some() {
            self.team = team;
            self.revoked = revoked;
        }
        if environment.is_some() {
            self.environment = environment;
        }
        if identity.is_some() {
            self.identity = identity;
        }
        self.custom.merge(custom);
    }
}

type Values = Vec<(TypeId, Rc<dyn Any>)>;

/// The attributes that filters define, by type: one value of each. A clone shares the values.
#[derive(Clone, Default)]
pub struct CustomAttributes(Option<Rc<Values>>);

impl CustomAttributes {
    /// The value of this type, if a filter has set it.
    #[must_use]
    pub fn get<T: CallAttribute>(&self) -> Option<&T> {
        self.find(TypeId::of::<T>())?.downcast_ref()
    }

    /// Sets the value of this type.
    pub fn set<T: CallAttribute>(&mut self, value: T) {
        self.insert(TypeId::of::<T>(), Rc::new(value));
    }

    fn find(&self, id: TypeId) -> Option<&Rc<dyn Any>> {
        let values = self.0.as_deref()?;
        values.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    fn insert(&mut self, id: TypeId, value: Rc<dyn Any>) {
        let values = Rc::make_mut(self.0.get_or_insert_default());
        values.retain(|(known, _)| *known != id);
        values.push((id, value));
    }

    fn merge(&mut self, found: Self) {
        let Some(found) = found.0 else { return };
        for (id, value) in found.iter() {
            self.insert(*id, Rc::clone(value));
        }
    }
}

impl PartialEq for CustomAttributes {
    /// Equal if both have the same values, by identity: the types need not be comparable.
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.0.as_deref(), other.0.as_deref());
        let (one, other) =
            (one.map_or(&[][..], Vec::as_slice), other.map_or(&[][..], Vec::as_slice));
        one.len() == other.len()
            && one.iter().zip(other).all(|((one, a), (other, b))| one == other && Rc::ptr_eq(a, b))
    }
}

impl Eq for CustomAttributes {}

impl fmt::Debug for CustomAttributes {
    /// Without the values: they may contain credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomAttributes")
            .field("len", &self.0.as_deref().map_or(0, Vec::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct CostCenter(u32);
    impl CallAttribute for CostCenter {
        const NAME: &'static str = "cost center";
    }

    struct Other;
    impl CallAttribute for Other {
        const NAME: &'static str = "cost center";
    }

    #[test]
    fn a_custom_attribute_is_found_by_its_type() {
        let mut attributes = Attributes::default();
        assert!(!attributes.is_set(Attribute::of::<CostCenter>()));
        attributes.custom.set(CostCenter(1));
        attributes.custom.set(CostCenter(2));
        assert_eq!(attributes.custom.get::<CostCenter>(), Some(&CostCenter(2)));
        assert!(attributes.is_set(Attribute::of::<CostCenter>()));
        assert!(!attributes.is_set(Attribute::of::<Other>()), "the name does not identify it");
        assert_eq!(Attribute::of::<Other>().name(), "cost center");
    }

    #[test]
    fn merging_keeps_what_is_not_set() {
        let mut attributes = Attributes::default();
        attributes.custom.set(CostCenter(1));
        let copy = attributes.clone();
        let mut found = Attributes::default();
        found.custom.set(Other);
        attributes.merge(found);
        assert_eq!(attributes.custom.get::<CostCenter>(), Some(&CostCenter(1)));
        assert!(attributes.is_set(Attribute::of::<Other>()));
        assert!(!copy.is_set(Attribute::of::<Other>()), "a copy does not change");
        assert_ne!(copy, attributes);
    }

    #[test]
    fn a_call_without_custom_attributes_has_one_pointer_for_them() {
        assert_eq!(size_of::<CustomAttributes>(), size_of::<usize>());
    }
}
