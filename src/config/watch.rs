//! Notices that the files have changed, whatever changed them.
//!
//! Directories are watched and not files: editors put a new file in place of the old one, and
//! Kubernetes swaps a `..data` link beside it. A burst of events counts as one change. A slow poll
//! finds what the kernel does not tell (network file systems, a directory that is made again
//! together with its parent, no inotify instance left).
//!
//! Must never happen here: reading what the files say, or a watch that ends with its directory.

use crate::config::folder;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event};
use std::{
    collections::hash_map::DefaultHasher,
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
const QUIET: Duration = Duration::from_millis(200);
/// A change is told after so long even though others keep coming.
const BURST_MAX: Duration = Duration::from_secs(2);
/// So often the files are looked at though nothing was heard.
const POLL: Duration = Duration::from_secs(10);

/// The files that make a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// `sconce.yaml`.
    pub file: PathBuf,
    /// The directory of the team files, if `sconce.yaml` told that much.
    pub teams: Option<PathBuf>,
    /// What else is named: certificates and keys.
    pub others: Vec<PathBuf>,
}

/// Watches the files that make a plan.
#[derive(Debug)]
pub struct Watch {
    sources: Sources,
    watcher: Option<RecommendedWatcher>,
    /// The names of files whose changes concern us, whatever they end in.
    names: Arc<Mutex<Vec<OsString>>>,
    /// Holds one token: that something has changed is all that a burst tells.
    heard: mpsc::Receiver<()>,
    /// Directories under watch, each with the device and inode that it was.
    armed: Vec<(PathBuf, Option<Identity>)>,
    stamp: u64,
    poll: Duration,
}

type Identity = (u64, u64);

impl Watch {
    /// Begins to watch. What has changed before this is not told: read the files after it.
    pub fn new(sources: &Sources) -> Self {
        Self::polling_every(sources, POLL)
    }

    fn polling_every(sources: &Sources, poll: Duration) -> Self {
        let (tell, heard) = mpsc::channel(1);
        let names = Arc::new(Mutex::new(sources.names()));
        let known = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| concerns(&event, &known)) {
                // Full means that a change is about to be told anyway.
                let _ = tell.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, every = ?poll, "files are not watched but polled");
        }
        let (watcher, armed, stamp) = (watcher.ok(), Vec::new(), sources.stamp());
        let sources = sources.clone();
        let mut watch = Self { sources, watcher, names, heard, armed, stamp, poll };
        watch.arm();
        watch
    }

    /// Watches these from now on.
    pub fn follow(&mut self, sources: &Sources) {
        if self.sources != *sources {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = sources.names();
            self.sources = sources.clone();
            self.arm();
        }
    }

    /// Waits for the next change. May be dropped and called again; a change is then told at the
    /// latest by the poll.
    pub async fn changed(&mut self) {
        loop {
            let heard = match self.watcher {
                Some(_) => time::timeout(self.poll, self.heard.recv()).await.is_ok(),
                None => {
                    time::sleep(self.poll).await;
                    false
                }
            };
            if heard {
                // The time-out is the bound on a burst: either way the change is told.
                let _ = time::timeout(BURST_MAX, self.quiet()).await;
            }
            let rearmed = self.arm();
            let stamp = self.look().await;
            if std::mem::replace(&mut self.stamp, stamp) != stamp || heard || rearmed {
                return;
            }
        }
    }

    async fn quiet(&mut self) {
        while time::timeout(QUIET, self.heard.recv()).await.is_ok() {}
    }

    async fn look(&self) -> u64 {
        let sources = self.sources.clone();
        let look = task::spawn_blocking(move || sources.stamp());
        look.await.unwrap_or(self.stamp)
    }

    /// Puts under watch each directory that is not, or that is another one of the same name by now.
    fn arm(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut rearmed = false;
        let wanted = self.sources.directories();
        self.armed.retain(|(directory, _)| {
            let keep = wanted.contains(directory);
            if !keep {
                let _ = watcher.unwatch(directory);
            }
            keep
        });
        for directory in wanted {
            let is = identity(&directory);
            let was = self.armed.iter().position(|(armed, _)| *armed == directory);
            let was = was.map(|index| self.armed.swap_remove(index).1);
            if was != Some(is) {
                rearmed = true;
                let _ = watcher.unwatch(&directory);
            }
            let kept = match (was == Some(is), is) {
                (true, _) | (false, None) => is,
                (false, Some(_)) => {
                    watcher.watch(&directory, RecursiveMode::NonRecursive).ok().and(is)
                }
            };
            self.armed.push((directory, kept));
        }
        rearmed
    }
}

impl Sources {
    fn names(&self) -> Vec<OsString> {
        let all = [&self.file].into_iter().chain(&self.others);
        all.filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect()
    }

    /// The directories in which a change may concern us: those of the files, those above, since one
    /// may be deleted and made again, and those that links lead to. At most two for each source.
    fn directories(&self) -> Vec<PathBuf> {
        let above = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
            parent => parent.map(ToOwned::to_owned),
        };
        let mut all = Vec::new();
        for path in [&self.file].into_iter().chain(&self.teams).chain(&self.others) {
            let meant = fs::canonicalize(path).ok();
            all.extend([above(path), meant.as_deref().and_then(above)]);
        }
        if let Some(teams) = &self.teams {
            all.extend([Some(teams.clone()), fs::canonicalize(teams).ok()]);
        }
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        all.sort();
        all.dedup();
        all
    }

    /// What the files look like from outside: any edit changes it.
    fn stamp(&self) -> u64 {
        let mut stamp = DefaultHasher::new();
        let mut look = |path: &Path| {
            let found = fs::metadata(path).ok().map(|found| {
                let modified =
                    (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
                (found.dev(), found.ino(), found.len(), modified)
            });
            (path, found).hash(&mut stamp);
        };
        look(&self.file);
        let listing = self.teams.as_deref().and_then(|teams| folder::list(teams).ok());
        let listing = listing.unwrap_or_default();
        listing.files.iter().chain(&listing.misnamed).for_each(|path| look(path));
        self.others.iter().for_each(|path| look(path));
        stamp.finish()
    }
}

