//! Reads of files and directories, with limits.
//!
//! Must never happen here: a blocking read from a pipe, an endless loop of symbolic links, or a
//! file of unlimited size in memory.

use crate::config::diagnostics::Problem;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Maximum size of a file in bytes.
pub const FILE_MAX: u64 = 1024 * 1024;
/// Maximum number of team files.
pub const TEAM_FILES_MAX: usize = 10_000;
/// Maximum number of directory entries.
const ENTRIES_MAX: usize = 100_000;

/// UTF-8 byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A problem of a file and its line; 0 for the whole file.
pub(super) type ReadError = (u64, Problem);

/// Reads a YAML file.
pub(super) fn read_yaml(file: &Path) -> Result<String, ReadError> {
    utf8_text(read_bytes(file, "replace it with a YAML file").map_err(|problem| (0, problem))?)
}

/// Decodes UTF-8.
pub(super) fn utf8_text(bytes: Vec<u8>) -> Result<String, ReadError> {
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(sound).filter(|byte| **byte == b'\n').count();
        let line = u64::try_from(lines).unwrap_or(0).saturating_add(1);
        (line, Problem::new("is not UTF-8", "save it as UTF-8 text"))
    })
}

/// Reads a file and removes a byte order mark. `instead` is the help for a path that is not a file.
pub(super) fn read_bytes(file: &Path, instead: &str) -> Result<Vec<u8>, Problem> {
    let kind = fs::metadata(file).map_err(|error| io_problem(&error))?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "is a directory" } else { "is not a regular file" };
        return Err(Problem::new(what, instead));
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| io_problem(&error))?;
    let read = opened.take(FILE_MAX.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| io_problem(&error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(Problem::new("is larger than 1 MiB", "split it, or remove unused parts"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// Lists the team files of a directory, sorted by name, and files with a similar extension.
pub(super) fn list_team_files(directory: &Path) -> Result<Listing, Problem> {
    let entries = fs::read_dir(directory).map_err(|error| {
        if error.kind() == io::ErrorKind::NotADirectory {
            Problem::new("is not a directory", "write the directory of the team files")
        } else {
            io_problem(&error)
        }
    })?;
    let mut listing = Listing::default();
    for (seen, entry) in entries.enumerate() {
        if seen >= ENTRIES_MAX {
            // A team whose file is not read must not count as removed.
            let what = format!("has more than {ENTRIES_MAX} entries");
            return Err(Problem::new(what, "move other files to another directory"));
        }
        let path = entry.map_err(|error| io_problem(&error))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending {
            _ if hidden => {}
            "yaml" => listing.files.push(path),
            _ if ["yaml", "yml"].contains(&&*ending.to_ascii_lowercase()) => {
                listing.misnamed.push(path);
            }
            _ => {}
        }
    }
    if listing.files.len() > TEAM_FILES_MAX {
        let what = format!("has more than {TEAM_FILES_MAX} team files");
        return Err(Problem::new(what, "move some teams to another sconce"));
    }
    listing.files.sort();
    listing.misnamed.sort();
    Ok(listing)
}

/// Possible team files of a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files with the extension `.yaml`.
    pub(super) files: Vec<PathBuf>,
    /// Files with a similar extension, which would be ignored.
    pub(super) misnamed: Vec<PathBuf>,
}

fn io_problem(error: &io::Error) -> Problem {
    let help = if error.kind() == io::ErrorKind::NotFound {
        "create it, or correct the path"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "grant read permission to the user that runs sconce"
    } else {
        "check the file system"
    };
    Problem::new(format!("cannot be read: {error}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn messages(result: Result<impl std::fmt::Debug, ReadError>) -> (u64, String) {
        let (line, Problem { what, help }) = result.unwrap_err();
        (line, format!("{what}; {help}"))
    }

    #[test]
    fn a_file_above_the_size_limit_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        let most = usize::try_from(FILE_MAX).unwrap();
        fs::write(&file, vec![b'#'; most]).unwrap();
        assert_eq!(read_yaml(&file).unwrap().len(), most);
        fs::write(&file, vec![b'#'; most + 1]).unwrap();
        assert_eq!(
            messages(read_yaml(&file)).1,
            "is larger than 1 MiB; split it, or remove unused parts"
        );
        assert_eq!(
            messages(read_yaml(Path::new("/dev/zero"))).1,
            "is not a regular file; replace it with a YAML file"
        );
    }

    #[test]
    fn link_loops_directories_and_missing_files_are_errors() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one.yaml"), home.path().join("two.yaml"));
        symlink(&one, &two).unwrap();
        symlink(&two, &one).unwrap();
        assert!(
            messages(read_yaml(&one))
                .1
                .starts_with("cannot be read: Too many levels of symbolic links")
        );
        assert_eq!(
            messages(read_yaml(home.path())).1,
            "is a directory; replace it with a YAML file"
        );
        let missing = messages(read_yaml(&home.path().join("none.yaml"))).1;
        assert!(missing.ends_with("; create it, or correct the path"), "{missing}");
    }

    #[test]
    fn the_error_for_invalid_utf_8_has_the_line() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        fs::write(&file, b"team: ads\nx: \xff\n").unwrap();
        let expected = "is not UTF-8; save it as UTF-8 text";
        assert_eq!(messages(read_yaml(&file)), (2, expected.to_owned()));
    }

    #[test]
    fn a_byte_order_mark_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        fs::write(&file, "\u{feff}team: ads\n").unwrap();
        assert_eq!(read_yaml(&file).unwrap(), "team: ads\n");
    }

    #[test]
    fn only_visible_yaml_files_are_team_files() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", ".a.yaml.swp", ".a.yaml", "a.yaml~", "README.md", "c.yml"]
        {
            fs::write(home.path().join(name), "").unwrap();
        }
        fs::create_dir(home.path().join("..data")).unwrap();
        let Listing { files, misnamed } = list_team_files(home.path()).unwrap();
        let names = |paths: Vec<PathBuf>| -> Vec<_> {
            paths.iter().map(|path| path.file_name().unwrap().to_owned()).collect()
        };
        assert_eq!(names(files), ["a.yaml", "b.yaml"]);
        assert_eq!(names(misnamed), ["c.yml"]);
    }
}
