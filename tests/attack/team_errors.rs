//! Team files with errors, at startup and at a reload: they affect their own team only.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::client::{Client, SOON};
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, BOB, ZOE, of};
use crate::support::runner::Cases;
use crate::support::world::{Spec, World};

const NOT_FOUND: u32 = 5;
const FAILED_PRECONDITION: u32 = 9;

pub fn cases(cases: &mut Cases) {
    cases.suite("team_errors");
    starts(cases);
    reloads(cases);
    removed(cases);
    watched(cases);
}

fn home(world: &World) -> PathBuf {
    world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned()
}

/// Puts a text into the place of a file at once.
fn write(world: &World, file: &str, text: &str) {
    let home = home(world);
    std::fs::write(home.join("new"), text).unwrap();
    std::fs::rename(home.join("new"), home.join(file)).unwrap();
}

fn read(world: &World, file: &str) -> String {
    std::fs::read_to_string(home(world).join(file)).unwrap()
}

fn page(world: &World, path: &str) -> String {
    world.sconce.as_ref().unwrap().lock().unwrap().page(path)
}

fn logged(world: &World, words: &[&str]) -> usize {
    let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Whether the metrics count so many errors of a team.
fn counts(world: &World, team: &str, errors: u32) -> bool {
    let line = format!("sconce_config_errors{{team=\"{team}\"}} {errors}\n");
    page(world, "/metrics").contains(&line)
}

/// The status and the text of a call of this team, or whose driver has answered it.
fn call(client: &mut Client, team: &str) -> Result<String, (u32, String)> {
    let id = client.call(&client.request().team(team));
    let reply = client.finish(id);
    match reply.status() {
        Some(0) => Ok(proof::answerer(&reply)),
        status => Err((status.unwrap(), reply.message())),
    }
}

fn starts(cases: &mut Cases) {
    let mut spec = Spec::default();
    spec.config.lines = vec![("web", "nonsense: 1\n".to_string())];
    proof::add(cases, "an_error_at_the_start_refuses_its_team_alone", spec, |world| {
        let mut client = world.client();
        assert_eq!(call(&mut client, "ads").unwrap(), "ads");
        assert_eq!(call(&mut client, "calm").unwrap(), "calm");
        let (status, message) = call(&mut client, "web").unwrap_err();
        assert_eq!(status, FAILED_PRECONDITION, "which clients do not try again: {message}");
        assert!(message.contains("ask the operators of this service"), "{message}");
        proof::assert_unasked(world, "none of web");
        assert!(counts(world, "web", 1) && counts(world, "-", 0));
        let ready = page(world, "/readyz");
        assert!(ready.contains(" 200 "), "{ready}");
        assert!(ready.contains("errors in the file of team web: 1; its calls are refused"));
        let line = ["WARN", "configuration error", "\"team\":\"web\"", "web.yaml:2"];
        eventually("it is logged", SOON, || logged(world, &line) == 1);
        let whole = read(world, "teams/web.yaml").replace("nonsense: 1\n", "");
        write(world, "teams/web.yaml", &whole);
        eventually("it is served", SOON, || call(&mut client, "web") == Ok("web".to_string()));
        assert!(!page(world, "/metrics").contains("sconce_config_errors{team=\"web\"}"));
        assert!(page(world, "/readyz").ends_with("\r\n\r\nready\n"));
        assert_eq!(call(&mut client, "ads").unwrap(), "ads");
    });
}

fn reloads(cases: &mut Cases) {
    let name = "an_error_at_a_reload_keeps_its_team_as_it_was_and_holds_up_no_other_change";
    proof::add(cases, name, proof::spec(""), |world| {
        let mut client = world.client();
        let answerer = |client: &mut Client, person| {
            let id = client.call(&of(client, person));
            let reply = client.finish(id);
            (reply.status() == Some(0)).then(|| proof::answerer(&reply))
        };
        assert_eq!(answerer(&mut client, &ZOE).unwrap(), "ads");
        write(world, "teams/web.yaml", "tea");
        eventually("the error is counted", SOON, || counts(world, "web.yaml", 1));
        let ready = page(world, "/readyz");
        let kept = "errors in the file of team web.yaml: 1; its last good configuration is served";
        assert!(ready.contains(" 200 ") && ready.contains(kept), "{ready}");
        assert_eq!(answerer(&mut client, &BOB).unwrap(), "web");
        // A member of another team is taken out meanwhile, and a token of the main file.
        let ads = read(world, "teams/ads.yaml").replace("users: [zoe], ", "");
        write(world, "teams/ads.yaml", &ads);
        eventually("zoe is out", SOON, || answerer(&mut client, &ZOE).is_none());
        let main = read(world, "sconce.yaml");
        let without: Vec<&str> = main.lines().filter(|it| !it.contains("user: bob")).collect();
        write(world, "sconce.yaml", &(without.join("\n") + "\n"));
        eventually("bob's token is out", SOON, || answerer(&mut client, &BOB).is_none());
        assert_eq!(answerer(&mut client, &ANN).unwrap(), "ads");
        assert!(counts(world, "web.yaml", 1));
        // An error of the main file holds up the others' changes.
        write(world, "sconce.yaml", &(main.clone() + "nonsense: 1\n"));
        eventually("the error is counted", SOON, || counts(world, "-", 1));
        assert!(page(world, "/readyz").contains("errors in the main file: 1; no change"));
        write(world, "sconce.yaml", &main);
        eventually("bob's token is in", SOON, || answerer(&mut client, &BOB).is_some());
        assert_eq!(logged(world, &["team file has errors", "\"team\":\"web.yaml\""]), 1);
    });
    let name = "a_second_file_about_a_team_takes_nothing_of_the_live_one";
    proof::add(cases, name, Spec::default(), |world| {
        let mut client = world.client();
        let calm = world.calm.address.to_string();
        let web = world.web.address.to_string();
        let thief = read(world, "teams/web.yaml").replace(&web, &calm);
        write(world, "teams/a.yaml", &thief);
        eventually("the error is counted", SOON, || counts(world, "web", 1));
        assert_eq!(call(&mut client, "web").unwrap(), "web");
        write(world, "teams/web.yaml", "tea");
        eventually("the error is counted", SOON, || counts(world, "web.yaml", 1));
        assert_eq!(call(&mut client, "web").unwrap(), "web");
    });
    let name = "a_live_file_that_is_away_for_a_moment_loses_its_team_to_no_other";
    proof::add(cases, name, Spec::default(), |world| {
        let mut client = world.client();
        let (calm, web) = (world.calm.address.to_string(), world.web.address.to_string());
        write(world, "teams/a.yaml", &read(world, "teams/web.yaml").replace(&web, &calm));
        eventually("the error is counted", SOON, || counts(world, "web", 1));
        let (file, away) = (home(world).join("teams/web.yaml"), home(world).join("away"));
        std::fs::rename(&file, &away).unwrap();
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            assert_eq!(call(&mut client, "web").unwrap(), "web");
        }
        std::fs::rename(&away, &file).unwrap();
        let until = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < until {
            assert_eq!(call(&mut client, "web").unwrap(), "web");
        }
        std::fs::remove_file(&file).unwrap();
        eventually("the other file has it", SOON, || call(&mut client, "web").unwrap() == "calm");
    });
}

