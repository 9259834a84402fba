//! Builds the filter from settings that the configuration reader has prepared: the same
//! section also configures JWKS refresh and TLS.

use super::{Authenticate, NAME, Settings};
use crate::{Filter, FilterFactory, Section};
use std::sync::Arc;

/// The factory of `authenticate`.
#[derive(Clone, Copy, Debug)]
pub struct Factory;

impl FilterFactory for Factory {
    type Config = Settings;

    fn name(&self) -> &'static str {
        NAME
    }

    fn parse(&self, section: &mut Section<'_>) -> Option<Settings> {
        section.preset()
    }

    fn build(&self, settings: &Settings) -> Arc<dyn Filter> {
        Arc::new(Authenticate::new(settings.clone()))
    }
}
