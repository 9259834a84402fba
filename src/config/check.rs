//! `sconce.yaml` made into a plan, together with the team files that it leads to.

use crate::config::{
    Plan, Rooms, Sources, Team,
    complaint::{Complaint, Desk, Fault, shown},
    draft, folder, parts,
    section::{Section, Word},
    teams::{self, Gathered},
    words,
};
use sconce_filters::{
    Chain, EnvironmentName, Slot, TeamName, registry,
    team::{NAME as TEAM, Reveal, Settings as TeamSettings},
};
use std::path::{Path, PathBuf};

/// What one reading of the files gave.
#[derive(Debug)]
pub struct Reading {
    /// The plan, or all that is wrong, by file and line.
    pub plan: Result<Plan, Vec<Complaint>>,
    /// The files that were read, or would have been if they were there.
    pub sources: Sources,
}

/// Reads `sconce.yaml` and the team files that it leads to.
pub fn read(file: &Path) -> Reading {
    let desk = Desk::new(file);
    let mut elsewhere = Vec::new();
    let mut sources = Sources { file: file.to_owned(), ..Sources::default() };
    let node = folder::read(file).and_then(|text| {
        draft::read(&text)
            .map_err(|garbled| (garbled.line, Fault::new(garbled.what, garbled.remedy)))
    });
    let plan = match node {
        Ok(node) => plan(&desk, Section::of(&desk, "", node), &mut elsewhere, &mut sources),
        Err((line, fault)) => {
            desk.complain(line, "", fault);
            None
        }
    };
    let mut complaints = desk.clear();
    complaints.append(&mut elsewhere);
    complaints.sort();
    let plan = plan.filter(|_| complaints.is_empty()).ok_or(complaints);
    Reading { plan, sources }
}

/// Which team files there are and what they say, as far as `sconce.yaml` told.
struct Teams {
    gathered: Gathered,
    defaults: Defaults,
    reveal: Reveal,
}

/// What a call gets that says nothing, and the lines that say so.
struct Defaults {
    team: Option<(TeamName, u64)>,
    environment: Option<(EnvironmentName, u64)>,
}

fn plan(
    desk: &Desk,
    mut top: Section<'_>,
    elsewhere: &mut Vec<Complaint>,
    sources: &mut Sources,
) -> Option<Plan> {
    let listen = parts::listen(desk, top.section("listen"), &mut sources.others);
    let admin = parts::admin(top.section("admin"), desk, listen.as_ref());
    let workers = parts::workers(&mut top);
    let log = parts::log(top.section("log"));
    let names = top.words("chain");
    let timeouts = parts::timeouts(top.section("timeouts"));
    let drain = parts::drain(top.section("drain"));
    let limits = parts::limits(top.section("limits"));
    let teams = read_teams(desk, &mut top, elsewhere, &mut sources.teams);
    let line = top.line();
    top.close();
    let (listen, teams) = (listen?, teams?);
    elsewhere.extend(teams.gathered.loops(listen.address));
    let rooms = rooms(desk, (names, line), &teams)?;
    let Teams { gathered: Gathered { teams, .. }, .. } = teams;
    Some(Plan { listen, admin, workers, log, rooms, teams, timeouts, drain, limits })
}

fn read_teams(
    desk: &Desk,
    top: &mut Section<'_>,
    elsewhere: &mut Vec<Complaint>,
    found: &mut Option<PathBuf>,
) -> Option<Teams> {
    let mut section = top.section("teams");
    let known = section.has("directory");
    let directory = section.word_at("directory", |text| Ok(text.to_owned()));
    if !known {
        section.miss("directory", "name the directory of the team files, as directory: teams");
    }
    let defaults = Defaults {
        team: section.word_at("default_team", words::team),
        environment: section.word_at("default_environment", words::environment),
    };
    let reveal = section.word("reveal", words::reveal).unwrap_or_default();
    section.close();
    let (directory, line) = directory?;
    // An empty parent is the working directory, which `join` does not spoil.
    let directory = desk.file().parent().unwrap_or(Path::new("")).join(directory);
    *found = Some(directory.clone());
    match teams::gather(&directory) {
        Err(Fault { what, remedy }) => {
            let fault = Fault::new(format!("{} {what}", directory.display()), remedy);
            desk.complain(line, "teams.directory", fault);
            None
        }
        Ok((gathered, complaints)) => {
            // A team that could not be read is not an unknown one.
            if complaints.is_empty() {
                defaults.check(desk, &gathered);
            }
            elsewhere.extend(complaints);
            Some(Teams { gathered, defaults, reveal })
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

/// Builds the chain, so that its contract is checked before anybody trusts it.
fn rooms(desk: &Desk, (names, line): (Option<Vec<Word>>, u64), teams: &Teams) -> Option<Rooms> {
    let line = names.as_ref().and_then(|names| names.first()).map_or(line, |word| word.line);
    let settings = registry::Settings {
        team: TeamSettings {
            teams: teams.gathered.environments(),
            authorities: teams.gathered.authorities.clone(),
            default_team: teams.defaults.team.clone().map(|(team, _)| team),
            default_environment: teams.defaults.environment.clone().map(|(name, _)| name),
            reveal: teams.reveal,
        },
        ..registry::Settings::default()
    };
    let usual = || vec![Word { line, text: TEAM.to_owned() }];
    let mut rooms = Vec::new();
    for word in names.unwrap_or_else(usual) {
        match registry::build(&word.text, &settings) {
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
    Some(Rooms { chain, settings })
}
