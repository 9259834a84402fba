//! Warnings about a valid configuration in the log of `serve`.

use crate::support::client::SOON;
use crate::support::probe::eventually;
use crate::support::proof::{self, ANN, add, of};
use crate::support::runner::Cases;
use crate::support::world::World;

pub fn cases(cases: &mut Cases) {
    cases.suite("authentication");
    let mut spec = proof::spec("");
    let line = "driver_token_file: ../token\n".to_string();
    spec.config.files = vec![("token", "of-both".to_string())];
    spec.config.lines = vec![("ads", line.clone()), ("web", line)];
    add(cases, "a_secret_that_two_teams_name_is_logged_once_for_each_change", spec, |world| {
        let home = world.sconce.as_ref().unwrap().lock().unwrap().home.path().to_owned();
        let file = home.join("teams/web.yaml");
        let shared = std::fs::read_to_string(&file).unwrap();
        let write = |text: &str| {
            std::fs::write(home.join("new"), text).unwrap();
            std::fs::rename(home.join("new"), &file).unwrap();
        };
        eventually("it is logged", SOON, || warnings(world) == 1);
        let applied = |generation: u32| {
            let line = format!("\"generation\":{generation}");
            let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
            log.iter().any(|told| told.contains("applied") && told.contains(&line))
        };
        write(&format!("{shared}hidden_configurations: [spark.x]\n"));
        eventually("another change is applied", SOON, || applied(2));
        assert_eq!(warnings(world), 1, "it was logged before");
        write(&shared.replace("driver_token_file: ../token\n", ""));
        eventually("it is no more", SOON, || applied(3));
        write(&shared);
        eventually("it is logged anew", SOON, || warnings(world) == 2);
        let mut client = world.client();
        let id = client.call(&of(&client, &ANN));
        assert_eq!(proof::answerer(&client.finish(id)), "ads", "it is a warning only");
    });
}

fn warnings(world: &World) -> usize {
    let log = world.sconce.as_ref().unwrap().lock().unwrap().log();
    let told = |line: &&String| {
        line.contains("WARN")
            && line.contains("configuration warning")
            && line.contains("web.yaml:2")
    };
    log.iter().filter(told).count()
}
