//! Parser for `sc://` URLs with the rules of Spark's clients: host and request metadata.

/// Parameters that clients do not send. `token` becomes the `authorization` header; every other
/// parameter becomes a header with its name.
const CLIENT_KEYS: [&str; 5] =
    ["use_ssl", "user_id", "user_agent", "session_id", "grpc_max_message_size"];

/// Port of a URL without a port.
const DEFAULT_PORT: u16 = 15002;

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) authority: String,
    pub(super) headers: Vec<(String, String)>,
}

/// Does not show the invalid port, which may be a token.
const BAD_PORT: &str = "the port of the URL is not a number from 1 to 65535";

/// Maximum length of host and port in bytes: a DNS name has at most 253. Longer text may be a
/// token.
const HOST_MAX: usize = 253 + ":65535".len();

/// Checks the host of a URL or of `--authority`.
pub(super) fn check_host(host: &str) -> Result<(), String> {
    if host.contains('@') {
        return Err("the host contains '@': write host:port without a user, for example \
                    sc://host:port/;token=..."
            .to_owned());
    }
    if host.contains(['/', '?', '#', '\\', ' ']) {
        return Err("the host contains an invalid character: write host or host:port".to_owned());
    }
    match host.len() > HOST_MAX {
        true => Err("the host is longer than 253 characters".to_owned()),
        false => Ok(()),
    }
}

/// Parses a URL. Errors do not repeat text that may be a token.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let rest = text.strip_prefix("sc://").ok_or("a Spark Connect URL starts with sc://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    if authority.contains(';') {
        return Err("write '/' before the parameters: sc://host:port/;key=value".to_owned());
    }
    check_host(authority)?;
    let parameters = match path.split_once(';') {
        None if path.is_empty() => "",
        Some(("", parameters)) => parameters,
        None | Some(_) => return Err("remove the text between '/' and ';'".to_owned()),
    };
    let mut headers = Vec::new();
    let parameters = parameters.split(';').filter(|parameter| !parameter.is_empty());
    for (place, parameter) in (1..).zip(parameters) {
        let parted = parameter.split_once('=');
        let (key, value) =
            parted.ok_or_else(|| format!("parameter {place} of the URL is not key=value"))?;
        if key == "token" {
            headers.push(("authorization".to_owned(), format!("Bearer {}", percent_decode(value))));
        } else if !CLIENT_KEYS.contains(&key) {
            headers.push((key.to_ascii_lowercase(), percent_decode(value)));
        }
    }
    if let Some((_, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_port || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(BAD_PORT.to_owned());
        }
    }
    let bare = authority.rsplit_once(':').is_none_or(|(_, port)| port.contains(']'));
    let authority = if bare { format!("{authority}:{DEFAULT_PORT}") } else { authority.to_owned() };
    Ok(Url { authority, headers })
}

/// Decodes percent-encoding. Invalid sequences are not changed.
fn percent_decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten()
            .and_then(|(digits, after)| Some((std::str::from_utf8(digits).ok()?, after)))
            .and_then(|(digits, after)| Some((u8::from_str_radix(digits, 16).ok()?, after)));
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_an_authority_and_headers() {
        let text = "sc://h:1/;x-sconce-team=ads;token=t;use_ssl=true;X-Sconce-Env=pr%6Fd";
        let url = parse(text).unwrap();
        assert_eq!(url.authority, "h:1");
        let sent = url.headers.iter().map(|(key, value)| format!("{key}={value}"));
        let expected = ["x-sconce-team=ads", "authorization=Bearer t", "x-sconce-env=prod"];
        assert_eq!(sent.collect::<Vec<_>>(), expected);
        assert_eq!(parse("sc://[::1]").unwrap().authority, "[::1]:15002");
        assert_eq!(parse("sc://h/").unwrap().authority, "h:15002");
    }

    #[test]
    fn an_invalid_url_is_an_error() {
        let cases = [
            ("http://h", "a Spark Connect URL starts with sc://"),
            ("sc:///;a=b", "the URL has no host"),
            ("sc://h;a=b", "write '/' before the parameters: sc://host:port/;key=value"),
            ("sc://h/x;a=b", "remove the text between '/' and ';'"),
            ("sc://h/;b=c;a", "parameter 2 of the URL is not key=value"),
            ("sc://h:99999", BAD_PORT),
            ("sc://h:0/", BAD_PORT),
            ("sc://h:", BAD_PORT),
            ("sc://[::1]:+1", BAD_PORT),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
        let long = format!("sc://{}/", "SEKRET".repeat(50));
        for text in ["sc://ann:SEKRET@h:1/", "sc://SEKRET@h", &long] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("SEKRET"), "{error}");
        }
    }

    #[test]
    fn an_invalid_percent_sequence_is_not_changed() {
        assert_eq!(percent_decode("a%20b%zz%4"), "a b%zz%4");
    }
}
