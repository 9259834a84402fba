//! `sconce.yaml` made into a plan, together with the team files that it leads to.

use crate::config::{
    Config, Filters, WatchedFiles, authenticate, bounds,
    defaults::Defaults,
    diagnostics::{ConfigError, Diagnostics, Problem, quote},
    files,
    filter_section::{FilterSections, Presets},
    keys::JwksProviders,
    members::CallerNames,
    parse, secrets,
    section::{Scalar, Section},
    sections,
    teams::{self, ErrorsByTeam, Rules, TeamFiles},
    yaml,
};
use sconce_filters::{
    Attribute, FilterChain, FilterConfig, FilterRegistry, authenticate as room,
    team::{ListTeams, NAME as TEAM, Settings as TeamSettings},
};
use std::{net::SocketAddr, path::Path, time::Duration};

/// The state of the process that reading the files needs. A clone shares it.
#[derive(Clone, Debug, Default)]
pub struct LoadContext {
    /// The filters that `chain` may name.
    pub filters: FilterRegistry,
    /// The identity providers of the live configuration.
    pub jwks: JwksProviders,
}

/// What one reading of the files gave.
#[derive(Debug)]
pub struct LoadResult {
    /// The plan, or all that is wrong with the main file, by file and line.
    pub config: Result<Config, Vec<ConfigError>>,
    /// What is wrong with the files of teams, each an error of that team alone.
    pub team_errors: ErrorsByTeam,
    /// What an operator should know about the plan, by file and line.
    pub warnings: Vec<ConfigError>,
    /// The files that were read, or would have been if they were there.
    pub files: WatchedFiles,
}

impl LoadResult {
    /// The plan, if nothing is wrong in any file.
    ///
    /// # Errors
    /// All that is wrong in all files, by file and line.
    pub fn into_result(self) -> Result<Config, Vec<ConfigError>> {
        let errors = self.team_errors.into_values().flat_map(|errors| errors.errors);
        let (plan, mut complaints) = match self.config {
            Ok(plan) => (Some(plan), Vec::new()),
            Err(complaints) => (None, complaints),
        };
        complaints.extend(errors);
        complaints.sort();
        plan.filter(|_| complaints.is_empty()).ok_or(complaints)
    }
}

/// Reads `sconce.yaml` and the files that it leads to. The keys of identity providers are those of
/// the book. Teams whose files have errors stay as they are in the live plan, if there is one.
pub fn read(file: &Path, context: &LoadContext, live: Option<&Config>) -> LoadResult {
    let desk = Diagnostics::new(file);
    let (mut errors, mut warnings) = (ErrorsByTeam::new(), Vec::new());
    let mut sources = WatchedFiles { main_file: file.to_owned(), ..WatchedFiles::default() };
    let node = files::read_yaml(file).and_then(|text| {
        yaml::parse(&text)
            .map_err(|garbled| (garbled.line, Problem::new(garbled.what, garbled.help)))
    });
    let plan = match node {
        Ok(node) => {
            let desk = &desk;
            let (errors, sources, warnings) = (&mut errors, &mut sources, &mut warnings);
            let mut reader =
                MainFileReader { diagnostics: desk, context, live, errors, warnings, sources };
            reader.config(Section::new(desk, "", node))
        }
        Err((line, fault)) => {
            desk.report(line, "", fault);
            None
        }
    };
    warnings.extend(desk.take_warnings());
    warnings.sort();
    let mut complaints = desk.into_errors();
    if plan.is_none() && complaints.is_empty() {
        // No team can be served: what is wrong with their files is wrong for all.
        let errors = std::mem::take(&mut errors).into_values();
        complaints.extend(errors.flat_map(|errors| errors.errors));
    }
    complaints.sort();
    let plan = plan.filter(|_| complaints.is_empty()).ok_or(complaints);
    LoadResult { config: plan, team_errors: errors, warnings, files: sources }
}

/// What the team files come to, as far as `sconce.yaml` told.
struct TeamsSection {
    roster: TeamFiles,
    defaults: Defaults,
    list_teams: ListTeams,
    removal_delay: Duration,
}

/// One reading of `sconce.yaml`.
struct MainFileReader<'r> {
    diagnostics: &'r Diagnostics,
    context: &'r LoadContext,
    live: Option<&'r Config>,
    errors: &'r mut ErrorsByTeam,
    /// Warnings about other files.
    warnings: &'r mut Vec<ConfigError>,
    sources: &'r mut WatchedFiles,
}

