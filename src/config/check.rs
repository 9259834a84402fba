//! `sconce.yaml` made into a plan, together with the team files that it leads to.

use crate::config::{
    Plan, Rooms, Sources, Team, authenticate, bounds,
    complaint::{Complaint, Desk, Fault, shown},
    draft, folder,
    keys::Book,
    members::Names,
    parts, secrets,
    section::{Section, Word},
    teams::{self, Gathered, Rules},
    words,
};
use sconce_filters::{
    Chain, EnvironmentName, Slot, TeamName, authenticate as room, registry,
    team::{NAME as TEAM, Reveal, Settings as TeamSettings},
};
use std::{path::Path, time::Duration};

/// What one reading of the files gave.
#[derive(Debug)]
pub struct Reading {
    /// The plan, or all that is wrong, by file and line.
    pub plan: Result<Plan, Vec<Complaint>>,
    /// What an operator should know about the plan, by file and line.
    pub warnings: Vec<Complaint>,
    /// The files that were read, or would have been if they were there.
    pub sources: Sources,
}

/// Reads `sconce.yaml` and the files that it leads to. The keys of identity providers are those of
/// the book.
pub fn read(file: &Path, book: &Book) -> Reading {
    let desk = Desk::new(file);
    let (mut elsewhere, mut warnings) = (Vec::new(), Vec::new());
    let mut sources = Sources { file: file.to_owned(), ..Sources::default() };
    let node = folder::read(file).and_then(|text| {
        draft::read(&text)
            .map_err(|garbled| (garbled.line, Fault::new(garbled.what, garbled.remedy)))
    });
    let plan = match node {
        Ok(node) => {
            let desk = &desk;
            let (elsewhere, sources, warnings) = (&mut elsewhere, &mut sources, &mut warnings);
            let mut reader = Reader { desk, book, elsewhere, warnings, sources };
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
    complaints.append(&mut elsewhere);
    complaints.sort();
    let plan = plan.filter(|_| complaints.is_empty()).ok_or(complaints);
    Reading { plan, warnings, sources }
}

/// Which team files there are and what they say, as far as `sconce.yaml` told.
struct Teams {
    gathered: Gathered,
    defaults: Defaults,
    reveal: Reveal,
    removal_delay: Duration,
}

/// What a call gets that says nothing, and the lines that say so.
struct Defaults {
    team: Option<(TeamName, u64)>,
    environment: Option<(EnvironmentName, u64)>,
}

/// One reading of `sconce.yaml`.
struct Reader<'r> {
    desk: &'r Desk,
    book: &'r Book,
    /// Complaints about other files.
    elsewhere: &'r mut Vec<Complaint>,
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
        let authenticate = authenticate.map(|section| {
            let line = section.line();
            let files = &mut self.sources.others;
            let known = (self.book, listen.as_ref());
            let trust = authenticate::read(desk, section, known, files);
            providers = trust.providers;
            (trust.settings, line)
        });
        let stamp = parts::stamp(top.section("stamp"));
        let timeouts = parts::timeouts(top.section("timeouts"));
        let drain = parts::drain(top.section("drain"));
        let limits = parts::limits(top.section("limits"));
        let callers = authenticate.as_ref().map(|(settings, _)| Names::of(settings));
        let teams = self.teams(&mut top, callers);
        let line = top.line();
        top.close();
        let (listen, teams) = (listen?, teams?);
        self.elsewhere.extend(teams.gathered.loops(listen.address));
        let order = Order { names, line };
        let rooms = rooms(desk, order, authenticate, &teams, self.elsewhere)?;
        let Teams { gathered: Gathered { teams, .. }, removal_delay, .. } = teams;
        Some(Plan {
            listen,
            admin,
            workers,
            log,
            rooms,
            providers,
            teams,
            removal_delay,
            timeouts,
            drain,
            limits,
            stamp,
        })
    }

    fn teams(&mut self, top: &mut Section<'_>, names: Option<Names>) -> Option<Teams> {
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
        match teams::gather(&directory, &Rules { secrets, names }) {
            Err(Fault { what, remedy }) => {
                let fault = Fault::new(format!("{} {what}", directory.display()), remedy);
                desk.complain(line, "teams.directory", fault);
                None
            }
            Ok((mut gathered, complaints)) => {
                self.sources.others.append(&mut gathered.uses.files);
                self.warnings.append(&mut gathered.warnings);
                // A team that could not be read is not an unknown one.
                if complaints.is_empty() {
                    defaults.check(desk, &gathered);
                }
                self.elsewhere.extend(complaints);
                Some(Teams { gathered, defaults, reveal, removal_delay })
            }
        }
    }
}

impl Defaults {
    /// The defaults must lead somewhere.
    fn check(&self, desk: &Desk, gathered: &Gathered) {
        let mut owner = None;
        if let Some((team, line)) = &self.team {
            owner = gathered.teams.get(team).map(|found| (team, found));
            if owner.is_none() {
                let what = format!("no file is about the team '{team}'");
                let fault = Fault::new(what, "name a team that has a file, or remove the key");
                desk.complain(*line, "teams.default_team", fault);
            }
        }
        let Some((environment, line)) = &self.environment else { return };
        let lacks = |team: &Team| !team.environments.contains_key(environment);
        let what = match owner {
            Some((team, found)) if lacks(found) => {
                format!("the default team '{team}' has no environment '{environment}'")
            }
            None if gathered.teams.values().all(lacks) => {
                format!("no team has an environment '{environment}'")
            }
            Some(_) | None => return,
        };
        let fault = Fault::new(what, "name one that exists, or add it to a team's file");
        desk.complain(*line, "teams.default_environment", fault);
    }
}

/// The chain as a person wrote it, and the line on which to complain about it.
struct Order {
    names: Option<Vec<Word>>,
    line: u64,
}

/// Builds the chain, so that its contract is checked before anybody trusts it.
fn rooms(
    desk: &Desk,
    Order { names, line }: Order,
    authenticate: Option<(room::Settings, u64)>,
    teams: &Teams,
    elsewhere: &mut Vec<Complaint>,
) -> Option<Rooms> {
    let line = names.as_ref().and_then(|names| names.first()).map_or(line, |word| word.line);
    let usual = [authenticate.as_ref().map(|_| room::NAME), Some(TEAM)];
    let usual = usual.into_iter().flatten().map(|name| Word { line, text: name.to_owned() });
    let names = names.unwrap_or_else(|| usual.collect());
    let asks = names.iter().any(|word| word.text == room::NAME);
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
    if !asks {
        elsewhere.extend(teams.gathered.members_for_nothing());
    }
    let settings = registry::Settings {
        authenticate: authenticate.map(|(settings, _)| settings).unwrap_or_default(),
        team: TeamSettings {
            teams: teams.gathered.environments(),
            authorities: teams.gathered.authorities.clone(),
            default_team: teams.defaults.team.clone().map(|(team, _)| team),
            default_environment: teams.defaults.environment.clone().map(|(name, _)| name),
            reveal: teams.reveal,
            members: asks.then(|| teams.gathered.members()),
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
