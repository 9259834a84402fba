//! Single values: durations, addresses, names, choices, each with its remedy.

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

/// A whole number and its unit: `500ms`, `5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let no = || {
        let remedy = "write a whole number and a unit, as 500ms, 5s, 2m or 1h";
        Problem::new(format!("{} is no duration", quote(text)), remedy)
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(no)?;
    let number: u64 = number.parse().map_err(|_| no())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(no)
}

/// An address to listen on: an IP address and a port. Port 0 lets the system choose one.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| {
        let what = format!("{} is no address to listen on", quote(text));
        let remedy = "write an IP address and a port, as 0.0.0.0:15009 or \"[::]:15009\"";
        Problem::new(what, remedy)
    })
}

/// Where a driver listens: `host:port`. What else a URL holds may be secret, and is never repeated.
pub(super) fn driver_address(text: &str) -> Result<DriverAddress, Problem> {
    let named = |scheme: &str| scheme.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let scheme = text.split_once("://").filter(|(scheme, _)| named(scheme));
    let rest = scheme.map_or(text, |(_, rest)| rest);
    let front = rest.split(['/', ';', '?', '#']).next().unwrap_or_default();
    let bare = front.rsplit_once('@').map_or(front, |(_, bare)| bare);
    let scheme = scheme.map_or_else(String::new, |(scheme, _)| format!("{scheme}://"));
    let user = if bare == front { "" } else { "...@" };
    let path = if front == rest { "" } else { "/..." };
    let whole = quote(&format!("{scheme}{user}{bare}{path}"));
    let says = |what: &str, remedy: String| Problem::new(format!("{whole} {what}"), remedy);
    let extra = [(&*scheme, "has a scheme"), (user, "has a user"), (path, "has a path")];
    if let Some((_, what)) = extra.into_iter().find(|(there, _)| !there.is_empty()) {
        return Err(says(what, format!("write host and port alone, as {}", quote(bare))));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let remedy = format!("put brackets and quotes around it, as \"[{text}]:15002\"");
        return Err(says("is an IPv6 address without brackets and port", remedy));
    }
    let portless = || {
        says("has no port", format!("write host and port, as {}", quote(&with_default_port(text))))
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
            let what = format!("has the port {}", quote(port));
            return Err(says(&what, "write a port from 1 to 65535".to_owned()));
        }
        Some(port) => port,
    };
    Ok(DriverAddress::new(parse_host(host, text)?, port))
}

fn with_default_port(text: &str) -> String {
    format!("{}:15002", text.trim_end_matches(':'))
}