impl<'r> MainFileReader<'r> {
    fn config(&mut self, mut top: Section<'r>) -> Option<Config> {
        let desk = self.diagnostics;
        let listen = sections::listen(desk, top.section("listen"), &mut self.sources.others);
        let admin = sections::admin(top.section("admin"), desk, listen.as_ref());
        let workers = sections::workers(&mut top);
        let log = sections::log(top.section("log"));
        let names = top.scalars("chain");
        let authenticate = top.optional_section("authenticate");
        let mut providers = Vec::new();
        let mut initial_fetch_timeout = None;
        let complaints = desk.error_count();
        let authenticate = authenticate.map(|section| {
            let line = section.line();
            let files = &mut self.sources.others;
            let known = (&self.context.jwks, listen.as_ref());
            let trust = authenticate::read(desk, section, known, files);
            providers = trust.providers;
            if trust.settings.issuers.len() + trust.settings.tokens.len() > 0 {
                let listen = listen.as_ref();
                listen
                    .into_iter()
                    .for_each(|listen| sections::warn_cleartext_tokens(desk, line, listen));
            }
            initial_fetch_timeout = trust.initial_fetch_timeout;
            (trust.settings, line)
        });
        // An issuer with an error is left out: it would seem that nobody can have its names.
        let is_sound = desk.error_count() == complaints;
        let user_context = sections::user_context(top.section("user_context"));
        let timeouts = sections::timeouts(top.section("timeouts"));
        let drain = sections::drain(top.section("drain"));
        let limits = sections::limits(top.section("limits"));
        let order = ChainSection::new(names, authenticate.is_some(), top.line());
        let callers = authenticate.as_ref().filter(|_| is_sound);
        let callers = callers.map(|(settings, _)| CallerNames::new(settings));
        let own = listen.as_ref().map(|listen| listen.address);
        let teams = self.teams(&mut top, (callers, order.has_authenticate(), own));
        let own_sections = FilterSections::take(desk, &mut top, &self.context.filters);
        top.finish();
        let (listen, teams) = (listen?, teams?);
        let rooms =
            filters((desk, &self.context.filters), order, authenticate, &teams, own_sections)?;
        let TeamsSection { roster: TeamFiles { teams, .. }, removal_delay, .. } = teams;
        Some(Config {
            listen,
            admin,
            workers,
            log,
            filters: rooms,
            providers,
            initial_fetch_timeout: initial_fetch_timeout
                .unwrap_or(bounds::INITIAL_FETCH_TIMEOUT.default),
            teams,
            removal_delay,
            timeouts,
            drain,
            limits,
            user_context,
        })
    }

    fn teams(
        &mut self,
        top: &mut Section<'_>,
        (names, is_authenticated, own): (Option<CallerNames>, bool, Option<SocketAddr>),
    ) -> Option<TeamsSection> {
        let desk = self.diagnostics;
        let mut section = top.section("teams");
        let known = section.has("directory");
        let directory = section.scalar_at("directory", |text| Ok(text.to_owned()));
        if !known {
            let remedy = "name the directory of the team files, as directory: teams";
            section.report_missing("directory", remedy);
        }
        let defaults = Defaults {
            team: section.scalar_at("default_team", parse::team_name),
            environment: section.scalar_at("default_environment", parse::environment_name),
        };
        let reveal = section.scalar("list_teams", parse::list_teams).unwrap_or_default();
        let secrets = secrets::read(desk, &mut section);
        let removal_delay =
            section.scalar("removal_delay", |text| bounds::REMOVAL_DELAY.parse(text));
        let removal_delay = removal_delay.unwrap_or(bounds::REMOVAL_DELAY.default);
        section.finish();
        let (directory, line) = directory?;
        // An empty parent is the working directory, which `join` does not spoil.
        let directory = desk.file().parent().unwrap_or(Path::new("")).join(directory);
        self.sources.team_directory = Some(directory.clone());
        let rules = Rules { secrets, names, is_authenticated, listen_address: own };
        let gathered = teams::read_all(&directory, &rules, self.live);
        let gathered = gathered.map_err(|Problem { what, help: remedy }| {
            let fault = Problem::new(format!("{} {what}", directory.display()), remedy);
            desk.report(line, "teams.directory", fault);
        });
        let mut roster = gathered.ok()?;
        self.sources.others.append(&mut roster.uses.files);
        self.warnings.append(&mut roster.warnings);
        defaults.check(desk, &mut roster, self.live);
        self.errors.append(&mut roster.errors);
        if roster.teams.is_empty() {
            return None;
        }
        Some(TeamsSection { roster, defaults, list_teams: reveal, removal_delay })
    }
}

