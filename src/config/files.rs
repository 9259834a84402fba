//! Files and directories read within bounds, whatever lies in them.
//!
//! Must never happen here: waiting for a pipe, following a link in circles, or holding a file that
//! has no end.

use crate::config::diagnostics::Problem;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The most octets that a file may have.
pub const FILE_MAX: u64 = 1024 * 1024;
/// The most team files that are read.
pub const TEAM_FILES_MAX: usize = 10_000;
/// The most entries that a directory may have.
const ENTRIES_MAX: usize = 100_000;

/// Marks a text as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a file, and on which line if it is on one.
pub(super) type ReadError = (u64, Problem);

/// The text of a YAML file.
pub(super) fn read_yaml(file: &Path) -> Result<String, ReadError> {
    utf8_text(read_bytes(file, "put a YAML file in its place").map_err(|fault| (0, fault))?)
}

/// The text that these octets are.
pub(super) fn utf8_text(octets: Vec<u8>) -> Result<String, ReadError> {
    String::from_utf8(octets).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(sound).filter(|octet| **octet == b'\n').count();
        let line = u64::try_from(lines).unwrap_or(0).saturating_add(1);
        (line, Problem::new("is not UTF-8", "save it as text in UTF-8"))
    })
}

/// The octets of a file, without the mark that some editors put in front. What is no file gets the
/// remedy `instead`.
pub(super) fn read_bytes(file: &Path, instead: &str) -> Result<Vec<u8>, Problem> {
    let kind = fs::metadata(file).map_err(|error| io_problem(&error))?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "is a directory" } else { "is not a plain file" };
        return Err(Problem::new(what, instead));
    }
    let mut octets = Vec::new();
    let opened = File::open(file).map_err(|error| io_problem(&error))?;
    let read = opened.take(FILE_MAX.saturating_add(1)).read_to_end(&mut octets);
    read.map_err(|error| io_problem(&error))?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(Problem::new("is larger than 1 MiB", "split it, or remove what is not used"));
    }
    if octets.starts_with(BYTE_ORDER_MARK) {
        octets.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(octets)
}

/// The team files of a directory, by name, and complaints about names that would be passed over.
pub(super) fn list_team_files(directory: &Path) -> Result<Listing, Problem> {
    let entries = fs::read_dir(directory).map_err(|error| {
        if error.kind() == io::ErrorKind::NotADirectory {
            Problem::new("is not a directory", "name the directory in which the team files are")
        } else {
            io_problem(&error)
        }
    })?;
    let mut listing = Listing::default();
    for (seen, entry) in entries.enumerate() {
        if seen >= ENTRIES_MAX {
            // A team whose file is not looked at must not count as removed.
            let what = format!("has more than {ENTRIES_MAX} entries");
            return Err(Problem::new(what, "move away what is no team's file"));
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
        return Err(Problem::new(what, "serve some of the teams from another sconce"));
    }
    listing.files.sort();
    listing.misnamed.sort();
    Ok(listing)
}

/// What a directory holds that could be meant for sconce.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files whose names end in `.yaml`.
    pub(super) files: Vec<PathBuf>,
    /// Files whose names nearly do.
    pub(super) misnamed: Vec<PathBuf>,
}

fn io_problem(error: &io::Error) -> Problem {
    let remedy = if error.kind() == io::ErrorKind::NotFound {
        "make it, or correct the path"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user that runs sconce read it"
    } else {
        "see to the file system"
    };
    Problem::new(format!("cannot be read: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn said(result: Result<impl std::fmt::Debug, ReadError>) -> (u64, String) {
        let (line, Problem { what, help: remedy }) = result.unwrap_err();
        (line, format!("{what}; {remedy}"))
    }

    #[test]
    fn a_file_without_end_is_refused_and_the_largest_is_read() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        let most = usize::try_from(FILE_MAX).unwrap();
        fs::write(&file, vec![b'#'; most]).unwrap();
        assert_eq!(read_yaml(&file).unwrap().len(), most);
        fs::write(&file, vec![b'#'; most + 1]).unwrap();
        assert_eq!(
            said(read_yaml(&file)).1,
            "is larger than 1 MiB; split it, or remove what is not used"
        );
        assert_eq!(
            said(read_yaml(Path::new("/dev/zero"))).1,
            "is not a plain file; put a YAML file in its place"
        );
    }

    #[test]
    fn links_in_circles_directories_and_missing_files_are_said() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one.yaml"), home.path().join("two.yaml"));
        symlink(&one, &two).unwrap();
        symlink(&two, &one).unwrap();
        assert!(
            said(read_yaml(&one))
                .1
                .starts_with("cannot be read: Too many levels of symbolic links")
        );
        assert_eq!(said(read_yaml(home.path())).1, "is a directory; put a YAML file in its place");
        let missing = said(read_yaml(&home.path().join("none.yaml"))).1;
        assert!(missing.ends_with("; make it, or correct the path"), "{missing}");
    }

    #[test]
    fn octets_that_are_not_utf_8_are_found_by_line() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        fs::write(&file, b"team: ads\nx: \xff\n").unwrap();
        let expected = "is not UTF-8; save it as text in UTF-8";
        assert_eq!(said(read_yaml(&file)), (2, expected.to_owned()));
    }

    #[test]
    fn the_mark_of_an_editor_is_no_part_of_the_text() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.yaml");
        fs::write(&file, "\u{feff}team: ads\n").unwrap();
        assert_eq!(read_yaml(&file).unwrap(), "team: ads\n");
    }

    #[test]
    fn only_plain_names_that_end_in_yaml_are_team_files() {
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