fn removed(cases: &mut Cases) {
    proof::add(cases, "a_removed_team_is_told_from_an_unknown_one", Spec::default(), |world| {
        let mut client = world.client();
        assert_eq!(call(&mut client, "web").unwrap(), "web");
        std::fs::remove_file(home(world).join("teams/web.yaml")).unwrap();
        let mut told = String::new();
        eventually("it is refused", SOON, || match call(&mut client, "web") {
            Ok(_) => false,
            Err((status, message)) => {
                assert_eq!(status, NOT_FOUND);
                told = message;
                true
            }
        });
        assert!(told.contains("it was removed from the configuration"), "{told}");
        let (_, unknown) = call(&mut client, "moon").unwrap_err();
        assert!(unknown.contains("there is no team 'moon' here"), "{unknown}");
        assert_eq!(logged(world, &["WARN", "a team was removed", "\"team\":\"web\""]), 1);
        assert!(counts(world, "-", 0) && !counts(world, "web", 1));
        assert_eq!(call(&mut client, "ads").unwrap(), "ads");
    });
    let name = "who_was_in_a_removed_team_is_told_so_and_nobody_else";
    proof::add(cases, name, proof::spec(""), |world| {
        let mut client = world.client();
        let mut ask = |person: &proof::Person, team: Option<&str>| {
            let request = of(&client, person);
            let request = team.map_or(request.clone(), |it| request.with("x-sconce-team", it));
            let id = client.call(&request);
            let reply = client.finish(id);
            (reply.status().unwrap(), reply.message())
        };
        assert_eq!(ask(&ZOE, None).0, 0);
        std::fs::remove_file(home(world).join("teams/ads.yaml")).unwrap();
        eventually("it is refused", SOON, || ask(&ZOE, None).0 != 0);
        for (person, team) in [(&ZOE, None), (&ZOE, Some("ads")), (&ANN, None), (&ANN, Some("ads"))]
        {
            let (status, message) = ask(person, team);
            assert_eq!(status, NOT_FOUND, "{message}");
            assert!(message.contains("team 'ads' is not served here any more"), "{message}");
        }
        let (status, message) = ask(&BOB, Some("ads"));
        assert_eq!(status, proof::PERMISSION_DENIED);
        assert_eq!(message, ask(&BOB, Some("moon")).1.replace("moon", "ads"));
    });
}

