//! Detects changes of the configuration files.
//!
//! Watches directories instead of files, because editors replace files and Kubernetes replaces a
//! `..data` symbolic link next to them. A burst of events is one change. Periodic polling detects
//! changes without kernel events: network file systems, a directory created again together with its
//! parent, exhausted inotify instances.
//!
//! Must never happen here: reading file contents, or a watch that ends with its directory.

#[cfg(test)]
mod tests;

use crate::config::files;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event};
use std::{
    collections::{
        HashMap, HashSet,
        hash_map::{DefaultHasher, Entry},
    },
    ffi::OsString,
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, task, time};

/// A change is reported after this time without further events.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A change is reported after this time even with further events.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// Interval of polling.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The files of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedFiles {
    /// The main file.
    pub main_file: PathBuf,
    /// The directory of the team files, if known.
    pub team_directory: Option<PathBuf>,
    /// Certificates, keys and other files.
    pub others: Vec<PathBuf>,
}

/// Detects changes of the files of a configuration.
#[derive(Debug)]
pub struct FileWatcher {
    files: WatchedFiles,
    watcher: Option<RecommendedWatcher>,
    /// File names whose changes are relevant with any extension.
    names: Arc<Mutex<Vec<OsString>>>,
    /// Capacity 1: one event is enough for a burst.
    events: mpsc::Receiver<()>,
    /// Watched directories, by device and inode.
    watched: HashMap<FileId, PathBuf>,
    fingerprint: u64,
    poll_interval: Duration,
}

type FileId = (u64, u64);

impl FileWatcher {
    /// Starts to watch. Earlier changes are not reported: read the files after this call.
    pub fn new(sources: &WatchedFiles) -> Self {
        Self::with_poll_interval(sources, POLL_INTERVAL)
    }

    fn with_poll_interval(sources: &WatchedFiles, poll: Duration) -> Self {
        let (event_tx, events) = mpsc::channel(1);
        let names = Arc::new(Mutex::new(sources.names()));
        let known = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| is_relevant(&event, &known)) {
                // A full channel already reports a change.
                let _ = event_tx.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, every = ?poll, "cannot watch the configuration files; polling \
                                                   them instead");
        }
        let (watcher, watched, fingerprint) = (watcher.ok(), HashMap::new(), sources.fingerprint());
        let (sources, directories) = (sources.clone(), sources.directories());
        let mut watch = Self {
            files: sources,
            watcher,
            names,
            events,
            watched,
            fingerprint,
            poll_interval: poll,
        };
        watch.watch_directories(directories);
        watch
    }

    /// Replaces the files.
    pub async fn set_files(&mut self, sources: &WatchedFiles) {
        if self.files != *sources {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = sources.names();
            self.files = sources.clone();
            self.refresh_watches().await;
        }
    }

    /// Waits for the next change. Cancel safe: after a cancellation, polling reports the change.
    pub async fn changed(&mut self) {
        loop {
            let has_event = match self.watcher {
                Some(_) => time::timeout(self.poll_interval, self.events.recv()).await.is_ok(),
                None => {
                    time::sleep(self.poll_interval).await;
                    false
                }
            };
            if has_event {
                // A timeout also reports the change.
                let _ = time::timeout(DEBOUNCE_MAX, self.wait_until_quiet()).await;
            }
            let has_changed = self.refresh_watches().await;
            let fingerprint = self.take_fingerprint().await;
            if std::mem::replace(&mut self.fingerprint, fingerprint) != fingerprint
                || has_event
                || has_changed
            {
                return;
            }
        }
    }

    async fn wait_until_quiet(&mut self) {
        while time::timeout(DEBOUNCE, self.events.recv()).await.is_ok() {}
    }

    async fn take_fingerprint(&self) -> u64 {
        let sources = self.files.clone();
        let hash = task::spawn_blocking(move || sources.fingerprint());
        hash.await.unwrap_or(self.fingerprint)
    }

    /// Finds the directories and watches them. Runs on a blocking thread, because there may be
    /// thousands of files, each with several symbolic links.
    async fn refresh_watches(&mut self) -> bool {
        let sources = self.files.clone();
        let directories = task::spawn_blocking(move || sources.directories()).await;
        directories.is_ok_and(|directories| self.watch_directories(directories))
    }

    /// Watches each new directory, and each one that was replaced under the same name.
    ///
    /// The kernel has one watch for all names of a directory. Each directory is watched by one name
    /// only, so that the removal of another name does not end the watch.
    fn watch_directories(&mut self, directories: HashMap<FileId, PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let before = self.watched.len();
        self.watched.retain(|was, directory| {
            let is_wanted = directories.contains_key(was);
            // The kernel ends the watch of a deleted directory itself.
            if !is_wanted && file_id(directory).is_some() {
                let _ = watcher.unwatch(directory);
            }
            is_wanted
        });
        let mut has_changed = self.watched.len() != before;
        for (is, directory) in directories {
            if let Entry::Vacant(place) = self.watched.entry(is) {
                has_changed = true;
                // A watch may remain from another directory that had this name and was moved away.
                let _ = watcher.unwatch(&directory);
                if watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok() {
                    place.insert(directory);
                }
            }
        }
        has_changed
    }
}

