//! The files of a key pair: the private key, and the public key next to it.
//!
//! Must never happen here: use of a key that another user created or can change, or a write through
//! a symbolic link.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Maximum size of a key file in bytes.
const KEY_FILE_MAX: u64 = 4096;

/// Does not recommend to remove the file, which may be another program's key.
pub(super) const NOT_OUR_KEY: &str =
    "is not a key created by this command; choose another file with --key";

/// Mode bits: group or others can read, or write.
const READABLE: u32 = 0o044;
const WRITABLE: u32 = 0o022;

/// A private key and the permissions of its file.
#[derive(Debug)]
pub(super) struct KeyFile {
    /// The key in PKCS #8.
    pub(super) pkcs8: Vec<u8>,
    /// Whether users other than the owner can read the file.
    pub(super) is_readable_by_others: bool,
}

/// Reads a private key. `None` if the file does not exist.
pub(super) fn read(file: &Path) -> Result<Option<KeyFile>, String> {
    let unread = |error| format!("cannot be read: {error}; choose another file with --key");
    // Before the open, which would block on a pipe without a writer.
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => return Err(NOT_OUR_KEY.to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unread(error)),
    }
    let opened = File::open(file).map_err(unread)?;
    let found = opened.metadata().map_err(unread)?;
    check_owner(&found)?;
    let mut bytes = Vec::new();
    opened.take(KEY_FILE_MAX).read_to_end(&mut bytes).map_err(unread)?;
    let pkcs8 = URL_SAFE_NO_PAD.decode(bytes.trim_ascii()).map_err(|_| NOT_OUR_KEY.to_owned())?;
    Ok(Some(KeyFile { pkcs8, is_readable_by_others: found.mode() & READABLE != 0 }))
}

/// Writes a private key to a new file.
pub(super) fn write_private_key(file: &Path, pkcs8: &[u8]) -> Result<(), String> {
    let text = URL_SAFE_NO_PAD.encode(pkcs8);
    create(file, 0o600, &text).map_err(|error| write_error(&error))
}

/// Whether the public key file exists. Follows symbolic links; a dangling link does not count.
///
/// # Errors
/// The file belongs to another user, or other users can write it.
pub(super) fn public_key_exists(file: &Path) -> Result<bool, String> {
    match fs::metadata(file) {
        Ok(found) => check_owner(&found).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot be read: {error}; choose another file with --key")),
    }
}

/// Writes the public key atomically. An existing file or symbolic link is replaced; the target of a
/// link is not changed.
pub(super) fn write_public_key(file: &Path, text: &str) -> Result<(), String> {
    let mut number = [0; 9];
    SystemRandom::new()
        .fill(&mut number)
        .map_err(|_| "the system provides no random numbers".to_owned())?;
    let new = file.with_added_extension(URL_SAFE_NO_PAD.encode(number));
    let written = create(&new, 0o644, text).and_then(|()| fs::rename(&new, file));
    written.map_err(|error| {
        // A failed removal does not change the error.
        let _ = fs::remove_file(&new);
        write_error(&error)
    })
}

/// Writes a new file. Does not follow symbolic links.
fn create(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    writeln!(made, "{text}")
}

/// Checks owner and mode: a user who can write the key or its public key controls which tokens are
/// accepted.
fn check_owner(found: &Metadata) -> Result<(), String> {
    let owner = found.uid();
    if current_user().is_some_and(|me| me != owner) {
        let help = "which can issue tokens with it: choose another file with --key";
        return Err(format!("belongs to another user ({owner}), {help}"));
    }
    match found.mode() & WRITABLE {
        0 => Ok(()),
        _ => {
            let help = "if the file is unchanged, run chmod go-w on it; otherwise choose another \
                        file with --key";
            Err(format!("other users can write it: {help}"))
        }
    }
}

/// The user ID of this process, if the system provides it.
fn current_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|message| message.uid())
}

fn write_error(error: &io::Error) -> String {
    let help = "choose a file in a writable directory with --key";
    format!("cannot be created: {error}; {help}")
}
