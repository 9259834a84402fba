//! Parsers of scalars: durations, addresses, names, choices. Each error has a help text.

use crate::config::{
    address::{DriverAddress, Host},
    diagnostics::{Problem, quote},
};
use sconce_filters::{
    EnvironmentName, TeamName,
    name::NameError,
    team::{Authority, ListTeams},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// A duration, a whole number with a unit: `500ms`, `5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let invalid = || {
        let help = "write a whole number and a unit, for example 500ms, 5s, 2m or 1h";
        Problem::new(format!("{} is not a duration", quote(text)), help)
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(invalid)?;
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(invalid)
}

/// A listen address: an IP address and a port. With port 0 the system chooses a port.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| {
        let what = format!("{} is not a listen address", quote(text));
        let help = "write an IP address and a port, for example 0.0.0.0:15009 or \"[::]:15009\"";
        Problem::new(what, help)
    })
}

/// A driver address: `host:port`. Errors do not repeat other parts of a URL, which may be secret.
pub(super) fn driver_address(text: &str) -> Result<DriverAddress, Problem> {
    let named = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let scheme = text.split_once("://").filter(|(scheme, _)| named(scheme));
    let rest = scheme.map_or(text, |(_, rest)| rest);
    let front = rest.split(['/', ';', '?', '#']).next().unwrap_or_default();
    let bare = front.rsplit_once('@').map_or(front, |(_, bare)| bare);
    let scheme = scheme.map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
    let user = if bare == front { "" } else { "...@" };
    let path = if front == rest { "" } else { "/..." };
    let whole = quote(&format!("{scheme}{user}{bare}{path}"));
    let problem_with = |what: &str, help: String| Problem::new(format!("{whole} {what}"), help);
    let extra = [(&*scheme, "has a scheme"), (user, "has a user"), (path, "has a path")];
    if let Some((_, what)) = extra.into_iter().find(|(there, _)| !there.is_empty()) {
        return Err(problem_with(what, format!("write host:port, for example {}", example(bare))));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let help = format!("write it in brackets and quotes, for example \"[{text}]:15002\"");
        return Err(problem_with("is an IPv6 address without brackets and port", help));
    }
    let portless = || {
        problem_with(
            "has no port",
            format!("write host:port, for example {}", example(&with_default_port(text))),
        )
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        Some(_) | None => return Err(portless()),
    };
    if port.is_empty() {
        return Err(portless());
    }
    let number = if port.bytes().all(|o| o.is_ascii_digit()) { port.parse().ok() } else { None };
    let port: u16 = match number {
        Some(0) | None => {
            let what = format!("has the invalid port {}", quote(port));
            return Err(problem_with(&what, "write a port from 1 to 65535".to_owned()));
        }
        Some(port) => port,
    };
    Ok(DriverAddress::new(parse_host(host, text)?, port))
}

/// A value of the file as part of an example: escaped and shortened, without quotes.
fn example(text: &str) -> String {
    quote(text).trim_matches('\'').to_owned()
}

fn with_default_port(text: &str) -> String {
    format!("{}:15002", text.trim_end_matches(':'))
}