/// Whether an event may have changed what the files say. Our own reading does not.
fn concerns(event: &Event, names: &[OsString]) -> bool {
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

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const NEVER: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_secs(10);

    fn home() -> (TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let (file, teams) = (home.path().join("sconce.yaml"), home.path().join("teams"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&teams).unwrap();
        fs::write(teams.join("ads.yaml"), "x").unwrap();
        (home, file, teams)
    }

    fn sources(file: &Path, teams: &Path) -> Sources {
        Sources { file: file.to_owned(), teams: Some(teams.to_owned()), others: Vec::new() }
    }

    fn run(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    }

    async fn told(watch: &mut Watch) -> bool {
        time::timeout(SOON, watch.changed()).await.is_ok()
    }

    async fn silent(watch: &mut Watch) -> bool {
        time::timeout(Duration::from_millis(700), watch.changed()).await.is_err()
    }

    #[test]
    fn an_edit_in_place_and_one_by_renaming_are_told() {
        run(async || {
            let (_home, file, teams) = home();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            fs::write(&file, "y").unwrap();
            assert!(told(&mut watch).await);
            let new = teams.join(".ads.yaml.new");
            fs::write(&new, "y").unwrap();
            fs::rename(&new, teams.join("ads.yaml")).unwrap();
            assert!(told(&mut watch).await);
            fs::remove_file(teams.join("ads.yaml")).unwrap();
            assert!(told(&mut watch).await);
            assert!(silent(&mut watch).await, "one edit is told once");
        });
    }

    #[test]
    fn reading_the_files_and_an_editor_s_own_files_are_no_change() {
        run(async || {
            let (_home, file, teams) = home();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            fs::read(&file).unwrap();
            fs::read_dir(&teams).unwrap().count();
            fs::read(teams.join("ads.yaml")).unwrap();
            fs::write(teams.join(".ads.yaml.swp"), "y").unwrap();
            assert!(silent(&mut watch).await);
        });
    }

    #[test]
    fn the_link_that_kubernetes_swaps_is_told() {
        run(async || {
            let (home, _, _) = home();
            let mount = home.path().join("mount");
            for version in ["..one", "..two"] {
                fs::create_dir_all(mount.join(version)).unwrap();
                fs::write(mount.join(version).join("ads.yaml"), version).unwrap();
            }
            symlink("..one", mount.join("..data")).unwrap();
            symlink("..data/ads.yaml", mount.join("ads.yaml")).unwrap();
            let sources = sources(&home.path().join("s.yaml"), &mount);
            let mut watch = Watch::polling_every(&sources, NEVER);
            symlink("..two", mount.join("..data_tmp")).unwrap();
            fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
            assert!(told(&mut watch).await);
            assert_eq!(fs::read_to_string(mount.join("ads.yaml")).unwrap(), "..two");
        });
    }

    #[test]
    fn a_directory_that_is_deleted_and_made_again_is_watched_again() {
        run(async || {
            let (_home, file, teams) = home();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            fs::remove_dir_all(&teams).unwrap();
            assert!(told(&mut watch).await);
            fs::create_dir(&teams).unwrap();
            assert!(told(&mut watch).await);
            while !silent(&mut watch).await {}
            fs::write(teams.join("ads.yaml"), "z").unwrap();
            assert!(told(&mut watch).await, "the new directory is under watch");
        });
    }

    #[test]
    fn another_directory_can_be_followed() {
        run(async || {
            let (home, file, teams) = home();
            let other = home.path().join("other");
            fs::create_dir(&other).unwrap();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            watch.follow(&sources(&file, &other));
            fs::write(other.join("ml.yaml"), "z").unwrap();
            assert!(told(&mut watch).await);
        });
    }

    #[test]
    fn a_file_that_is_named_is_followed_whatever_its_name_ends_in() {
        run(async || {
            let (home, file, teams) = home();
            let key = home.path().join("keys").join("server.key");
            fs::create_dir(key.parent().unwrap()).unwrap();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            watch.follow(&Sources { others: vec![key.clone()], ..sources(&file, &teams) });
            fs::write(key.with_file_name("other.key"), "y").unwrap();
            assert!(silent(&mut watch).await);
            fs::write(&key, "y").unwrap();
            assert!(told(&mut watch).await);
        });
    }

    #[test]
    fn without_the_kernel_s_help_the_poll_finds_the_change() {
        run(async || {
            let (_home, file, teams) = home();
            let mut watch =
                Watch::polling_every(&sources(&file, &teams), Duration::from_millis(50));
            watch.watcher = None;
            assert!(silent(&mut watch).await);
            fs::write(teams.join("ads.yaml"), "y").unwrap();
            assert!(told(&mut watch).await);
        });
    }

    #[test]
    fn changes_that_never_pause_are_told_all_the_same() {
        run(async || {
            let (_home, file, teams) = home();
            let mut watch = Watch::polling_every(&sources(&file, &teams), NEVER);
            let edits = async {
                loop {
                    fs::write(&file, "y").unwrap();
                    time::sleep(QUIET / 4).await;
                }
            };
            tokio::select! {
                told = told(&mut watch) => assert!(told),
                () = edits => {}
            }
        });
    }
}
