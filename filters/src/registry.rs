//! The filters that a `sconce` binary has, by name.
//!
//! `authenticate` and `team` are registered like every other filter. To add one to sconce itself:
//! its folder, and one line in [`FilterRegistry::built_in`]. To add one from another crate:
//! [`FilterRegistry::with`], in the `main` of a binary that calls `sconce::cli::run`.

use crate::{FilterConfig, FilterFactory, SectionSource, authenticate, factory::AnyFactory, team};
use std::{fmt, sync::Arc};

/// The factories of all filters that may stand in `chain`. A clone shares the factories.
#[derive(Clone)]
pub struct FilterRegistry {
    factories: Vec<Arc<dyn AnyFactory>>,
}

impl FilterRegistry {
    /// The filters of sconce.
    #[must_use]
    pub fn built_in() -> Self {
        Self { factories: Vec::new() }.with(authenticate::Factory).with(team::Factory)
    }

    /// The same registry with one filter more. It replaces a filter of the same name.
    #[must_use]
    pub fn with<F: FilterFactory>(mut self, factory: F) -> Self {
        self.factories.retain(|other| other.name() != factory.name());
        self.factories.push(Arc::new(Arc::new(factory)));
        self
    }

    /// The names of all filters, in the order of registration.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.factories.iter().map(|factory| factory.name())
    }

    /// Whether there is a filter of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Parses the section of a filter. `None` if there is no filter of this name, or if the
    /// section is not valid, which is reported.
    pub fn parse(&self, name: &str, source: &mut dyn SectionSource) -> Option<FilterConfig> {
        self.factories.iter().find(|factory| factory.name() == name)?.parse(source)
    }
}

impl Default for FilterRegistry {
    fn default() -> Self {
        Self::built_in()
    }
}

impl fmt::Debug for FilterRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Decision, Filter, Section, StaticSection, ValueError};

    #[derive(Debug, PartialEq)]
    struct Factory(&'static str);

    struct Limit;

    impl Filter for Limit {
        fn name(&self) -> &'static str {
            "limit"
        }

        fn admit(&self, _call: &mut Call) -> Decision {
            Decision::Admitted
        }
    }

    impl FilterFactory for Factory {
        type Config = u64;

        fn name(&self) -> &'static str {
            self.0
        }

        fn parse(&self, section: &mut Section<'_>) -> Option<u64> {
            section.required("max", "write max: 10", |text| {
                text.parse().map_err(|_| ValueError::new("is not a number", "write max: 10"))
            })
        }

        fn build(&self, _max: &u64) -> Arc<dyn Filter> {
            Arc::new(Limit)
        }
    }

    fn parse(registry: &FilterRegistry, max: &str) -> Option<FilterConfig> {
        registry.parse("limit", &mut StaticSection::default().with("max", &[max]))
    }

    #[test]
    fn names_of_built_in_filters_are_unique_config_keys() {
        let names: Vec<_> = FilterRegistry::built_in().names().collect();
        assert!(names.starts_with(&["authenticate", "team"]));
        for (at, name) in names.iter().enumerate() {
            assert!(
                name.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_')),
                "{name}"
            );
            assert!(!names[..at].contains(name), "{name} is registered twice");
        }
    }

    #[test]
    fn a_registered_filter_is_parsed_and_built_by_its_name() {
        let registry = FilterRegistry::built_in().with(Factory("limit"));
        assert!(registry.contains("limit") && !registry.contains("limits"));
        let config = parse(&registry, "3").unwrap();
        assert_eq!((config.name(), config.get::<u64>()), ("limit", Some(&3)));
        assert_eq!(config.build().name(), "limit");
        assert!(registry.parse("limits", &mut StaticSection::default()).is_none());
    }

    #[test]
    fn configurations_are_equal_if_their_filter_and_values_are() {
        let registry = FilterRegistry::built_in().with(Factory("limit"));
        assert_eq!(parse(&registry, "3"), parse(&registry, "3"));
        assert_ne!(parse(&registry, "3"), parse(&registry, "4"));
        assert_ne!(parse(&registry, "3"), Some(FilterConfig::new(Factory("other"), 3)));
    }

    #[test]
    fn a_later_filter_replaces_an_earlier_one_of_the_same_name() {
        let registry = FilterRegistry::built_in().with(Factory("limit")).with(Factory("limit"));
        assert_eq!(registry.names().filter(|name| *name == "limit").count(), 1);
    }

    #[test]
    fn errors_of_a_section_name_key_problem_and_fix() {
        let errors = StaticSection::default().parse(&Factory("limit")).unwrap_err();
        assert_eq!(errors, ["max: is missing; write max: 10"]);
        let section = StaticSection::default().with("max", &["x"]);
        let errors = section.parse(&Factory("limit")).unwrap_err();
        assert_eq!(errors, ["max: is not a number; write max: 10"]);
    }
}
