//! `sconce check`: all that is wrong with the configuration, one line each.

use crate::cli::{ConfigFile, terminal};
use crate::config::{self, Config, LoadContext, Served, TeamErrors};
use clap::Args;
use sconce_filters::FilterRegistry;
use std::{process::ExitCode, time::SystemTime};

/// What is to be checked, and how strictly.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// End with status 1 if there is any warning, as for an error
    #[arg(long)]
    deny_warnings: bool,
}

/// Prints `file:line: key: what; remedy` for each thing wrong, and what becomes of each team whose
/// file has errors; or one line that says `ok`, behind what will not stay so.
pub(super) fn run(wanted: &CheckArgs, filters: &FilterRegistry) -> ExitCode {
    let context = LoadContext { filters: filters.clone(), ..LoadContext::default() };
    let reading = config::read(&wanted.file.config, &context, None);
    let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
    let teams: Vec<_> =
        reading.config.iter().flat_map(|_| &reading.team_errors).map(team_summary).collect();
    match reading.into_result() {
        Ok(plan) => {
            let ends = certificate_warnings(&plan, SystemTime::now());
            let warnings = ends.into_iter().chain(warnings).map(|it| format!("warning: {it}"));
            let warnings: Vec<_> = warnings.collect();
            let is_denied = wanted.deny_warnings && !warnings.is_empty();
            let summary = match is_denied {
                true => format!("{}, and none is allowed", counted(warnings.len(), "warning")),
                false => summary(&plan),
            };
            terminal::print(warnings.into_iter().chain([summary]));
            if is_denied { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(complaints) => {
            let warnings = warnings.into_iter().map(|it| format!("warning: {it}"));
            let complaints = complaints.iter().map(ToString::to_string);
            terminal::print(warnings.chain(complaints).chain(teams));
            ExitCode::FAILURE
        }
    }
}

/// What becomes of a team whose file has errors.
fn team_summary((team, errors): (&String, &TeamErrors)) -> String {
    let TeamErrors { errors: complaints, served } = errors;
    let served = match served {
        Served::ValidParts | Served::LastGood => "served as far as its file is right",
        Served::Nothing => "refused",
    };
    let errors = counted(complaints.len(), "error");
    format!(
        "team {team}: {errors}: at a start it is {served}, and the other teams are served; a \
         running sconce goes on with its last good configuration"
    )
}

/// One line for each certificate that has ended, is about to, or is not valid yet.
fn certificate_warnings(plan: &Config, now: SystemTime) -> Vec<String> {
    let concerns =
        plan.certificates().iter().filter_map(|term| Some((term.file(), term.warning(now)?)));
    concerns.map(|(file, concern)| format!("{}: {concern}", file.display())).collect()
}

fn summary(plan: &Config) -> String {
    let environments = plan.teams.values().map(|team| team.environments.len()).sum();
    let teams = counted(plan.teams.len(), "team");
    let environments = counted(environments, "environment");
    let chain: Vec<_> = plan.filters.chain().names().collect();
    format!("ok: {teams}, {environments}, chain {}", chain.join(" > "))
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};

    #[test]
    fn a_certificate_that_will_not_last_is_a_warning_and_no_complaint() {
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(home.path().join("a.crt"), made.cert.pem()).unwrap();
        fs::write(home.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        let main = home.path().join("sconce.yaml");
        let tls = "{ certificates: [{ certificate: a.crt, key: a.key }] }";
        let text = format!("teams: {{ directory: teams }}\nlisten: {{ tls: {tls} }}\n");
        fs::write(&main, text).unwrap();
        let plan = config::load(&main).unwrap();
        assert_eq!(certificate_warnings(&plan, SystemTime::now()), [""; 0]);
        // Certificates of rcgen end with the year 4095.
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(67_100_000_000);
        let expected = format!(
            "{}: the certificate has expired on 4096-01-01 00:00:00 UTC; clients refuse it: put a \
             new one in its place, with its key",
            home.path().join("a.crt").display()
        );
        assert_eq!(certificate_warnings(&plan, late), [expected]);
    }
}
