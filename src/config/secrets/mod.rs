//! Secrets: which files and environment variables a team's file may name.
//!
//! Whoever writes a team's file says where its driver is, and that driver is shown the token. With
//! `teams.secrets_directory` and `teams.variable_prefix` a team's file reaches the secrets of its
//! own team alone; two teams that name the same one are warned about.
//!
//! Must never happen here: a file outside of the directory that is read, or a value in a message.

#[cfg(test)]
mod tests;

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    parse,
    section::Section,
};
use sconce_filters::TeamName;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

const DIRECTORY_KEY: &str = "secrets_directory";
const PREFIX_KEY: &str = "variable_prefix";

/// Where teams may have secrets. With nothing in it: anywhere.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    directory: Option<PathBuf>,
    prefix: Option<String>,
}

/// What the file of one team may name.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretScope<'s> {
    secrets: &'s Secrets,
    team: Option<&'s TeamName>,
}

/// Something that holds a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretLocation {
    /// A file, by the path that is left when links are followed.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// Which team named which secret first, and where.
#[derive(Debug, Default)]
pub(super) struct SecretUses {
    /// Every file that was named, found or not.
    pub(super) files: Vec<PathBuf>,
    first: BTreeMap<SecretLocation, (TeamName, PathBuf, u64)>,
    warned: BTreeSet<(SecretLocation, TeamName)>,
}

/// Reads both keys of the section `teams`.
pub(super) fn read(desk: &Diagnostics, section: &mut Section<'_>) -> Secrets {
    let half = match (section.has(DIRECTORY_KEY), section.has(PREFIX_KEY)) {
        (true, false) => Some((DIRECTORY_KEY, PREFIX_KEY, "any environment variable")),
        (false, true) => Some((PREFIX_KEY, DIRECTORY_KEY, "any file")),
        (true, true) | (false, false) => None,
    };
    if let Some((key, other, what)) = half {
        let what = format!("stands alone: team files may still name {what}");
        let fault = Problem::new(what, format!("write teams.{other} as well"));
        desk.warn(section.line(), &section.path_of(key), fault);
    }
    let directory = section.path(DIRECTORY_KEY);
    let prefix = section.scalar_at(PREFIX_KEY, |text| prefix(text).map(|()| text.to_owned()));
    let directory = directory.and_then(|(directory, line)| {
        let found = fs::metadata(&directory);
        if found.is_ok_and(|found| found.is_dir()) {
            return Some(directory);
        }
        let what = format!("there is no directory {}", directory.display());
        let fault = Problem::new(what, "make it, with a directory for each team that has secrets");
        desk.report(line, &section.path_of(DIRECTORY_KEY), fault);
        None
    });
    Secrets { directory, prefix: prefix.map(|(prefix, _)| prefix) }
}

fn prefix(text: &str) -> Result<(), Problem> {
    if parse::is_variable_name(text) {
        return Ok(());
    }
    let what = format!("{} is not the beginning of a variable's name", quote(text));
    Err(Problem::new(what, "write letters, digits and underscores, as SCONCE_"))
}

impl Secrets {
    /// What the file of this team may name. Nothing at all while the team is not known, where teams
    /// are kept apart.
    pub(super) fn scope<'s>(&'s self, team: Option<&'s TeamName>) -> SecretScope<'s> {
        SecretScope { secrets: self, team }
    }
}

impl<'s> SecretScope<'s> {
    /// Whether nothing can be read, since it is not known for whom.
    pub(super) fn is_unknown(self) -> bool {
        let Secrets { directory, prefix } = self.secrets;
        self.team.is_none() && (directory.is_some() || prefix.is_some())
    }

    /// Whose file it is.
    pub(super) fn team(self) -> Option<&'s TeamName> {
        self.team
    }

    /// The file that is meant by this path, without links, if the team may name it.
    pub(super) fn file(self, file: &Path) -> Result<PathBuf, Problem> {
        let (Some(directory), Some(team)) = (&self.secrets.directory, self.team) else {
            return Ok(file.to_owned());
        };
        let own = directory.join(team.as_str());
        let outside = || {
            let what = format!(
                "{} is not in {}, where this team's secrets are (teams.{DIRECTORY_KEY})",
                file.display(),
                own.display()
            );
            Problem::new(what, "put it there, and name it by that path")
        };
        let root = fs::canonicalize(directory).map_err(|error| unreadable(directory, &error))?;
        let home = fs::canonicalize(&own).map_err(|error| unreadable(&own, &error))?;
        // A link may lead from version to version of a mounted directory, but to no other team's.
        if !home.starts_with(&root) || home.file_name() != own.file_name() {
            return Err(outside());
        }
        let is_own = |path: &Path| path.starts_with(&home);
        match fs::canonicalize(file) {
            Ok(meant) if is_own(&meant) && meant != home => Ok(meant),
            Ok(_) => Err(outside()),
            Err(error) => {
                // Whether there is a file elsewhere is nothing to those who may not name it.
                let parent = file.parent().and_then(|parent| fs::canonicalize(parent).ok());
                let is_near = parent.is_some_and(|parent| is_own(&parent));
                Err(if is_near { unreadable(file, &error) } else { outside() })
            }
        }
    }

    /// Whether the team may name this variable.
    pub(super) fn variable(self, name: &str) -> Result<(), Problem> {
        let (Some(prefix), Some(team)) = (&self.secrets.prefix, self.team) else { return Ok(()) };
        let own = prefix.to_owned() + &variable_part(team);
        let rest = name.strip_prefix(&own);
        let is_own = rest.is_some_and(|rest| match rest.strip_prefix('_') {
            Some(rest) => !rest.starts_with('_'),
            None => rest.is_empty(),
        });
        if is_own {
            return Ok(());
        }
        // Not shown: it may be a token that was pasted there.
        let what = format!("is not the name of a variable of this team (teams.{PREFIX_KEY})");
        Err(Problem::new(what, format!("name one that begins with {own}_")))
    }
}

/// A team's name as a part of a variable's. A hyphen is two underscores, so that what begins with
/// one team's name and an underscore is no other team's: `ADS_2` is a variable of `ads`, `ADS__2`
/// one of `ads-2`.
fn variable_part(team: &TeamName) -> String {
    team.as_str().to_ascii_uppercase().replace('-', "__")
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let what = format!("{} cannot be read: {error}", path.display());
    Problem::new(what, "make it, or let the user that runs sconce read it")
}

impl SecretUses {
    /// A key of a team's file names this secret. Warns if it is another team's already.
    pub(super) fn record(
        &mut self,
        desk: &Diagnostics,
        (line, key): (u64, &str),
        place: SecretLocation,
        team: &TeamName,
    ) {
        let here = || (team.clone(), desk.file().to_owned(), line);
        let (owner, file, first) = self.first.entry(place.clone()).or_insert_with(here);
        if owner == team || !self.warned.insert((place.clone(), team.clone())) {
            return;
        }
        let what = match &place {
            SecretLocation::File(file) => format!("the file {}", file.display()),
            SecretLocation::Variable(name) => format!("the environment variable {}", quote(name)),
        };
        let what = format!(
            "{what} is that of the team '{owner}' too ({}:{first}): the drivers of both learn the \
             same token",
            file.display()
        );
        desk.warn(line, key, Problem::new(what, "give each team a token of its own"));
    }
}