fn parse_host(host: &str, whole: &str) -> Result<Host, Problem> {
    let no = |why: &str, remedy: &str| Problem::new(format!("{} {why}", quote(whole)), remedy);
    let example = "write host and port, as ads-driver.internal:15002";
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match literal {
        Some(inner) => {
            let ip =
                inner.parse().map_err(|_| no("has no IPv6 address in its brackets", example))?;
            Some(IpAddr::V6(ip))
        }
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if let Some(ip) = ip {
        return match ip.is_unspecified() || ip.is_multicast() {
            true => {
                Err(no("is no address of one driver", "write the address it can be reached at"))
            }
            false => Ok(Host::Ip(ip)),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let plain = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    if host.is_empty() {
        return Err(no("names no host", example));
    }
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(no("has a host that cannot be one", example));
    }
    if host.bytes().all(|o| o.is_ascii_digit() || o == b'.') {
        return Err(no("is no IPv4 address", "write four numbers from 0 to 255 and a port"));
    }
    Ok(Host::Name(host.to_ascii_lowercase().into()))
}

/// The name of a team.
pub(super) fn team_name(text: &str) -> Result<TeamName, Problem> {
    TeamName::parse(text).map_err(|fault| name_problem(text, fault))
}

/// The name of an environment.
pub(super) fn environment_name(text: &str) -> Result<EnvironmentName, Problem> {
    EnvironmentName::parse(text).map_err(|fault| name_problem(text, fault))
}

fn name_problem(text: &str, fault: NameError) -> Problem {
    let remedy = "write a name of a to z, 0 to 9 and '-', as ads or ads-2";
    Problem::new(format!("{} cannot be a name, since {fault}", quote(text)), remedy)
}

/// A host that stands for an environment.
pub(super) fn authority(text: &str) -> Result<Authority, Problem> {
    Authority::parse(text).map_err(|fault| {
        let what = format!("{} cannot be matched: {fault}", quote(text));
        Problem::new(what, "write the host that clients dial, as ads.spark.example.com")
    })
}

/// Whether this can be the name of an environment variable, or the beginning of one.
pub(super) fn is_variable_name(text: &str) -> bool {
    let sound = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    let begins = |first: u8| !first.is_ascii_digit();
    text.bytes().all(sound) && text.bytes().next().is_some_and(begins)
}

/// Yes or no.
pub(super) fn boolean(text: &str) -> Result<bool, Problem> {
    // YAML has them in capitals as well.
    choice(&text.to_ascii_lowercase(), &[("false", false), ("true", true)])
}

/// Whether refusals list the teams.
pub(super) fn list_teams(text: &str) -> Result<ListTeams, Problem> {
    boolean(text).map(|all| if all { ListTeams::Always } else { ListTeams::Never })
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, all: &[(&str, T)]) -> Result<T, Problem> {
    let chosen = all.iter().find(|(word, _)| *word == text);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(word, _)| *word).collect();
        let what = format!("{} is not a choice here", quote(text));
        Problem::new(what, format!("write one of: {}", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        let Problem { what, help: remedy } = result.unwrap_err();
        format!("{what}; {remedy}")
    }

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let millis = |text| duration(text).unwrap().as_millis();
        assert_eq!(
            ["500ms", "5s", "2m", "1h", "0s"].map(millis),
            [500, 5000, 120_000, 3_600_000, 0]
        );
    }

    #[test]
    fn a_bad_duration_is_told_the_form() {
        let form = "is no duration; write a whole number and a unit, as 500ms, 5s, 2m or 1h";
        for text in
            ["5", "", "s", "-5s", "5 s", "1.5s", "5S", "5sec", "1m30s", "99999999999999999h", "5ß"]
        {
            assert_eq!(said(duration(text)), format!("{} {form}", quote(text)));
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
    fn a_bad_driver_is_told_what_is_wrong_and_how_it_is_written() {
        let example = "write host and port, as ads-driver.internal:15002";
        let alone = "write host and port alone, as 'ads";
        let cases = [
            ("ads", "'ads' has no port; write host and port, as 'ads:15002'"),
            ("ads:", "'ads:' has no port; write host and port, as 'ads:15002'"),
            ("[::1]", "'[::1]' has no port; write host and port, as '[::1]:15002'"),
            ("ads:0", "'ads:0' has the port '0'; write a port from 1 to 65535"),
            ("ads:65536", "'ads:65536' has the port '65536'; write a port from 1 to 65535"),
            ("ads:http", "'ads:http' has the port 'http'; write a port from 1 to 65535"),
            ("ads:+1", "'ads:+1' has the port '+1'; write a port from 1 to 65535"),
            ("http://ads:15002", &format!("'http://ads:15002' has a scheme; {alone}:15002'")),
            (
                "sc://ads:15002/;token=SEKRET",
                &format!("'sc://ads:15002/...' has a scheme; {alone}:15002'"),
            ),
            (
                "sc://me:SEKRET@ads:1?SEKRET",
                &format!("'sc://...@ads:1/...' has a scheme; {alone}:1'"),
            ),
            ("me:SEKRET@ads:1", &format!("'...@ads:1' has a user; {alone}:1'")),
            ("ads:1/x", &format!("'ads:1/...' has a path; {alone}:1'")),
            ("ads:1;token=SEKRET", &format!("'ads:1/...' has a path; {alone}:1'")),
            ("ads:1/;token=x://SEKRET@y", &format!("'ads:1/...' has a path; {alone}:1'")),
            (
                "::1",
                "'::1' is an IPv6 address without brackets and port; put brackets and quotes \
                 around it, as \"[::1]:15002\"",
            ),
            ("[::g]:1", &format!("'[::g]:1' has no IPv6 address in its brackets; {example}")),
            (":15002", &format!("':15002' names no host; {example}")),
            ("a b:1", &format!("'a b:1' has a host that cannot be one; {example}")),
            ("a..b:1", &format!("'a..b:1' has a host that cannot be one; {example}")),
            ("a:b:1", &format!("'a:b:1' has a host that cannot be one; {example}")),
            (
                "256.0.0.1:1",
                "'256.0.0.1:1' is no IPv4 address; write four numbers from 0 to 255 and a port",
            ),
            (
                "0.0.0.0:1",
                "'0.0.0.0:1' is no address of one driver; write the address it can be reached at",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(said(driver_address(text)), expected);
        }
    }

    #[test]
    fn an_address_to_listen_on_is_an_ip_address_and_a_port() {
        assert_eq!(listen_address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in ["localhost:15009", "0.0.0.0", ":15009", "http://0.0.0.0:1", "0.0.0.0:70000"] {
            assert!(said(listen_address(text)).ends_with("as 0.0.0.0:15009 or \"[::]:15009\""));
        }
    }

    #[test]
    fn names_hosts_and_choices_are_told_their_form() {
        assert_eq!(
            said(team_name("Ads")),
            "'Ads' cannot be a name, since a name has only a to z, 0 to 9 and '-'; write a name of \
             a to z, 0 to 9 and '-', as ads or ads-2"
        );
        assert_eq!(
            said(authority("*.ads")),
            "'*.ads' cannot be matched: hosts are matched exactly: write one line for each host; \
             write the host that clients dial, as ads.spark.example.com"
        );
        assert_eq!(
            ["true", "True", "TRUE"].map(list_teams),
            [Ok(ListTeams::Always), Ok(ListTeams::Always), Ok(ListTeams::Always)]
        );
        assert_eq!(
            said(list_teams("yes")),
            "'yes' is not a choice here; write one of: false, true"
        );
    }
}
