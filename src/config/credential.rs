//! Where the token of a driver comes from: a file, or an environment variable.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    files, parse,
    secrets::{SecretLocation, SecretScope, SecretUses},
    section::Section,
};
use crate::grpc::credential::{Credential, TOKEN_MAX};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

const FILE_KEY: &str = "driver_token_file";
const VARIABLE_KEY: &str = "driver_token_variable";

/// Reads what either key of a section names, if the team may name it. What it names is told in
/// `uses`.
pub(super) fn read(
    desk: &Diagnostics,
    section: &mut Section<'_>,
    scope: SecretScope<'_>,
    uses: &mut SecretUses,
) -> Option<Credential> {
    let twice = section.has(FILE_KEY) && section.has(VARIABLE_KEY);
    let (named, path) = (section.path(FILE_KEY), section.path_of(FILE_KEY));
    uses.files.extend(named.iter().map(|(file, _)| file.clone()));
    let check = |name: &str| if scope.is_unknown() { Ok(None) } else { variable(scope, name) };
    let held = section.scalar_at(VARIABLE_KEY, check);
    if twice {
        let what = format!("stands beside {FILE_KEY}");
        let line = held.map_or(section.line(), |(_, line)| line);
        desk.report(
            line,
            &section.path_of(VARIABLE_KEY),
            Problem::new(what, "keep one of the two"),
        );
        return None;
    }
    if scope.is_unknown() {
        return None;
    }
    let (credential, place, line, key) = match named {
        None => {
            let (held, line) = held?;
            let (credential, place) = held?;
            (credential, place, line, section.path_of(VARIABLE_KEY))
        }
        Some((named, line)) => match file(scope, &named) {
            Ok((credential, place)) => (credential, place, line, path),
            Err(fault) => {
                desk.report(line, &path, fault);
                return None;
            }
        },
    };
    if let Some(team) = scope.team() {
        uses.record(desk, (line, &key), place, team);
    }
    Some(credential)
}

/// The credential that a file holds. The file that is read is the one that was looked at: a link
/// that is changed meanwhile leads nowhere else.
fn file(scope: SecretScope<'_>, named: &Path) -> Result<(Credential, SecretLocation), Problem> {
    let meant = scope.file(named)?;
    let about = |Problem { what, help: remedy }| {
        Problem::new(format!("{} {what}", named.display()), remedy)
    };
    let octets = files::read_bytes(&meant, "name the file itself").map_err(about)?;
    let text = files::utf8_text(octets).map_err(|(_, fault)| about(fault))?;
    let credential = credential(&text, &named.display().to_string())?;
    let place: PathBuf = fs::canonicalize(&meant).unwrap_or(meant);
    Ok((credential, SecretLocation::File(place)))
}

/// The credential that an environment variable holds. What cannot be the name of one may be the
/// token itself, and is not repeated.
fn variable(
    scope: SecretScope<'_>,
    name: &str,
) -> Result<Option<(Credential, SecretLocation)>, Problem> {
    if !parse::is_variable_name(name) {
        let remedy = "write its name, as ADS_TOKEN, and set the variable where sconce is started";
        return Err(Problem::new("is not the name of an environment variable", remedy));
    }
    scope.variable(name)?;
    let text = env::var(name).map_err(|error| {
        let why = match error {
            env::VarError::NotPresent => "is not set",
            env::VarError::NotUnicode(_) => "is not UTF-8",
        };
        let remedy = format!("set it where sconce is started, or write {FILE_KEY} instead");
        Problem::new(format!("the environment variable {} {why}", quote(name)), remedy)
    })?;
    let credential = credential(&text, &format!("the environment variable {}", quote(name)))?;
    Ok(Some((credential, SecretLocation::Variable(name.to_owned()))))
}

fn credential(text: &str, place: &str) -> Result<Credential, Problem> {
    let token = text.trim_ascii_end();
    Credential::from_token(token).ok_or_else(|| {
        let what = match token {
            "" => "is empty".to_owned(),
            _ if token.lines().count() > 1 => format!("has {} lines", token.lines().count()),
            _ if token.len() > TOKEN_MAX => format!("has {} characters", token.len()),
            _ => "has a space, or another character that no token has".to_owned(),
        };
        let remedy = format!("put one line of 1 to {TOKEN_MAX} visible ASCII characters into it");
        Problem::new(format!("{place} {what}"), remedy)
    })
}