/// The chain, and the line on which to complain about it.
struct ChainSection {
    names: Vec<Scalar>,
    line: u64,
}

impl ChainSection {
    /// As a person wrote it, or the usual one.
    fn new(names: Option<Vec<Scalar>>, has_authenticate: bool, line: u64) -> Self {
        let line = names.as_ref().and_then(|names| names.first()).map_or(line, |word| word.line);
        let usual = [has_authenticate.then_some(room::NAME), Some(TEAM)];
        let usual = usual.into_iter().flatten().map(|name| Scalar { line, text: name.to_owned() });
        Self { names: names.unwrap_or_else(|| usual.collect()), line }
    }

    /// Whether callers are asked who they are.
    fn has_authenticate(&self) -> bool {
        self.names.iter().any(|word| word.text == room::NAME)
    }
}

/// Builds the chain, so that its contract is checked before anybody trusts it.
fn filters(
    (desk, registry): (&Diagnostics, &FilterRegistry),
    order: ChainSection,
    authenticate: Option<(room::Settings, u64)>,
    teams: &TeamsSection,
    mut own_sections: FilterSections<'_>,
) -> Option<Filters> {
    let asks = order.has_authenticate();
    let ChainSection { names, line } = order;
    match &authenticate {
        None if asks => {
            let fault = Problem::new(
                "authenticate is in the chain, and nothing says whose word counts",
                "write an authenticate section with issuers or tokens",
            );
            desk.report(line, "chain", fault);
        }
        Some((_, line)) if !asks => {
            let fault = Problem::new(
                "is not in the chain, so that nobody would be asked who he is",
                "write chain: [authenticate, team], or remove the section",
            );
            desk.report(*line, "authenticate", fault);
        }
        Some(_) | None => {}
    }
    let presets = Presets {
        authenticate: authenticate.map(|(settings, _)| settings).unwrap_or_default(),
        team: TeamSettings {
            teams: teams.roster.environments(),
            authorities: teams.roster.authorities.clone(),
            default_team: teams.defaults.team.clone().map(|(team, _)| team),
            default_environment: teams.defaults.environment.clone().map(|(name, _)| name),
            list_teams: teams.list_teams,
            members: asks.then(|| teams.roster.members()),
            unserved: teams.roster.unserved.clone(),
            unserved_authorities: teams.roster.unserved_authorities.clone(),
            removed: Vec::new(),
        },
    };
    let mut configs: Vec<Option<FilterConfig>> = Vec::new();
    for (at, word) in names.iter().enumerate() {
        // A filter that is listed twice is an error of the chain, and not of its section.
        let first = names.iter().take(at).position(|other| other.text == word.text);
        configs.push(match first.and_then(|first| configs.get(first)) {
            Some(config) => config.clone(),
            None => own_sections.parse(registry, &word.text, &presets),
        });
        if !registry.contains(&word.text) {
            let all: Vec<_> = registry.names().collect();
            let what = format!("there is no filter {}", quote(&word.text));
            let fault = Problem::new(what, format!("the filters are {}", all.join(", ")));
            desk.report(word.line, "chain", fault);
        }
    }
    own_sections.finish(&names);
    let configs: Vec<_> = configs.into_iter().collect::<Option<_>>()?;
    chain(desk, line, &configs).map(|chain| Filters { chain, configs })
}

fn chain(desk: &Diagnostics, line: u64, configs: &[FilterConfig]) -> Option<FilterChain> {
    let chain = match FilterChain::new(configs.iter().map(FilterConfig::build).collect()) {
        Ok(chain) => chain,
        Err(breach) => {
            desk.report(line, "chain", Problem::new(breach.to_string(), "correct the order"));
            return None;
        }
    };
    if let Some(slot) = chain.first_unprovided(&[Attribute::Team, Attribute::Environment]) {
        let what = format!("no filter provides the {} of a call", slot.name());
        desk.report(line, "chain", Problem::new(what, format!("add {TEAM}")));
        return None;
    }
    Some(chain)
}
