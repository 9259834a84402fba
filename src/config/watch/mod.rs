//! Notices that the files have changed, whatever changed them.
//!
//! Directories are watched and not files: editors put a new file in place of the old one, and
//! Kubernetes swaps a `..data` link beside it. A burst of events counts as one change. A slow poll
//! finds what the kernel does not tell (network file systems, a directory that is made again
//! together with its parent, no inotify instance left).
//!
//! Must never happen here: reading what the files say, or a watch that ends with its directory.

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

/// A change is told once no other has come for so long.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A change is told after so long even though others keep coming.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// So often the files are looked at though nothing was heard.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The files that make a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedFiles {
    /// `sconce.yaml`.
    pub main_file: PathBuf,
    /// The directory of the team files, if `sconce.yaml` told that much.
    pub team_directory: Option<PathBuf>,
    /// What else is named: certificates and keys.
    pub others: Vec<PathBuf>,
}

/// Watches the files that make a plan.
#[derive(Debug)]
pub struct FileWatcher {
    files: WatchedFiles,
    watcher: Option<RecommendedWatcher>,
    /// The names of files whose changes concern us, whatever they end in.
    names: Arc<Mutex<Vec<OsString>>>,
    /// Holds one token: that something has changed is all that a burst tells.
    events: mpsc::Receiver<()>,
    /// Directories under watch, by the device and inode that each was.
    watched: HashMap<FileId, PathBuf>,
    fingerprint: u64,
    poll_interval: Duration,
}

type FileId = (u64, u64);

impl FileWatcher {
    /// Begins to watch. What has changed before this is not told: read the files after it.
    pub fn new(sources: &WatchedFiles) -> Self {
        Self::with_poll_interval(sources, POLL_INTERVAL)
    }

    fn with_poll_interval(sources: &WatchedFiles, poll: Duration) -> Self {
        let (tell, heard) = mpsc::channel(1);
        let names = Arc::new(Mutex::new(sources.names()));
        let known = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| is_relevant(&event, &known)) {
                // Full means that a change is about to be told anyway.
                let _ = tell.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, every = ?poll, "files are not watched but polled");
        }
        let (watcher, armed, stamp) = (watcher.ok(), HashMap::new(), sources.fingerprint());
        let (sources, wanted) = (sources.clone(), sources.directories());
        let mut watch = Self {
            files: sources,
            watcher,
            names,
            events: heard,
            watched: armed,
            fingerprint: stamp,
            poll_interval: poll,
        };
        watch.watch_directories(wanted);
        watch
    }

    /// Watches these from now on.
    pub async fn set_files(&mut self, sources: &WatchedFiles) {
        if self.files != *sources {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = sources.names();
            self.files = sources.clone();
            self.refresh_watches().await;
        }
    }

    /// Waits for the next change. May be dropped and called again; a change is then told at the
    /// latest by the poll.
    pub async fn changed(&mut self) {
        loop {
            let heard = match self.watcher {
                Some(_) => time::timeout(self.poll_interval, self.events.recv()).await.is_ok(),
                None => {
                    time::sleep(self.poll_interval).await;
                    false
                }
            };
            if heard {
                // The time-out is the bound on a burst: either way the change is told.
                let _ = time::timeout(DEBOUNCE_MAX, self.wait_until_quiet()).await;
            }
            let rearmed = self.refresh_watches().await;
            let stamp = self.take_fingerprint().await;
            if std::mem::replace(&mut self.fingerprint, stamp) != stamp || heard || rearmed {
                return;
            }
        }
    }

    async fn wait_until_quiet(&mut self) {
        while time::timeout(DEBOUNCE, self.events.recv()).await.is_ok() {}
    }

    async fn take_fingerprint(&self) -> u64 {
        let sources = self.files.clone();
        let look = task::spawn_blocking(move || sources.fingerprint());
        look.await.unwrap_or(self.fingerprint)
    }

    /// Finds the directories and puts them under watch. Beside the runtime: there may be thousands
    /// of files, and each is looked up by every link that leads to it.
    async fn refresh_watches(&mut self) -> bool {
        let sources = self.files.clone();
        let wanted = task::spawn_blocking(move || sources.directories()).await;
        wanted.is_ok_and(|wanted| self.watch_directories(wanted))
    }

    /// Puts under watch each directory that is not, or that is another one of the same name by now.
    ///
    /// One directory may have several names, and the kernel has one watch for all of them: it is
    /// watched by one name alone, so that a name which is not wanted any more takes no watch away.
    fn watch_directories(&mut self, wanted: HashMap<FileId, PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let before = self.watched.len();
        self.watched.retain(|was, directory| {
            let is_wanted = wanted.contains_key(was);
            // Of one that was deleted, the kernel has ended the watch itself.
            if !is_wanted && file_id(directory).is_some() {
                let _ = watcher.unwatch(directory);
            }
            is_wanted
        });
        let mut rearmed = self.watched.len() != before;
        for (is, directory) in wanted {
            if let Entry::Vacant(place) = self.watched.entry(is) {
                rearmed = true;
                // There is one still if another directory had the name, and was moved away.
                let _ = watcher.unwatch(&directory);
                if watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok() {
                    place.insert(directory);
                }
            }
        }
        rearmed
    }
}

impl WatchedFiles {
    fn names(&self) -> Vec<OsString> {
        let all = [&self.main_file].into_iter().chain(&self.others);
        all.filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect()
    }

    /// The directories in which a change may concern us: those of the files, those above, since one
    /// may be deleted and made again, and those that links lead to. At most two for each source,
    /// without those that are not there, and each by the first of its names.
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
        // A version of a directory that Kubernetes has mounted: it never changes, and what leads to
        // the next one is seen beside it.
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

    /// What the files look like from outside: any edit changes it.
    fn fingerprint(&self) -> u64 {
        let mut stamp = DefaultHasher::new();
        let mut look = |path: &Path| {
            let found = fs::metadata(path).ok().map(|found| {
                let modified =
                    (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
                (found.dev(), found.ino(), found.len(), modified)
            });
            (path, found).hash(&mut stamp);
        };
        look(&self.main_file);
        let listing =
            self.team_directory.as_deref().and_then(|teams| files::list_team_files(teams).ok());
        let listing = listing.unwrap_or_default();
        listing.files.iter().chain(&listing.misnamed).for_each(|path| look(path));
        self.others.iter().for_each(|path| look(path));
        stamp.finish()
    }
}

/// Whether an event may have changed what the files say. Our own reading does not.
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
        // Without an ending it may be one of the directories themselves.
        let named = name.is_some_and(|name| names.iter().any(|known| known == name));
        linked || yaml || named || path.extension().is_none()
    };
    !reading && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(ours))
}

fn file_id(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
