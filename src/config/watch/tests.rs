//! Detection of edits, symbolic links, and deleted and recreated directories.

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

fn sources(file: &Path, teams: &Path) -> WatchedFiles {
    WatchedFiles {
        main_file: file.to_owned(),
        team_directory: Some(teams.to_owned()),
        others: Vec::new(),
    }
}

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test());
}

async fn found(watch: &mut FileWatcher) -> bool {
    time::timeout(SOON, watch.changed()).await.is_ok()
}

async fn silent(watch: &mut FileWatcher) -> bool {
    time::timeout(Duration::from_millis(700), watch.changed()).await.is_err()
}

#[test]
fn an_edit_in_place_and_a_replacement_are_detected() {
    run(async || {
        let (_home, file, teams) = home();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        fs::write(&file, "y").unwrap();
        assert!(found(&mut watch).await);
        let new = teams.join(".ads.yaml.new");
        fs::write(&new, "y").unwrap();
        fs::rename(&new, teams.join("ads.yaml")).unwrap();
        assert!(found(&mut watch).await);
        fs::remove_file(teams.join("ads.yaml")).unwrap();
        assert!(found(&mut watch).await);
        assert!(silent(&mut watch).await, "one edit is told once");
    });
}

#[test]
fn reads_and_editor_files_are_no_change() {
    run(async || {
        let (_home, file, teams) = home();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        fs::read(&file).unwrap();
        fs::read_dir(&teams).unwrap().count();
        fs::read(teams.join("ads.yaml")).unwrap();
        fs::write(teams.join(".ads.yaml.swp"), "y").unwrap();
        assert!(silent(&mut watch).await);
    });
}

#[test]
fn a_kubernetes_volume_update_is_detected() {
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
        let mut watch = FileWatcher::with_poll_interval(&sources, NEVER);
        symlink("..two", mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        assert!(found(&mut watch).await);
        assert_eq!(fs::read_to_string(mount.join("ads.yaml")).unwrap(), "..two");
    });
}

#[test]
fn a_recreated_directory_is_watched_again() {
    run(async || {
        let (_home, file, teams) = home();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        fs::remove_dir_all(&teams).unwrap();
        assert!(found(&mut watch).await);
        fs::create_dir(&teams).unwrap();
        assert!(found(&mut watch).await);
        while !silent(&mut watch).await {}
        fs::write(teams.join("ads.yaml"), "z").unwrap();
        assert!(found(&mut watch).await, "the new directory is under watch");
    });
}

#[test]
fn a_main_file_moved_away_and_back_is_detected() {
    run(async || {
        let (home, file, teams) = home();
        // A directory behind a symbolic link has two names.
        symlink(home.path(), home.path().join("link")).unwrap();
        let file_by_link = home.path().join("link/sconce.yaml");
        let mut watch = FileWatcher::with_poll_interval(&sources(&file_by_link, &teams), NEVER);
        fs::rename(&file, home.path().join("away")).unwrap();
        assert!(found(&mut watch).await);
        // While the file is away, nothing else is known.
        watch
            .set_files(&WatchedFiles { main_file: file_by_link.clone(), ..WatchedFiles::default() })
            .await;
        while !silent(&mut watch).await {}
        fs::rename(home.path().join("away"), &file).unwrap();
        assert!(found(&mut watch).await, "the directory is under watch still");
    });
}

#[test]
fn a_kubernetes_volume_version_is_not_watched() {
    let home = tempfile::tempdir().unwrap();
    let mount = fs::canonicalize(home.path()).unwrap().join("mount");
    fs::create_dir_all(mount.join("..2026_01")).unwrap();
    fs::write(mount.join("..2026_01/tls.crt"), "x").unwrap();
    symlink("..2026_01", mount.join("..data")).unwrap();
    symlink("..data/tls.crt", mount.join("tls.crt")).unwrap();
    let sources = WatchedFiles { main_file: mount.join("tls.crt"), ..WatchedFiles::default() };
    let watched: Vec<_> = sources.directories().into_values().collect();
    assert_eq!(watched, [mount]);
}

#[test]
fn the_watched_files_can_be_replaced() {
    run(async || {
        let (home, file, teams) = home();
        let other = home.path().join("other");
        fs::create_dir(&other).unwrap();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        watch.set_files(&sources(&file, &other)).await;
        fs::write(other.join("ml.yaml"), "z").unwrap();
        assert!(found(&mut watch).await);
    });
}

#[test]
fn a_configured_file_is_watched_with_any_extension() {
    run(async || {
        let (home, file, teams) = home();
        let key = home.path().join("keys").join("server.key");
        fs::create_dir(key.parent().unwrap()).unwrap();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        watch
            .set_files(&WatchedFiles { others: vec![key.clone()], ..sources(&file, &teams) })
            .await;
        fs::write(key.with_file_name("other.key"), "y").unwrap();
        assert!(silent(&mut watch).await);
        fs::write(&key, "y").unwrap();
        assert!(found(&mut watch).await);
    });
}

#[test]
fn polling_detects_changes_without_kernel_events() {
    run(async || {
        let (_home, file, teams) = home();
        let mut watch =
            FileWatcher::with_poll_interval(&sources(&file, &teams), Duration::from_millis(50));
        watch.watcher = None;
        assert!(silent(&mut watch).await);
        fs::write(teams.join("ads.yaml"), "y").unwrap();
        assert!(found(&mut watch).await);
    });
}

#[test]
fn continuous_changes_are_reported() {
    run(async || {
        let (_home, file, teams) = home();
        let mut watch = FileWatcher::with_poll_interval(&sources(&file, &teams), NEVER);
        let edits = async {
            loop {
                fs::write(&file, "y").unwrap();
                time::sleep(DEBOUNCE / 4).await;
            }
        };
        tokio::select! {
            found = found(&mut watch) => assert!(found),
            () = edits => {}
        }
    });
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn thousands_of_directories_do_not_block_the_runtime() {
    run(async || {
        let (home, file, teams) = home();
        let token = |number: usize| {
            let directory = home.path().join(format!("tokens/{number}"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("token"), "x").unwrap();
            directory.join("token")
        };
        let others = (0..3_000).map(token).collect();
        let mut watch = FileWatcher::with_poll_interval(
            &WatchedFiles { others, ..sources(&file, &teams) },
            NEVER,
        );
        let before = cpu_time();
        watch.refresh_watches().await;
        let took = cpu_time() - before;
        assert!(took < Duration::from_millis(50), "{took:?}");
    });
}
