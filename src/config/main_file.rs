//! The main file: parsed, validated and combined with the team files.

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
    Attribute, FilterChain, FilterConfig, FilterRegistry, authenticate as authenticate_filter,
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

/// Result of one read of all files.
#[derive(Debug)]
pub struct LoadResult {
    /// The config, or the errors of the main file.
    pub config: Result<Config, Vec<ConfigError>>,
    /// The errors of team files, each of which affects one team only.
    pub team_errors: ErrorsByTeam,
    /// Warnings, by file and line.
    pub warnings: Vec<ConfigError>,
    /// The files of this read, including missing files.
    pub files: WatchedFiles,
}

impl LoadResult {
    /// The config, if no file has an error.
    ///
    /// # Errors
    /// All errors in all files, by file and line.
    pub fn into_result(self) -> Result<Config, Vec<ConfigError>> {
        let errors = self.team_errors.into_values().flat_map(|errors| errors.errors);
        let (config, mut main_errors) = match self.config {
            Ok(config) => (Some(config), Vec::new()),
            Err(main_errors) => (None, main_errors),
        };
        main_errors.extend(errors);
        main_errors.sort();
        config.filter(|_| main_errors.is_empty()).ok_or(main_errors)
    }
}

/// Reads the main file and its other files. `live` is the live config, if there is one: a team
/// whose file has errors keeps its live configuration.
pub fn read(file: &Path, context: &LoadContext, live: Option<&Config>) -> LoadResult {
    let diagnostics = Diagnostics::new(file);
    let (mut errors, mut warnings) = (ErrorsByTeam::new(), Vec::new());
    let mut sources = WatchedFiles { main_file: file.to_owned(), ..WatchedFiles::default() };
    let node = files::read_yaml(file).and_then(|text| {
        yaml::parse(&text)
            .map_err(|garbled| (garbled.line, Problem::new(garbled.what, garbled.help)))
    });
    let config = match node {
        Ok(node) => {
            let diagnostics = &diagnostics;
            let (errors, sources, warnings) = (&mut errors, &mut sources, &mut warnings);
            let mut reader =
                MainFileReader { diagnostics, context, live, errors, warnings, sources };
            reader.config(Section::new(diagnostics, "", node))
        }
        Err((line, problem)) => {
            diagnostics.report(line, "", problem);
            None
        }
    };
    warnings.extend(diagnostics.take_warnings());
    warnings.sort();
    let mut main_errors = diagnostics.into_errors();
    if config.is_none() && main_errors.is_empty() {
        // No team can be served: the errors of team files are errors of the whole config.
        let errors = std::mem::take(&mut errors).into_values();
        main_errors.extend(errors.flat_map(|errors| errors.errors));
    }
    main_errors.sort();
    let config = config.filter(|_| main_errors.is_empty()).ok_or(main_errors);
    LoadResult { config, team_errors: errors, warnings, files: sources }
}

/// The section `teams` with the team files.
struct TeamsSection {
    team_files: TeamFiles,
    defaults: Defaults,
    list_teams: ListTeams,
    removal_delay: Duration,
}

/// One read of the main file.
struct MainFileReader<'r> {
    diagnostics: &'r Diagnostics,
    context: &'r LoadContext,
    live: Option<&'r Config>,
    errors: &'r mut ErrorsByTeam,
    /// Warnings of other files.
    warnings: &'r mut Vec<ConfigError>,
    sources: &'r mut WatchedFiles,
}