impl WatchedFiles {
    fn names(&self) -> Vec<OsString> {
        let all = [&self.main_file].into_iter().chain(&self.others);
        all.filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect()
    }

    /// The directories with relevant changes: those of the files, their parents, and those of
    /// symbolic link targets. At most two for each file, only existing ones, each by its first
    /// name.
    fn directories(&self) -> HashMap<FileId, PathBuf> {
        let above = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(ToOwned::to_owned),
        };
        let (mut all, mut meant) = (Vec::new(), Vec::new());
        for path in [&self.main_file].into_iter().chain(&self.team_directory).chain(&self.others) {
            all.extend(above(path));
            meant.extend(fs::canonicalize(path).ok().as_deref().and_then(above));
        }
        if let Some(teams) = &self.team_directory {
            all.push(teams.clone());
            meant.extend(fs::canonicalize(teams));
        }
        // A mounted Kubernetes volume version never changes; a change to the next version is
        // visible in its parent.
        meant.retain(|directory| {
            let name = directory.file_name().unwrap_or_default();
            !name.as_encoded_bytes().starts_with(b"..")
        });
        let mut found = HashMap::new();
        let mut seen = HashSet::new();
        for directory in all.into_iter().chain(meant) {
            if seen.insert(directory.clone())
                && let Some(is) = file_id(&directory)
            {
                found.entry(is).or_insert(directory);
            }
        }
        found
    }

    /// A hash of the metadata of all files, which changes with any edit.
    fn fingerprint(&self) -> u64 {
        let mut fingerprint = DefaultHasher::new();
        let mut hash = |path: &Path| {
            let found = fs::metadata(path).ok().map(|found| {
                let modified =
                    (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
                (found.dev(), found.ino(), found.len(), modified)
            });
            (path, found).hash(&mut fingerprint);
        };
        hash(&self.main_file);
        let listing =
            self.team_directory.as_deref().and_then(|teams| files::list_team_files(teams).ok());
        let listing = listing.unwrap_or_default();
        listing.files.iter().chain(&listing.misnamed).for_each(|path| hash(path));
        self.others.iter().for_each(|path| hash(path));
        fingerprint.finish()
    }
}

/// Whether an event can be a change of the files. Reads are not.
fn is_relevant(event: &Event, names: &[OsString]) -> bool {
    use event::{AccessKind, AccessMode};
    let reading = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    };
    let ours = |path: &PathBuf| {
        let name = path.file_name();
        let linked = name.is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
        let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        // Without an extension it may be a directory.
        let named = name.is_some_and(|name| names.iter().any(|known| known == name));
        linked || yaml || named || path.extension().is_none()
    };
    !reading && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(ours))
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