fn watched(cases: &mut Cases) {
    let name = "a_main_file_that_is_moved_away_and_back_is_read_at_once";
    proof::add(cases, name, Spec::default(), |world| {
        let home = home(world);
        std::fs::rename(home.join("sconce.yaml"), home.join("away")).unwrap();
        eventually("the error is counted", SOON, || counts(world, "-", 1));
        // Whatever follows from that has come to rest.
        std::thread::sleep(Duration::from_millis(500));
        std::fs::rename(home.join("away"), home.join("sconce.yaml")).unwrap();
        let at_once = Duration::from_secs(4);
        eventually("the file is read", at_once, || counts(world, "-", 0));
    });
    let name = "a_volume_that_kubernetes_swaps_is_read_and_no_library_logs_about_it";
    proof::add(cases, name, Spec::default(), |world| {
        let home = home(world);
        let mount = home.join("mount");
        let version = |at: u32, web: &str| {
            let version = mount.join(format!("..2026_{at}"));
            std::fs::create_dir_all(&version).unwrap();
            for team in ["ads", "web", "calm"] {
                let text = read(world, &format!("teams/{team}.yaml"));
                let text = if team == "web" { text + web } else { text };
                let secret = if team == "ads" { "driver_token_file: token\n" } else { "" };
                let text = text + secret;
                std::fs::write(version.join(format!("{team}.yaml")), text).unwrap();
            }
            std::fs::write(version.join("token"), "secret").unwrap();
            symlink(format!("..2026_{at}"), mount.join("..data_tmp")).unwrap();
            std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        };
        version(0, "");
        for file in ["ads.yaml", "web.yaml", "calm.yaml", "token"] {
            symlink(format!("..data/{file}"), mount.join(file)).unwrap();
        }
        let main = read(world, "sconce.yaml").replace("directory: teams", "directory: mount");
        write(world, "sconce.yaml", &(main.clone() + "nonsense: 1\n"));
        eventually("the directory is followed", SOON, || counts(world, "-", 1));
        write(world, "sconce.yaml", &main);
        eventually("the directory is followed", SOON, || counts(world, "-", 0));
        for at in 1..4 {
            let is_wrong = at % 2;
            version(at, if is_wrong == 1 { "nonsense: 1\n" } else { "" });
            std::fs::remove_dir_all(mount.join(format!("..2026_{}", at - 1))).unwrap();
            eventually("the next version is read", SOON, || {
                counts(world, "web", 1) == (is_wrong == 1)
            });
        }
        let theirs = |word: &str| logged(world, &[word]);
        assert_eq!((theirs("notify"), theirs("watch"), theirs("registry/src")), (0, 0, 0));
    });
}
