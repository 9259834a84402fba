//! Parses the sections of filters: hands each to the factory of its filter.
//!
//! `authenticate` and `team` also configure JWKS refresh, TLS and routes. Their settings are read
//! first, and reach their factories through the same call, as a preset.

use crate::config::{
    diagnostics::{Diagnostics, Problem},
    section::{Scalar, Section},
};
use sconce_filters::{
    FilterConfig, FilterRegistry, Located, SectionSource, ValueError, authenticate, team,
};
use std::any::Any;

/// The settings of the built-in filters.
pub(super) struct Presets {
    pub(super) authenticate: authenticate::Settings,
    pub(super) team: team::Settings,
}

/// The sections of all other filters.
pub(super) struct FilterSections<'d> {
    diagnostics: &'d Diagnostics,
    sections: Vec<FilterSection<'d>>,
}

/// The section of one filter.
struct FilterSection<'d> {
    name: &'static str,
    diagnostics: &'d Diagnostics,
    section: Section<'d>,
    is_present: bool,
}

impl<'d> FilterSections<'d> {
    /// Takes the sections of these filters out of the main file, after all other keys.
    pub(super) fn take(
        diagnostics: &'d Diagnostics,
        top: &mut Section<'d>,
        registry: &FilterRegistry,
    ) -> Self {
        let mut sections = Vec::new();
        for name in registry.names().filter(|name| *name != team::NAME) {
            if !top.is_known(name) {
                let is_present = top.has(name);
                let section = top.section(name);
                sections.push(FilterSection { name, diagnostics, section, is_present });
            }
        }
        Self { diagnostics, sections }
    }

    /// Parses the section of one filter of the chain. `None` if there is no such filter, or if its
    /// section is not valid, which is reported.
    pub(super) fn parse(
        &mut self,
        registry: &FilterRegistry,
        name: &str,
        presets: &Presets,
    ) -> Option<FilterConfig> {
        let preset: Box<dyn Any> = match name {
            authenticate::NAME => Box::new(presets.authenticate.clone()),
            team::NAME => Box::new(presets.team.clone()),
            _ => {
                let Some(section) = self.sections.iter_mut().find(|it| it.name == name) else {
                    self.report_reserved(registry, name);
                    return None;
                };
                return section.parse(registry);
            }
        };
        registry.parse(name, &mut Preset(Some(preset)))
    }

    /// Reports a filter that cannot have a section, since another key has its name.
    fn report_reserved(&self, registry: &FilterRegistry, name: &str) {
        if registry.contains(name) {
            let problem = format!("the filter {name} has the name of another key of this file");
            let problem = Problem::new(problem, "rename the filter in its FilterFactory");
            self.diagnostics.report(0, "chain", problem);
        }
    }

    /// Reports unknown keys, and sections of filters that are not in the chain.
    pub(super) fn finish(self, chain: &[Scalar]) {
        for FilterSection { name, diagnostics, section, is_present } in self.sections {
            if chain.iter().any(|filter| filter.text == name) {
                section.finish();
            } else if is_present {
                let fix = format!("add {name} to chain, or remove the section");
                let problem = Problem::new("is the section of a filter that is not in chain", fix);
                diagnostics.report(section.line(), name, problem);
            }
        }
    }
}

impl FilterSection<'_> {
    fn parse(&mut self, registry: &FilterRegistry) -> Option<FilterConfig> {
        let errors = self.diagnostics.error_count();
        let config = registry.parse(self.name, self);
        if config.is_none() && self.diagnostics.error_count() == errors {
            self.report(None, "", ValueError::new("is not valid", "correct the section"));
        }
        config
    }
}

impl SectionSource for FilterSection<'_> {
    fn is_present(&self) -> bool {
        self.is_present
    }

    fn has(&self, key: &str) -> bool {
        self.section.has(key)
    }

    fn value(&mut self, key: &'static str) -> Option<Located<String>> {
        let (value, line) = self.section.scalar_at(key, |text| Ok(text.to_owned()))?;
        Some(Located { value, line })
    }

    fn list(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let values = self.section.scalars(key)?.into_iter();
        Some(values.map(|Scalar { line, text: value }| Located { value, line }).collect())
    }

    fn report(&mut self, line: Option<u64>, key: &str, ValueError { problem, fix }: ValueError) {
        let line = line.unwrap_or(self.section.line());
        let path = if key.is_empty() { self.name.to_owned() } else { self.section.path_of(key) };
        self.diagnostics.report(line, &path, Problem::new(problem, fix));
    }
}

