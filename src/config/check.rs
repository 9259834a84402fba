//! `sconce.yaml` made into a plan, together with the team files that it leads to.

use crate::config::{
    Plan, Rooms, Sources, authenticate, bounds,
    complaint::{Complaint, Desk, Fault, shown},
    defaults::Defaults,
    draft, folder,
    keys::Book,
    members::Names,
    parts, secrets,
    section::{Section, Word},
    teams::{self, Errors, Roster, Rules},
    words,
};
use sconce_filters::{
    Chain, Slot, authenticate as room, registry,
    team::{NAME as TEAM, Reveal, Settings as TeamSettings},
};
use std::{net::SocketAddr, path::Path, time::Duration};

/// What one reading of the files gave.
#[derive(Debug)]
pub struct Reading {
    /// The plan, or all that is wrong with the main file, by file and line.
    pub plan: Result<Plan, Vec<Complaint>>,
    /// What is wrong with the files of teams, each an error of that team alone.
    pub errors: Errors,
    /// What an operator should know about the plan, by file and line.
    pub warnings: Vec<Complaint>,
    /// The files that were read, or would have been if they were there.
    pub sources: Sources,
}

impl Reading {
    /// The plan, if nothing is wrong in any file.
    ///
    /// # Errors
    /// All that is wrong in all files, by file and line.
    pub fn whole(self) -> Result<Plan, Vec<Complaint>> {
        let errors = self.errors.into_values().flat_map(|errors| errors.complaints);
        let (plan, mut complaints) = match self.plan {
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
pub fn read(file: &Path, book: &Book, live: Option<&Plan>) -> Reading {
    let desk = Desk::new(file);
    let (mut errors, mut warnings) = (Errors::new(), Vec::new());
    let mut sources = Sources { file: file.to_owned(), ..Sources::default() };
    let node = folder::read(file).and_then(|text| {
        draft::read(&text)
            .map_err(|garbled| (garbled.line, Fault::new(garbled.what, garbled.remedy)))
    });
    let plan = match node {
        Ok(node) => {
            let desk = &desk;
            let (errors, sources, warnings) = (&mut errors, &mut sources, &mut warnings);
            let mut reader = Reader { desk, book, live, errors, warnings, sources };
            reader.plan(Section::of(desk, "", node))
        }
        Err((line, fault)) => {
            desk.complain(line, "", fault);
            None
        }
    };
    warnings.extend(desk.warnings());
    warnings.sort();
    let mut complaints = desk.clear();
    if plan.is_none() && complaints.is_empty() {
        // No team can be served: what is wrong with their files is wrong for all.
        let errors = std::mem::take(&mut errors).into_values();
        complaints.extend(errors.flat_map(|errors| errors.complaints));
    }
    complaints.sort();
    let plan = plan.filter(|_| complaints.is_empty()).ok_or(complaints);
    Reading { plan, errors, warnings, sources }
}

/// What the team files come to, as far as `sconce.yaml` told.
struct Teams {
    roster: Roster,
    defaults: Defaults,
    reveal: Reveal,
    removal_delay: Duration,
}

/// One reading of `sconce.yaml`.
struct Reader<'r> {
    desk: &'r Desk,
    book: &'r Book,
    live: Option<&'r Plan>,
    errors: &'r mut Errors,
    /// Warnings about other files.
    warnings: &'r mut Vec<Complaint>,
    sources: &'r mut Sources,
}

impl Reader<'_> {
    fn plan(&mut self, mut top: Section<'_>) -> Option<Plan> {
        let desk = self.desk;
        let listen = parts::listen(desk, top.section("listen"), &mut self.sources.others);
        let admin = parts::admin(top.section("admin"), desk, listen.as_ref());
        let workers = parts::workers(&mut top);
        let log = parts::log(top.section("log"));
        let names = top.words("chain");
        let authenticate = top.section_if_there("authenticate");
        let mut providers = Vec::new();
        let mut initial_fetch_timeout = None;
        let complaints = desk.count();
        let authenticate = authenticate.map(|section| {
            let line = section.line();
            let files = &mut self.sources.others;
            let known = (self.book, listen.as_ref());
            let trust = authenticate::read(desk, section, known, files);
            providers = trust.providers;
            if trust.settings.issuers.len() + trust.settings.tokens.len() > 0 {
                let listen = listen.as_ref();
                listen.into_iter().for_each(|listen| parts::warn_of_clear_text(desk, line, listen));
            }
            initial_fetch_timeout = trust.initial_fetch_timeout;
            (trust.settings, line)
        });
        // An issuer with an error is left out: it would seem that nobody can have its names.
        let is_sound = desk.count() == complaints;
        let stamp = parts::stamp(top.section("stamp"));
        let timeouts = parts::timeouts(top.section("timeouts"));
        let drain = parts::drain(top.section("drain"));
        let limits = parts::limits(top.section("limits"));
        let order = Order::of(names, authenticate.is_some(), top.line());
        let callers = authenticate.as_ref().filter(|_| is_sound);
        let callers = callers.map(|(settings, _)| Names::of(settings));
        let own = listen.as_ref().map(|listen| listen.address);
        let teams = self.teams(&mut top, (callers, order.is_authenticated(), own));
        top.close();
        let (listen, teams) = (listen?, teams?);
        let rooms = rooms(desk, order, authenticate, &teams)?;
        let Teams { roster: Roster { teams, .. }, removal_delay, .. } = teams;
        Some(Plan {
            listen,
            admin,
            workers,
            log,
            rooms,
            providers,
            initial_fetch_timeout: initial_fetch_timeout.unwrap_or(bounds::INITIAL_FETCH.usual),
            teams,
            removal_delay,
            timeouts,
            drain,
            limits,
            stamp,
        })
    }

    fn teams(
        &mut self,
        top: &mut Section<'_>,
        (names, is_authenticated, own): (Option<Names>, bool, Option<SocketAddr>),
    ) -> Option<Teams> {
        let desk = self.desk;
        let mut section = top.section("teams");
        let known = section.has("directory");
        let directory = section.word_at("directory", |text| Ok(text.to_owned()));
        if !known {
            let remedy = "name the directory of the team files, as directory: teams";
            section.miss("directory", remedy);
        }
        let defaults = Defaults {
            team: section.word_at("default_team", words::team),
            environment: section.word_at("default_environment", words::environment),
        };
        let reveal = section.word("reveal", words::reveal).unwrap_or_default();
        let secrets = secrets::read(desk, &mut section);
        let removal_delay = section.word("removal_delay", |text| bounds::REMOVAL_DELAY.read(text));
        let removal_delay = removal_delay.unwrap_or(bounds::REMOVAL_DELAY.usual);
        section.close();
        let (directory, line) = directory?;
        // An empty parent is the working directory, which `join` does not spoil.
        let directory = desk.file().parent().unwrap_or(Path::new("")).join(directory);
        self.sources.teams = Some(directory.clone());
        let rules = Rules { secrets, names, is_authenticated, own };
        let gathered = teams::gather(&directory, &rules, self.live);
        let gathered = gathered.map_err(|Fault { what, remedy }| {
            let fault = Fault::new(format!("{} {what}", directory.display()), remedy);
            desk.complain(line, "teams.directory", fault);
        });
        let mut roster = gathered.ok()?;
        self.sources.others.append(&mut roster.uses.files);
        self.warnings.append(&mut roster.warnings);
        defaults.check(desk, &mut roster, self.live);
        self.errors.append(&mut roster.errors);
        if roster.teams.is_empty() {
            return None;
        }
        Some(Teams { roster, defaults, reveal, removal_delay })
    }
}

/// The chain, and the line on which to complain about it.
struct Order {
    names: Vec<Word>,
    line: u64,
}

impl Order {
    /// As a person wrote it, or the usual one.
    fn of(names: Option<Vec<Word>>, has_authenticate: bool, line: u64) -> Self {
        let line = names.as_ref().and_then(|names| names.first()).map_or(line, |word| word.line);
        let usual = [has_authenticate.then_some(room::NAME), Some(TEAM)];
        let usual = usual.into_iter().flatten().map(|name| Word { line, text: name.to_owned() });
        Self { names: names.unwrap_or_else(|| usual.collect()), line }
    }

