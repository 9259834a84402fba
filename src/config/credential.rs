//! Where the token of a driver comes from: a file, or an environment variable.

use crate::config::{
    complaint::{Desk, Fault, shown},
    section::{Named, Section},
};
use crate::grpc::credential::{Credential, TOKEN_MAX};
use std::{env, path::PathBuf};

const FILE: &str = "driver_token_file";
const VARIABLE: &str = "driver_token_variable";

/// Reads what either key of a section names. The file is told in `files`, found or not.
pub(super) fn read(
    desk: &Desk,
    section: &mut Section<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Credential> {
    let twice = section.has(FILE) && section.has(VARIABLE);
    let named = section.file(FILE, files);
    let variable = section.word_at(VARIABLE, variable);
    if twice {
        let what = format!("stands beside {FILE}");
        let line = variable.map_or(section.line(), |(_, line)| line);
        desk.complain(line, &section.below(VARIABLE), Fault::new(what, "keep one of the two"));
        return None;
    }
    let Some(Named { file, text, line }) = named else {
        return variable.map(|(credential, _)| credential);
    };
    match credential(&text, &file.display().to_string()) {
        Ok(credential) => Some(credential),
        Err(fault) => {
            desk.complain(line, &section.below(FILE), fault);
            None
        }
    }
}

/// The credential that an environment variable holds. What cannot be the name of one may be the
/// token itself, and is not repeated.
fn variable(name: &str) -> Result<Credential, Fault> {
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    if !name.bytes().all(sound) || name.starts_with(|first: char| first.is_ascii_digit()) {
        let remedy = "write its name, as ADS_TOKEN, and set the variable where sconce is started";
        return Err(Fault::new("is not the name of an environment variable", remedy));
    }
    let text = env::var(name).map_err(|error| {
        let why = match error {
            env::VarError::NotPresent => "is not set",
            env::VarError::NotUnicode(_) => "is not UTF-8",
        };
        let remedy = format!("set it where sconce is started, or write {FILE} instead");
        Fault::new(format!("the environment variable {} {why}", shown(name)), remedy)
    })?;
    credential(&text, &format!("the environment variable {}", shown(name)))
}

fn credential(text: &str, place: &str) -> Result<Credential, Fault> {
    Credential::of(text.trim_ascii_end()).ok_or_else(|| {
        let remedy = format!("put one line of 1 to {TOKEN_MAX} visible ASCII characters into it");
        Fault::new(format!("{place} holds no token"), remedy)
    })
}
