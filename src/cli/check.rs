//! `sconce check`: every error of the configuration, one line each.

use crate::cli::{ConfigFile, terminal};
use crate::config::{self, Config, LoadContext, Served, TeamErrors};
use clap::Args;
use sconce_filters::FilterRegistry;
use std::{process::ExitCode, time::SystemTime};

/// Arguments of `check`.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Exit with status 1 if there are warnings, as for errors
    #[arg(long)]
    deny_warnings: bool,
}

/// Prints warnings, then `file:line: key: what; help` for each error and a summary of each team
/// whose file has errors. Without errors, the last line starts with `ok`.
pub(super) fn run(args: &CheckArgs, filters: &FilterRegistry) -> ExitCode {
    let context = LoadContext { filters: filters.clone(), ..LoadContext::default() };
    let loaded = config::read(&args.file.config, &context, None);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let teams: Vec<_> =
        loaded.config.iter().flat_map(|_| &loaded.team_errors).map(team_summary).collect();
    match loaded.into_result() {
        Ok(config) => {
            let ends = certificate_warnings(&config, SystemTime::now());
            let warnings = ends.into_iter().chain(warnings).map(|it| format!("warning: {it}"));
            let warnings: Vec<_> = warnings.collect();
            let is_denied = args.deny_warnings && !warnings.is_empty();
            let summary = match is_denied {
                true => format!(
                    "{}, not allowed by --deny-warnings",
                    counted(warnings.len(), "warning")
                ),
                false => summary(&config),
            };
            terminal::print(warnings.into_iter().chain([summary]));
            if is_denied { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(errors) => {
            let warnings = warnings.into_iter().map(|it| format!("warning: {it}"));
            let errors = errors.iter().map(ToString::to_string);
            terminal::print(warnings.chain(errors).chain(teams));
            ExitCode::FAILURE
        }
    }
}

/// How a team is served while its file has errors.
fn team_summary((team, errors): (&String, &TeamErrors)) -> String {
    let TeamErrors { errors: of_team, served } = errors;
    let served = match served {
        Served::ValidParts | Served::LastGood => "serves the valid parts of its file",
        Served::Nothing => "refuses its calls",
    };
    let errors = counted(of_team.len(), "error");
    format!(
        "team {team}: {errors}: a start {served} and serves the other teams; a reload keeps its \
         last good configuration"
    )
}

/// One line for each certificate that is expired, expires soon or is not valid yet.
fn certificate_warnings(config: &Config, now: SystemTime) -> Vec<String> {
    let warnings = config
        .certificates()
        .iter()
        .filter_map(|certificate| Some((certificate.file(), certificate.warning(now)?)));
    warnings.map(|(file, warning)| format!("{}: {warning}", file.display())).collect()
}

fn summary(config: &Config) -> String {
    let environments = config.teams.values().map(|team| team.environments.len()).sum();
    let teams = counted(config.teams.len(), "team");
    let environments = counted(environments, "environment");
    let chain: Vec<_> = config.filters.chain().names().collect();
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
    fn an_expired_certificate_is_a_warning_not_an_error() {
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
        let config = config::load(&main).unwrap();
        assert_eq!(certificate_warnings(&config, SystemTime::now()), [""; 0]);
        // The certificates of rcgen expire with the year 4095.
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(67_100_000_000);
        let expected = format!(
            "{}: the certificate expired on 4096-01-01 00:00:00 UTC; clients reject it: replace it \
             and its key",
            home.path().join("a.crt").display()
        );
        assert_eq!(certificate_warnings(&config, late), [expected]);
    }
}