impl<'r> MainFileReader<'r> {
    fn config(&mut self, mut top: Section<'r>) -> Option<Config> {
        let diagnostics = self.diagnostics;
        let listen = sections::listen(diagnostics, top.section("listen"), &mut self.sources.others);
        let admin = sections::admin(top.section("admin"), diagnostics, listen.as_ref());
        let workers = sections::workers(&mut top);
        let log = sections::log(top.section("log"));
        let names = top.scalars("chain");
        let authenticate = top.optional_section("authenticate");
        let mut providers = Vec::new();
        let mut initial_fetch_timeout = None;
        let errors_before = diagnostics.error_count();
        let authenticate = authenticate.map(|section| {
            let line = section.line();
            let files = &mut self.sources.others;
            let known = (&self.context.jwks, listen.as_ref());
            let trust = authenticate::read(diagnostics, section, known, files);
            providers = trust.providers;
            if trust.settings.issuers.len() + trust.settings.tokens.len() > 0 {
                let listen = listen.as_ref();
                listen
                    .into_iter()
                    .for_each(|listen| sections::warn_cleartext_tokens(diagnostics, line, listen));
            }
            initial_fetch_timeout = trust.initial_fetch_timeout;
            (trust.settings, line)
        });
        // An issuer with an error is skipped, which would cause false warnings about members.
        let is_sound = diagnostics.error_count() == errors_before;
        let user_context = sections::user_context(top.section("user_context"));
        let timeouts = sections::timeouts(top.section("timeouts"));
        let drain = sections::drain(top.section("drain"));
        let limits = sections::limits(top.section("limits"));
        let chain_section = ChainSection::new(names, authenticate.is_some(), top.line());
        let callers = authenticate.as_ref().filter(|_| is_sound);
        let callers = callers.map(|(settings, _)| CallerNames::new(settings));
        let own = listen.as_ref().map(|listen| listen.address);
        let teams = self.teams(&mut top, (callers, chain_section.has_authenticate(), own));
        let own_sections = FilterSections::take(diagnostics, &mut top, &self.context.filters);
        top.finish();
        let (listen, teams) = (listen?, teams?);
        let registry = (diagnostics, &self.context.filters);
        let filters = filters(registry, chain_section, authenticate, &teams, own_sections)?;
        let TeamsSection { team_files: TeamFiles { teams, .. }, removal_delay, .. } = teams;
        Some(Config {
            listen,
            admin,
            workers,
            log,
            filters,
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
        let diagnostics = self.diagnostics;
        let mut section = top.section("teams");
        let known = section.has("directory");
        let directory = section.scalar_at("directory", |text| Ok(text.to_owned()));
        if !known {
            let help = "write the directory of the team files, for example directory: teams";
            section.report_missing("directory", help);
        }
        let defaults = Defaults {
            team: section.scalar_at("default_team", parse::team_name),
            environment: section.scalar_at("default_environment", parse::environment_name),
        };
        let list_teams = section.scalar("list_teams", parse::list_teams).unwrap_or_default();
        let secrets = secrets::read(diagnostics, &mut section);
        let removal_delay =
            section.scalar("removal_delay", |text| bounds::REMOVAL_DELAY.parse(text));
        let removal_delay = removal_delay.unwrap_or(bounds::REMOVAL_DELAY.default);
        section.finish();
        let (directory, line) = directory?;
        // An empty parent is the working directory; `join` handles it.
        let directory = diagnostics.file().parent().unwrap_or(Path::new("")).join(directory);
        self.sources.team_directory = Some(directory.clone());
        let rules = Rules { secrets, names, is_authenticated, listen_address: own };
        let read = teams::read_all(&directory, &rules, self.live);
        let read = read.map_err(|Problem { what, help }| {
            let problem = Problem::new(format!("{} {what}", directory.display()), help);
            diagnostics.report(line, "teams.directory", problem);
        });
        let mut team_files = read.ok()?;
        self.sources.others.append(&mut team_files.uses.files);
        self.warnings.append(&mut team_files.warnings);
        defaults.check(diagnostics, &mut team_files, self.live);
        self.errors.append(&mut team_files.errors);
        if team_files.teams.is_empty() {
            return None;
        }
        Some(TeamsSection { team_files, defaults, list_teams, removal_delay })
    }
}

/// The filter chain, and its line for errors.
struct ChainSection {
    names: Vec<Scalar>,
    line: u64,
}

impl ChainSection {
    /// The configured chain, or the default.
    fn new(names: Option<Vec<Scalar>>, has_authenticate: bool, line: u64) -> Self {
        let line = names.as_ref().and_then(|names| names.first()).map_or(line, |value| value.line);
        let default = [has_authenticate.then_some(authenticate_filter::NAME), Some(TEAM)];
        let default =
            default.into_iter().flatten().map(|name| Scalar { line, text: name.to_owned() });
        Self { names: names.unwrap_or_else(|| default.collect()), line }
    }

    /// Whether the chain authenticates callers.
    fn has_authenticate(&self) -> bool {
        self.names.iter().any(|value| value.text == authenticate_filter::NAME)
    }
}

/// Builds the chain and validates it.
fn filters(
    (diagnostics, registry): (&Diagnostics, &FilterRegistry),
    chain_section: ChainSection,
    authenticate: Option<(authenticate_filter::Settings, u64)>,
    teams: &TeamsSection,
    mut own_sections: FilterSections<'_>,
) -> Option<Filters> {
    let has_authenticate = chain_section.has_authenticate();
    let ChainSection { names, line } = chain_section;
    match &authenticate {
        None if has_authenticate => {
            let problem = Problem::new(
                "authenticate is in chain, but no issuers, tokens or certificates are configured",
                "add an authenticate section with issuers, tokens or certificates",
            );
            diagnostics.report(line, "chain", problem);
        }
        Some((_, line)) if !has_authenticate => {
            let problem = Problem::new(
                "is not in chain: callers would not be authenticated",
                "write chain: [authenticate, team], or remove the section",
            );
            diagnostics.report(*line, "authenticate", problem);
        }
        Some(_) | None => {}
    }
    let presets = Presets {
        authenticate: authenticate.map(|(settings, _)| settings).unwrap_or_default(),
        team: TeamSettings {
            teams: teams.team_files.environments(),
            authorities: teams.team_files.authorities.clone(),
            default_team: teams.defaults.team.clone().map(|(team, _)| team),
            default_environment: teams.defaults.environment.clone().map(|(name, _)| name),
            list_teams: teams.list_teams,
            members: has_authenticate.then(|| teams.team_files.members()),
            unserved: teams.team_files.unserved.clone(),
            unserved_authorities: teams.team_files.unserved_authorities.clone(),
            removed: Vec::new(),
        },
    };
    let mut configs: Vec<Option<FilterConfig>> = Vec::new();
    for (at, value) in names.iter().enumerate() {
        // A filter that is listed twice is an error of the chain, and not of its section.
        let first = names.iter().take(at).position(|other| other.text == value.text);
        configs.push(match first.and_then(|first| configs.get(first)) {
            Some(config) => config.clone(),
            None => own_sections.parse(registry, &value.text, &presets),
        });
        if !registry.contains(&value.text) {
            let all: Vec<_> = registry.names().collect();
            let what = format!("unknown filter {}", quote(&value.text));
            let problem = Problem::new(what, format!("valid filters are {}", all.join(", ")));
            diagnostics.report(value.line, "chain", problem);
        }
    }
    own_sections.finish(&names);
    let configs: Vec<_> = configs.into_iter().collect::<Option<_>>()?;
    chain(diagnostics, line, &configs).map(|chain| Filters { chain, configs })
}

fn chain(diagnostics: &Diagnostics, line: u64, configs: &[FilterConfig]) -> Option<FilterChain> {
    let chain = match FilterChain::new(configs.iter().map(FilterConfig::build).collect()) {
        Ok(chain) => chain,
        Err(breach) => {
            diagnostics.report(
                line,
                "chain",
                Problem::new(breach.to_string(), "correct the order"),
            );
            return None;
        }
    };
    if let Some(slot) = chain.first_unprovided(&[Attribute::Team, Attribute::Environment]) {
        let what = format!("no filter provides the {} of a call", slot.name());
        diagnostics.report(line, "chain", Problem::new(what, format!("add {TEAM}")));
        return None;
    }
    Some(chain)
}
