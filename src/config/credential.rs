//! The token for a driver, from a file or an environment variable.

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

/// Reads the token of a section, if the team may use its source. Records the source in `uses`.
pub(super) fn read(
    diagnostics: &Diagnostics,
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
        let what = format!("conflicts with {FILE_KEY}");
        let line = held.map_or(section.line(), |(_, line)| line);
        diagnostics.report(
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
            Err(problem) => {
                diagnostics.report(line, &path, problem);
                return None;
            }
        },
    };
    if let Some(team) = scope.team() {
        uses.record(diagnostics, (line, &key), place, team);
    }
    Some(credential)
}

/// Reads a token file. Reads the resolved path that was checked, so that a later change of a
/// symbolic link has no effect.
fn file(scope: SecretScope<'_>, named: &Path) -> Result<(Credential, SecretLocation), Problem> {
    let meant = scope.file(named)?;
    let about = |Problem { what, help }| Problem::new(format!("{} {what}", named.display()), help);
    let bytes = files::read_bytes(&meant, "write the path of a file").map_err(about)?;
    let text = files::utf8_text(bytes).map_err(|(_, problem)| about(problem))?;
    let credential = credential(&text, &named.display().to_string())?;
    let place: PathBuf = fs::canonicalize(&meant).unwrap_or(meant);
    Ok((credential, SecretLocation::File(place)))
}

/// Reads an environment variable. An invalid name may be the token itself and is not repeated.
fn variable(
    scope: SecretScope<'_>,
    name: &str,
) -> Result<Option<(Credential, SecretLocation)>, Problem> {
    if !parse::is_variable_name(name) {
        let help = "write a name such as ADS_TOKEN, and set that variable in sconce's environment";
        return Err(Problem::new("is not the name of an environment variable", help));
    }
    scope.variable(name)?;
    let text = env::var(name).map_err(|error| {
        let why = match error {
            env::VarError::NotPresent => "is not set",
            env::VarError::NotUnicode(_) => "is not UTF-8",
        };
        let help = format!("set it in sconce's environment, or use {FILE_KEY}");
        Problem::new(format!("the environment variable {} {why}", quote(name)), help)
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
            _ => "contains a space or another character that is invalid in a token".to_owned(),
        };
        let help = format!("write one line of 1 to {TOKEN_MAX} visible ASCII characters");
        Problem::new(format!("{place} {what}"), help)
    })
}