fn parse_host(host: &str, whole: &str) -> Result<Host, Problem> {
    let invalid = |why: &str, help: &str| Problem::new(format!("{} {why}", quote(whole)), help);
    let example = "write host:port, for example ads-driver.internal:15002";
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match literal {
        Some(inner) => {
            let ip = inner
                .parse()
                .map_err(|_| invalid("has an invalid IPv6 address in brackets", example))?;
            Some(IpAddr::V6(ip))
        }
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if let Some(ip) = ip {
        return match ip.is_unspecified() || ip.is_multicast() {
            true => Err(invalid(
                "is not the address of a single host",
                "write the driver's own address",
            )),
            false => Ok(Host::Ip(ip)),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let plain = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    if host.is_empty() {
        return Err(invalid("has no host", example));
    }
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(invalid("has an invalid host name", example));
    }
    if host.bytes().all(|o| o.is_ascii_digit() || o == b'.') {
        return Err(invalid(
            "is not an IPv4 address",
            "write four numbers from 0 to 255 and a port",
        ));
    }
    Ok(Host::Name(host.to_ascii_lowercase().into()))
}

/// A team name.
pub(super) fn team_name(text: &str) -> Result<TeamName, Problem> {
    TeamName::parse(text).map_err(|problem| name_problem(text, problem))
}

/// An environment name.
pub(super) fn environment_name(text: &str) -> Result<EnvironmentName, Problem> {
    EnvironmentName::parse(text).map_err(|problem| name_problem(text, problem))
}

fn name_problem(text: &str, problem: NameError) -> Problem {
    let help = "use a-z, 0-9 and '-', for example ads-2";
    Problem::new(format!("{} is not a valid name: {problem}", quote(text)), help)
}

/// A host name of an environment.
pub(super) fn authority(text: &str) -> Result<Authority, Problem> {
    Authority::parse(text).map_err(|problem| {
        let what = format!("{} is not a valid host: {problem}", quote(text));
        Problem::new(
            what,
            "write the host name that clients use, for example ads.spark.example.com",
        )
    })
}

/// Whether this is a valid name of an environment variable, or a prefix of one.
pub(super) fn is_variable_name(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = |first: u8| !first.is_ascii_digit();
    text.bytes().all(sound) && text.bytes().next().is_some_and(begins)
}

/// A boolean.
pub(super) fn boolean(text: &str) -> Result<bool, Problem> {
    // YAML also allows capitals.
    choice(&text.to_ascii_lowercase(), &[("false", false), ("true", true)])
}

/// `teams.list_teams`.
pub(super) fn list_teams(text: &str) -> Result<ListTeams, Problem> {
    boolean(text).map(|all| if all { ListTeams::Always } else { ListTeams::Never })
}

/// One of a few values.
pub(super) fn choice<T: Copy>(text: &str, all: &[(&str, T)]) -> Result<T, Problem> {
    let chosen = all.iter().find(|(word, _)| *word == text);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(word, _)| *word).collect();
        let what = format!("{} is not a valid value", quote(text));
        Problem::new(what, format!("write one of: {}", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        let Problem { what, help } = result.unwrap_err();
        format!("{what}; {help}")
    }

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        let millis = |text| duration(text).unwrap().as_millis();
        assert_eq!(
            ["500ms", "5s", "2m", "1h", "0s"].map(millis),
            [500, 5000, 120_000, 3_600_000, 0]
        );
    }

    #[test]
    fn the_error_for_an_invalid_duration_shows_examples() {
        let form = "is not a duration; write a whole number and a unit, for example 500ms, 5s, 2m \
                    or 1h";
        for text in
            ["5", "", "s", "-5s", "5 s", "1.5s", "5S", "5sec", "1m30s", "99999999999999999h", "5ß"]
        {
            assert_eq!(messages(duration(text)), format!("{} {form}", quote(text)));
        }
    }

    #[test]
    fn a_driver_is_a_host_and_a_port() {
        let cases = [
            ("127.0.0.1:15002", "127.0.0.1:15002"),
            ("[::1]:15002", "[::1]:15002"),
            ("Ads-Dev.internal:1", "ads-dev.internal:1"),
            ("ads_1.internal.:65535", "ads_1.internal:65535"),
            ("localhost:15002", "localhost:15002"),
        ];
        for (text, read) in cases {
            assert_eq!(driver_address(text).unwrap().to_string(), read);
        }
    }

    #[test]
    fn the_error_for_an_invalid_driver_has_the_problem_and_an_example() {
        let example = "write host:port, for example ads-driver.internal:15002";
        let alone = "write host:port, for example ads";
        let cases = [
            ("ads", "'ads' has no port; write host:port, for example ads:15002"),
            ("ads:", "'ads:' has no port; write host:port, for example ads:15002"),
            ("[::1]", "'[::1]' has no port; write host:port, for example [::1]:15002"),
            ("ads:0", "'ads:0' has the invalid port '0'; write a port from 1 to 65535"),
            ("ads:65536", "'ads:65536' has the invalid port '65536'; write a port from 1 to 65535"),
            ("ads:http", "'ads:http' has the invalid port 'http'; write a port from 1 to 65535"),
            ("ads:+1", "'ads:+1' has the invalid port '+1'; write a port from 1 to 65535"),
            ("http://ads:15002", &format!("'http://ads:15002' has a scheme; {alone}:15002")),
            (
                "sc://ads:15002/;token=SEKRET",
                &format!("'sc://ads:15002/...' has a scheme; {alone}:15002"),
            ),
            (
                "sc://me:SEKRET@ads:1?SEKRET",
                &format!("'sc://...@ads:1/...' has a scheme; {alone}:1"),
            ),
            ("me:SEKRET@ads:1", &format!("'...@ads:1' has a user; {alone}:1")),
            ("ads:1/x", &format!("'ads:1/...' has a path; {alone}:1")),
            ("ads:1;token=SEKRET", &format!("'ads:1/...' has a path; {alone}:1")),
            ("ads:1/;token=x://SEKRET@y", &format!("'ads:1/...' has a path; {alone}:1")),
            (
                "::1",
                "'::1' is an IPv6 address without brackets and port; write it in brackets and \
                 quotes, for example \"[::1]:15002\"",
            ),
            ("[::g]:1", &format!("'[::g]:1' has an invalid IPv6 address in brackets; {example}")),
            (":15002", &format!("':15002' has no host; {example}")),
            ("a b:1", &format!("'a b:1' has an invalid host name; {example}")),
            ("a..b:1", &format!("'a..b:1' has an invalid host name; {example}")),
            ("a:b:1", &format!("'a:b:1' has an invalid host name; {example}")),
            (
                "256.0.0.1:1",
                "'256.0.0.1:1' is not an IPv4 address; write four numbers from 0 to 255 and a port",
            ),
            (
                "0.0.0.0:1",
                "'0.0.0.0:1' is not the address of a single host; write the driver's own address",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(messages(driver_address(text)), expected);
        }
    }

    #[test]
    fn a_listen_address_is_an_ip_address_and_a_port() {
        assert_eq!(listen_address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in ["localhost:15009", "0.0.0.0", ":15009", "http://0.0.0.0:1", "0.0.0.0:70000"] {
            assert!(
                messages(listen_address(text))
                    .ends_with("for example 0.0.0.0:15009 or \"[::]:15009\"")
            );
        }
    }

    #[test]
    fn errors_for_names_hosts_and_choices_show_valid_values() {
        assert_eq!(
            messages(team_name("Ads")),
            "'Ads' is not a valid name: a name has only a to z, 0 to 9 and '-'; use a-z, 0-9 and \
             '-', for example ads-2"
        );
        assert_eq!(
            messages(authority("*.ads")),
            "'*.ads' is not a valid host: hosts are matched exactly: write one line for each host; \
             write the host name that clients use, for example ads.spark.example.com"
        );
        assert_eq!(
            ["true", "True", "TRUE"].map(list_teams),
            [Ok(ListTeams::Always), Ok(ListTeams::Always), Ok(ListTeams::Always)]
        );
        assert_eq!(
            messages(list_teams("yes")),
            "'yes' is not a valid value; write one of: false, true"
        );
    }
}
