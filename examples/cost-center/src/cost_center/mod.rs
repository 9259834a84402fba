//! `cost_center`: admits calls whose metadata names an allowed cost center.
//!
//! ```yaml
//! chain: [team, cost_center]
//! cost_center:
//!   header: x-cost-center
//!   allowed: [cc-100, cc-200]
//! ```

#[cfg(test)]
mod tests;

use sconce_filters::{
    Attribute, Call, CallAttribute, Code, Decision, Filter, FilterFactory, Refusal, Section,
    ValueError,
};
use std::{collections::BTreeSet, sync::Arc};

/// The header if the section has no `header`.
const HEADER: &str = "x-cost-center";

/// The settings of the section `cost_center`.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    /// The metadata key, in lower case.
    header: String,
    /// The cost centers that may call.
    allowed: BTreeSet<String>,
}

/// Parses the section and builds the filter.
pub(crate) struct Factory;

impl FilterFactory for Factory {
    type Config = Config;

    fn name(&self) -> &'static str {
        "cost_center"
    }

    fn parse(&self, section: &mut Section<'_>) -> Option<Config> {
        let header = section.value("header", header).unwrap_or_else(|| HEADER.to_owned());
        let allowed = section.list("allowed", |text| Ok(text.to_owned())).unwrap_or_default();
        if allowed.is_empty() {
            let fix = "list at least one cost center, for example [cc-100]";
            section.error("allowed", ValueError::new("allows no call", fix));
            return None;
        }
        Some(Config { header, allowed: allowed.into_iter().collect() })
    }

    fn build(&self, Config { header, allowed }: &Config) -> Arc<dyn Filter> {
        Arc::new(CostCenters { header: header.clone(), allowed: allowed.clone() })
    }
}

/// A metadata key as HTTP/2 has it: lower case.
fn header(text: &str) -> Result<String, ValueError> {
    let is_valid = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !text.is_empty() && text.bytes().all(is_valid) {
        return Ok(text.to_owned());
    }
    let fix = "write a to z, 0 to 9 and '-', for example x-cost-center";
    Err(ValueError::new("is not a metadata key", fix))
}

/// The cost center of a call, for later filters.
#[derive(Debug, PartialEq)]
pub(crate) struct CostCenter(pub(crate) String);

impl CallAttribute for CostCenter {
    const NAME: &'static str = "cost center";
}

struct CostCenters {
    header: String,
    allowed: BTreeSet<String>,
}

impl Filter for CostCenters {
    fn name(&self) -> &'static str {
        "cost_center"
    }

    fn requires(&self) -> &'static [Attribute] {
        &[Attribute::Team]
    }

    fn provides(&self) -> &'static [Attribute] {
        const PROVIDED: &[Attribute] = &[Attribute::of::<CostCenter>()];
        PROVIDED
    }

    fn admit(&self, call: &mut Call) -> Decision {
        let value = call.metadata().first(&self.header);
        let Some(value) = value.and_then(|value| String::from_utf8(value.into_owned()).ok()) else {
            return Decision::Refused(self.missing());
        };
        if !self.allowed.contains(&value) {
            return Decision::Refused(self.unknown());
        }
        call.set(CostCenter(value));
        Decision::Admitted
    }

    fn explain(&self, call: &Call) -> Option<String> {
        let value = call.metadata().first(&self.header)?;
        Some(format!("cost center '{}'", value.escape_ascii()))
    }
}

impl CostCenters {
    fn missing(&self) -> Refusal {
        let message = format!(
            "the call has no cost center: add ;{}=<cost center> to the sc:// URL",
            self.header
        );
        Refusal::new(Code::InvalidArgument, "cost_center.missing", message)
    }

    fn unknown(&self) -> Refusal {
        let message = format!(
            "the cost center of the call is not allowed here: correct ;{}=... in the sc:// URL",
            self.header
        );
        Refusal::new(Code::PermissionDenied, "cost_center.not_allowed", message)
    }
}
