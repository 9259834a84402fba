//! How a filter is made: its name, its section of `sconce.yaml`, and its construction.

use crate::{Filter, Section, SectionSource};
use std::{any::Any, fmt, sync::Arc};

/// Makes the filters of one kind.
///
/// sconce parses and builds filters at startup, at each reload, and in `sconce check` and `sconce
/// explain`. State that must outlive a reload belongs in the factory.
pub trait FilterFactory: Send + Sync + 'static {
    /// What a filter is built from. A reload compares it: equal configurations are not applied
    /// again.
    type Config: PartialEq + fmt::Debug + Send + Sync + 'static;

    /// The name of the filter in `chain`, and of its section at the top level of `sconce.yaml`:
    /// a to z, 0 to 9 and `_`.
    fn name(&self) -> &'static str;

    /// Parses the filter's section. Must report an error if it returns `None`, and must not read
    /// the clock or use the network.
    fn parse(&self, section: &mut Section<'_>) -> Option<Self::Config>;

    /// Builds the filter, which all workers share. Must not have effects outside of the filter: it
    /// may be discarded.
    fn build(&self, config: &Self::Config) -> Arc<dyn Filter>;
}

/// The valid configuration of one filter, with the factory that builds it. A clone shares both.
#[derive(Clone)]
pub struct FilterConfig(Arc<dyn Configured>);

impl FilterConfig {
    /// The configuration that this factory builds its filter from.
    pub fn new<F: FilterFactory>(factory: F, config: F::Config) -> Self {
        Self(Arc::new(Entry { factory: Arc::new(factory), config }))
    }

    /// The name of the filter.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Builds the filter.
    pub fn build(&self) -> Arc<dyn Filter> {
        self.0.build()
    }

    /// The configuration, if it has this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.config().downcast_ref()
    }
}

impl PartialEq for FilterConfig {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.0.is_equal(other.0.config())
    }
}

impl Eq for FilterConfig {}

impl fmt::Debug for FilterConfig {
    /// Without the configuration: it may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FilterConfig").field(&self.name()).finish()
    }
}

/// A factory without its type.
pub(crate) trait AnyFactory: Send + Sync {
    fn name(&self) -> &'static str;
    fn parse(&self, source: &mut dyn SectionSource) -> Option<FilterConfig>;
}

impl<F: FilterFactory> AnyFactory for Arc<F> {
    fn name(&self) -> &'static str {
        F::name(self)
    }

    fn parse(&self, source: &mut dyn SectionSource) -> Option<FilterConfig> {
        let config = F::parse(self, &mut Section::new(source))?;
        Some(FilterConfig(Arc::new(Entry { factory: Self::clone(self), config })))
    }
}

/// A configuration without its type.
trait Configured: Send + Sync {
    fn name(&self) -> &'static str;
    fn build(&self) -> Arc<dyn Filter>;
    fn config(&self) -> &dyn Any;
    fn is_equal(&self, other: &dyn Any) -> bool;
}

struct Entry<F: FilterFactory> {
    factory: Arc<F>,
    config: F::Config,
}

impl<F: FilterFactory> Configured for Entry<F> {
    fn name(&self) -> &'static str {
        self.factory.name()
    }

    fn build(&self) -> Arc<dyn Filter> {
        self.factory.build(&self.config)
    }

    fn config(&self) -> &dyn Any {
        &self.config
    }

    fn is_equal(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<F::Config>().is_some_and(|other| *other == self.config)
    }
}
