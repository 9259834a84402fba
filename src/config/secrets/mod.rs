//! Secrets: the files and environment variables that a team file may use.
//!
//! The author of a team file chooses the address of the driver, and sconce sends the token to that
//! driver. With `teams.secrets_directory` and `teams.variable_prefix`, a team file can use only the
//! secrets of its own team. Two teams with the same secret are a warning.
//!
//! Must never happen here: a read of a file outside the directory, or a secret in a message.

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

/// The restrictions for secrets; empty: none.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    directory: Option<PathBuf>,
    prefix: Option<String>,
}

/// The secrets that one team file may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretScope<'s> {
    secrets: &'s Secrets,
    team: Option<&'s TeamName>,
}

/// The source of a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretLocation {
    /// A file, by its resolved path.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// The first use of each secret.
#[derive(Debug, Default)]
pub(super) struct SecretUses {
    /// Every file in a team file, including missing files.
    pub(super) files: Vec<PathBuf>,
    first: BTreeMap<SecretLocation, (TeamName, PathBuf, u64)>,
    warned: BTreeSet<(SecretLocation, TeamName)>,
}

/// Reads `secrets_directory` and `variable_prefix` of the section `teams`.
pub(super) fn read(diagnostics: &Diagnostics, section: &mut Section<'_>) -> Secrets {
    let half = match (section.has(DIRECTORY_KEY), section.has(PREFIX_KEY)) {
        (true, false) => Some((DIRECTORY_KEY, PREFIX_KEY, "any environment variable")),
        (false, true) => Some((PREFIX_KEY, DIRECTORY_KEY, "any file")),
        (true, true) | (false, false) => None,
    };
    if let Some((key, other, what)) = half {
        let what = format!("is set without teams.{other}: team files can still name {what}");
        let problem = Problem::new(what, format!("set teams.{other} as well"));
        diagnostics.warn(section.line(), &section.path_of(key), problem);
    }
    let directory = section.path(DIRECTORY_KEY);
    let prefix = section.scalar_at(PREFIX_KEY, |text| prefix(text).map(|()| text.to_owned()));
    let directory = directory.and_then(|(directory, line)| {
        let found = fs::metadata(&directory);
        if found.is_ok_and(|message| message.is_dir()) {
            return Some(directory);
        }
        let what = format!("the directory {} does not exist", directory.display());
        let problem =
            Problem::new(what, "create it, with a directory for each team that has secrets");
        diagnostics.report(line, &section.path_of(DIRECTORY_KEY), problem);
        None
    });
    Secrets { directory, prefix: prefix.map(|(prefix, _)| prefix) }
}

fn prefix(text: &str) -> Result<(), Problem> {
    if parse::is_variable_name(text) {
        return Ok(());
    }
    let what = format!("{} is not a valid prefix of variable names", quote(text));
    Err(Problem::new(what, "write letters, digits and underscores, for example SCONCE_"))
}

impl Secrets {
    /// The secrets of a team. While the team is unknown and there are restrictions: none.
    pub(super) fn scope<'s>(&'s self, team: Option<&'s TeamName>) -> SecretScope<'s> {
        SecretScope { secrets: self, team }
    }
}

impl<'s> SecretScope<'s> {
    /// Whether the team is unknown, so that it may use no secret.
    pub(super) fn is_unknown(self) -> bool {
        let Secrets { directory, prefix } = self.secrets;
        self.team.is_none() && (directory.is_some() || prefix.is_some())
    }

    /// The team.
    pub(super) fn team(self) -> Option<&'s TeamName> {
        self.team
    }

    /// The resolved path of a file, if the team may use it.
    pub(super) fn file(self, file: &Path) -> Result<PathBuf, Problem> {
        let (Some(directory), Some(team)) = (&self.secrets.directory, self.team) else {
            return Ok(file.to_owned());
        };
        let own = directory.join(team.as_str());
        let outside = || {
            let what = format!(
                "{} is outside {}, the directory of this team's secrets (teams.{DIRECTORY_KEY})",
                file.display(),
                own.display()
            );
            Problem::new(what, "move the file there, and write its new path")
        };
        let root = fs::canonicalize(directory).map_err(|error| unreadable(directory, &error))?;
        let home = fs::canonicalize(&own).map_err(|error| unreadable(&own, &error))?;
        // A symbolic link may lead to another version of a mounted directory, but not to another
        // team's directory.
        if !home.starts_with(&root) || home.file_name() != own.file_name() {
            return Err(outside());
        }
        let is_own = |path: &Path| path.starts_with(&home);
        match fs::canonicalize(file) {
            Ok(meant) if is_own(&meant) && meant != home => Ok(meant),
            Ok(_) => Err(outside()),
            Err(error) => {
                // Do not reveal whether a file outside the directory exists.
                let parent = file.parent().and_then(|parent| fs::canonicalize(parent).ok());
                let is_near = parent.is_some_and(|parent| is_own(&parent));
                Err(if is_near { unreadable(file, &error) } else { outside() })
            }
        }
    }

    /// Whether the team may use this variable.
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
        // Not shown, because it may be a token.
        let what = format!("is not a variable of this team (teams.{PREFIX_KEY})");
        Err(Problem::new(what, format!("write a name that starts with {own}_")))
    }
}

/// A team name as part of a variable name. A hyphen becomes two underscores, so that the variables
/// of different teams never overlap: `ADS_2` belongs to `ads`, `ADS__2` to `ads-2`.
fn variable_part(team: &TeamName) -> String {
    team.as_str().to_ascii_uppercase().replace('-', "__")
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let what = format!("{} cannot be read: {error}", path.display());
    Problem::new(what, "create it, or grant read permission to the user that runs sconce")
}

impl SecretUses {
    /// Records that a team uses a secret. Warns if another team uses it too.
    pub(super) fn record(
        &mut self,
        diagnostics: &Diagnostics,
        (line, key): (u64, &str),
        place: SecretLocation,
        team: &TeamName,
    ) {
        let here = || (team.clone(), diagnostics.file().to_owned(), line);
        let (owner, file, first) = self.first.entry(place.clone()).or_insert_with(here);
        if owner == team || !self.warned.insert((place.clone(), team.clone())) {
            return;
        }
        let what = match &place {
            SecretLocation::File(file) => format!("the file {}", file.display()),
            SecretLocation::Variable(name) => format!("the environment variable {}", quote(name)),
        };
        let what = format!(
            "{what} is also used by the team '{owner}' ({}:{first}): the drivers of both teams \
             receive the same token",
            file.display()
        );
        diagnostics.warn(line, key, Problem::new(what, "give each team its own token"));
    }
}