    /// Whether callers are asked who they are.
    fn is_authenticated(&self) -> bool {
        self.names.iter().any(|word| word.text == room::NAME)
    }
}

/// Builds the chain, so that its contract is checked before anybody trusts it.
fn rooms(
    desk: &Desk,
    order: Order,
    authenticate: Option<(room::Settings, u64)>,
    teams: &Teams,
) -> Option<Rooms> {
    let asks = order.is_authenticated();
    let Order { names, line } = order;
    match &authenticate {
        None if asks => {
            let fault = Fault::new(
                "authenticate is in the chain, and nothing says whose word counts",
                "write an authenticate section with issuers or tokens",
            );
            desk.complain(line, "chain", fault);
        }
        Some((_, line)) if !asks => {
            let fault = Fault::new(
                "is not in the chain, so that nobody would be asked who he is",
                "write chain: [authenticate, team], or remove the section",
            );
            desk.complain(*line, "authenticate", fault);
        }
        Some(_) | None => {}
    }
    let settings = registry::Settings {
        authenticate: authenticate.map(|(settings, _)| settings).unwrap_or_default(),
        team: TeamSettings {
            teams: teams.roster.environments(),
            authorities: teams.roster.authorities.clone(),
            default_team: teams.defaults.team.clone().map(|(team, _)| team),
            default_environment: teams.defaults.environment.clone().map(|(name, _)| name),
            reveal: teams.reveal,
            members: asks.then(|| teams.roster.members()),
            unserved: teams.roster.unserved.clone(),
            unserved_authorities: teams.roster.unserved_authorities.clone(),
            removed: Vec::new(),
        },
    };
    chain(desk, names, line, &settings).map(|chain| Rooms { chain, settings })
}

fn chain(desk: &Desk, names: Vec<Word>, line: u64, settings: &registry::Settings) -> Option<Chain> {
    let mut rooms = Vec::new();
    for word in names {
        match registry::build(&word.text, settings) {
            Some(room) => rooms.push(room),
            None => {
                let all: Vec<_> = registry::names().collect();
                let what = format!("there is no filter {}", shown(&word.text));
                let fault = Fault::new(what, format!("the filters are {}", all.join(", ")));
                desk.complain(word.line, "chain", fault);
                return None;
            }
        }
    }
    let chain = match Chain::new(rooms) {
        Ok(chain) => chain,
        Err(breach) => {
            desk.complain(line, "chain", Fault::new(breach.to_string(), "correct the order"));
            return None;
        }
    };
    if let Some(slot) = chain.lacks(&[Slot::Team, Slot::Environment]) {
        let what = format!("no filter finds the {} of a call", slot.name());
        desk.complain(line, "chain", Fault::new(what, format!("add {TEAM}")));
        return None;
    }
    Some(chain)
}