/// The settings of a built-in filter instead of a section.
struct Preset(Option<Box<dyn Any>>);

impl SectionSource for Preset {
    fn is_present(&self) -> bool {
        true
    }

    fn has(&self, _key: &str) -> bool {
        false
    }

    fn value(&mut self, _key: &'static str) -> Option<Located<String>> {
        None
    }

    fn list(&mut self, _key: &'static str) -> Option<Vec<Located<String>>> {
        None
    }

    fn report(&mut self, _line: Option<u64>, _key: &str, _error: ValueError) {}

    fn preset(&mut self) -> Option<Box<dyn Any>> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config, LoadContext};
    use sconce_filters::{Call, Decision, Filter, FilterFactory, Section as FilterSection};
    use std::{fs, sync::Arc};

    struct Limit;

    impl Filter for Limit {
        fn name(&self) -> &'static str {
            "limit"
        }

        fn admit(&self, _call: &mut Call) -> Decision {
            Decision::Admitted
        }
    }

    struct LimitFactory(&'static str);

    impl FilterFactory for LimitFactory {
        type Config = u64;

        fn name(&self) -> &'static str {
            self.0
        }

        fn parse(&self, section: &mut FilterSection<'_>) -> Option<u64> {
            section.integer("max", 1..=9)
        }

        fn build(&self, _max: &u64) -> Arc<dyn Filter> {
            Arc::new(Limit)
        }
    }

    /// The configuration with these lines, or its errors without the path of the file.
    fn load(lines: &str) -> Result<Config, Vec<String>> {
        let home = tempfile::tempdir().unwrap();
        let main = home.path().join("sconce.yaml");
        fs::write(&main, format!("teams: {{ directory: teams }}\n{lines}")).unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let team = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::write(home.path().join("teams/ads.yaml"), team).unwrap();
        let filters =
            FilterRegistry::built_in().with(LimitFactory("limit")).with(LimitFactory("drain"));
        let context = LoadContext { filters, ..LoadContext::default() };
        let file = format!("{}:", main.display());
        let errors = config::read(&main, &context, None).into_result();
        errors.map_err(|errors| {
            errors
                .iter()
                .map(|it| it.to_string().replace(&file, "").trim_start().to_owned())
                .collect()
        })
    }

    #[test]
    fn a_filter_of_the_registry_is_configured_by_its_section() {
        let chain = "chain: [team, limit]\n";
        let config = |max| load(&format!("{chain}limit: {{ max: {max} }}\n")).unwrap();
        assert_eq!(config(3).filters.chain().names().collect::<Vec<_>>(), ["team", "limit"]);
        assert_eq!(config(3).filters, config(3).filters);
        assert_ne!(config(3).filters, config(4).filters, "a reload applies the change");
    }

    #[test]
    fn errors_of_a_section_have_file_line_and_key() {
        for (lines, expected) in [
            (
                "chain: [team, limit]\nlimit:\n  max: 10\n",
                "4: limit.max: '10' is out of range; write a whole number, 1 to 9",
            ),
            (
                "chain: [team, limit]\nlimit: { max: 3, min: 1 }\n",
                "3: limit.min: unknown key 'min'; valid keys are max",
            ),
            ("chain: [team, limit]\n", "1: limit: is not valid; correct the section"),
            (
                "chain: [team, drain]\n",
                "chain: the filter drain has the name of another key of this file; rename the \
                 filter in its FilterFactory",
            ),
            (
                "limit: { max: 3 }\n",
                "2: limit: is the section of a filter that is not in chain; add limit to chain, \
                 or remove the section",
            ),
            (
                "chain: [team, limit, limit]\nlimit: { max: 3 }\n",
                "2: chain: limit is listed twice; correct the order",
            ),
        ] {
            assert_eq!(load(lines).unwrap_err(), [expected], "{lines}");
        }
    }
}
