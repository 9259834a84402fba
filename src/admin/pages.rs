//! The pages: what is answered to which path.

use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use super::negotiation;
use super::state::{Readiness, State};
use crate::telemetry::ConfigErrorCount;
use crate::telemetry::escape::Escaped;

pub(super) type Page = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";

/// The most teams, and the most issuers, that /readyz lists.
const LINES_MAX: usize = 20;

const INDEX: &str = "\
sconce, the front door for Apache Spark Connect

/healthz  200 while the process lives
/readyz   200 while calls are welcome, else 503 and the reason
/metrics  Prometheus metrics
";

/// Answers one request. The body is never looked at: a request that brings one is refused.
pub(super) fn respond<B>(request: &Request<B>, state: &State) -> Page {
    match request.uri().path() {
        "/" | "/healthz" | "/readyz" | "/metrics" if !is_get_or_head(request.method()) => {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            page
        }
        _ if has_body(request.headers()) => {
            text(StatusCode::PAYLOAD_TOO_LARGE, "no body is taken here\n")
        }
        "/" => text(StatusCode::OK, INDEX),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(state.readiness()),
        "/metrics" => metrics(request.headers(), state),
        _ => text(StatusCode::NOT_FOUND, "no such page; / lists them\n"),
    }
}

fn is_get_or_head(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn has_body(headers: &HeaderMap) -> bool {
    let empty = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(TRANSFER_ENCODING) || !headers.get(CONTENT_LENGTH).is_none_or(empty)
}

fn readiness(readiness: Readiness) -> Page {
    match readiness {
        Readiness::Starting { missing } if missing.is_empty() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "starting: no plan is live yet\n")
        }
        Readiness::Starting { missing } => {
            let missing = missing_keys("starting", &missing);
            text(StatusCode::SERVICE_UNAVAILABLE, missing)
        }
        Readiness::Ready { missing, errors } => {
            let (missing, errors) = (missing_keys("keys", &missing), config_error_lines(&errors));
            text(StatusCode::OK, format!("ready\n{missing}{errors}"))
        }
        Readiness::Draining => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining: open calls may finish\n")
        }
    }
}

/// The issuers whose keys have not come, a line for each.
fn missing_keys(subject: &str, issuers: &[String]) -> String {
    let lines = issuers.iter().take(LINES_MAX).map(|issuer| {
        format!(
            "{subject}: no usable keys of issuer {issuer} have come yet, its tokens are refused; \
             the log tells why\n"
        )
    });
    lines.collect()
}

/// What is wrong with the configuration, a line for each team.
fn config_error_lines(errors: &[ConfigErrorCount]) -> String {
    let line = |errors: &ConfigErrorCount| {
        let ConfigErrorCount { team, count, effect: served } = errors;
        // It may be the name of a file.
        let team = Escaped(team);
        match errors.is_main_file() {
            true => format!("config: errors in the main file: {count}; {served}\n"),
            false => format!("config: errors in the file of team {team}: {count}; {served}\n"),
        }
    };
    let mut lines: String = errors.iter().take(LINES_MAX).map(line).collect();
    if let Some(more) = errors.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        lines.push_str(&format!("config: errors in the files of {more} more teams\n"));
    }
    if !errors.is_empty() {
        lines.push_str("config: sconce check shows each error\n");
    }
    lines
}

fn metrics(headers: &HeaderMap, state: &State) -> Page {
    let format = negotiation::negotiate(headers);
    page(StatusCode::OK, format.content_type(), state.metrics().encode(format))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    page(status, TEXT, body)
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_makes_no_line_of_its_own() {
        let team = "a\nready\n.yaml".to_owned();
        let page = config_error_lines(&[ConfigErrorCount {
            team,
            count: 1,
            effect: "its calls are refused",
        }]);
        assert_eq!(page.lines().count(), 2, "{page}");
    }

    #[test]
    fn no_more_teams_are_listed_than_fit() {
        let team = |at| ConfigErrorCount { team: format!("t{at}"), count: 1, effect: "" };
        let page = config_error_lines(&(0..LINES_MAX + 5).map(team).collect::<Vec<_>>());
        assert_eq!(page.lines().count(), LINES_MAX + 2, "{page}");
        assert!(page.contains("in the files of 5 more teams"), "{page}");
    }
}
