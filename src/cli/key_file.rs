//! The files of a key: the private half, and the public half beside it.
//!
//! Must never happen here: a key that somebody else has put there or may change, and a write
//! through a link to somewhere else.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// The most octets of the file of a key.
const KEY_FILE_MAX: u64 = 4096;

/// What is no key of ours may be somebody's all the same: nobody is told to remove it.
pub(super) const NOT_OUR_KEY: &str =
    "is no key that this command has made; name another file with --key";

/// Bits of a mode: others, or the group, may read or write.
const READABLE: u32 = 0o044;
const WRITABLE: u32 = 0o022;

/// A private key that stands in a file.
#[derive(Debug)]
pub(super) struct KeyFile {
    /// In PKCS #8.
    pub(super) pkcs8: Vec<u8>,
    /// Whether others than its owner may read it.
    pub(super) is_readable_by_others: bool,
}

/// The key in a file; `None` if there is no such file.
pub(super) fn read(file: &Path) -> Result<Option<KeyFile>, String> {
    let unread = |fault| format!("cannot be read: {fault}; name another file with --key");
    // Before it is opened: a pipe would wait for a writer.
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => return Err(NOT_OUR_KEY.to_owned()),
        Ok(_) => {}
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(unread(fault)),
    }
    let opened = File::open(file).map_err(unread)?;
    let found = opened.metadata().map_err(unread)?;
    check_owner(&found)?;
    let mut octets = Vec::new();
    opened.take(KEY_FILE_MAX).read_to_end(&mut octets).map_err(unread)?;
    let pkcs8 = URL_SAFE_NO_PAD.decode(octets.trim_ascii()).map_err(|_| NOT_OUR_KEY.to_owned())?;
    Ok(Some(KeyFile { pkcs8, is_readable_by_others: found.mode() & READABLE != 0 }))
}

/// Puts a key into a file that is not there yet.
pub(super) fn write_private_key(file: &Path, pkcs8: &[u8]) -> Result<(), String> {
    let text = URL_SAFE_NO_PAD.encode(pkcs8);
    create(file, 0o600, &text).map_err(|fault| write_error(&fault))
}

/// Whether there is a public half in this file that was ours to write. What a link leads to counts,
/// and a link that leads nowhere is nothing.
pub(super) fn public_key_exists(file: &Path) -> Result<bool, String> {
    match fs::metadata(file) {
        Ok(found) => check_owner(&found).map(|()| true),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(fault) => Err(format!("cannot be read: {fault}; name another file with --key")),
    }
}

/// Puts a public half into a file, whatever was there, at once and whole. A link that was there is
/// replaced, and what it leads to is left alone.
pub(super) fn write_public_key(file: &Path, text: &str) -> Result<(), String> {
    let mut number = [0; 9];
    SystemRandom::new()
        .fill(&mut number)
        .map_err(|_| "no random number was to be had".to_owned())?;
    let new = file.with_added_extension(URL_SAFE_NO_PAD.encode(number));
    let written = create(&new, 0o644, text).and_then(|()| fs::rename(&new, file));
    written.map_err(|fault| {
        // Whether that works changes nothing about what went wrong.
        let _ = fs::remove_file(&new);
        write_error(&fault)
    })
}

/// Writes a file that is not there yet; no link is followed.
fn create(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    writeln!(made, "{text}")
}

/// Whoever may write a key, or its public half, decides whose tokens count.
fn check_owner(found: &Metadata) -> Result<(), String> {
    let owner = found.uid();
    if current_user().is_some_and(|me| me != owner) {
        let remedy = "who may know it and mint tokens as well: name another file with --key";
        return Err(format!("belongs to another user ({owner}), {remedy}"));
    }
    match found.mode() & WRITABLE {
        0 => Ok(()),
        _ => {
            let remedy =
                "if it is as you have made it, chmod go-w, else name another file with --key";
            Err(format!("others can write it: {remedy}"))
        }
    }
}

/// The user that this process acts as, where the system tells it.
fn current_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|found| found.uid())
}

fn write_error(fault: &io::Error) -> String {
    let remedy = "name a file in a directory that you may write, with --key";
    format!("cannot be made there: {fault}; {remedy}")
}
