//! The pages, by path.

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

/// Maximum number of teams, and of issuers, that /readyz lists.
const LINES_MAX: usize = 20;

const INDEX: &str = "\
sconce, the front door for Apache Spark Connect

/healthz  200 while the process runs
/readyz   200 when ready for calls, otherwise 503 and the reason
/metrics  Prometheus metrics
";

/// Answers one request. Rejects requests with a body.
pub(super) fn respond<B>(request: &Request<B>, state: &State) -> Page {
    match request.uri().path() {
        "/" | "/healthz" | "/readyz" | "/metrics" if !is_get_or_head(request.method()) => {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
            page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            page
        }
        _ if has_body(request.headers()) => {
            text(StatusCode::PAYLOAD_TOO_LARGE, "a request body is not accepted here\n")
        }
        "/" => text(StatusCode::OK, INDEX),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(state.readiness()),
        "/metrics" => metrics(request.headers(), state),
        _ => text(StatusCode::NOT_FOUND, "page not found; / lists all pages\n"),
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
            text(StatusCode::SERVICE_UNAVAILABLE, "starting: the configuration is not loaded yet\n")
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
            text(StatusCode::SERVICE_UNAVAILABLE, "draining: waiting for open calls\n")
        }
    }
}

/// A line for each issuer without usable keys.
fn missing_keys(subject: &str, issuers: &[String]) -> String {
    let lines = issuers.iter().take(LINES_MAX).map(|issuer| {
        format!(
            "{subject}: issuer {issuer} has no usable keys yet, its tokens are refused; the log \
             shows the reason\n"
        )
    });
    lines.collect()
}

/// A line for each team with config errors, and for the main file.
fn config_error_lines(errors: &[ConfigErrorCount]) -> String {
    let line = |errors: &ConfigErrorCount| {
        let ConfigErrorCount { team, count, effect: served } = errors;
        // The name may be a file name.
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
        lines.push_str("config: run sconce check to list all errors\n");
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
    fn a_file_name_cannot_add_a_line() {
        let team = "a\nready\n.yaml".to_owned();
        let page = config_error_lines(&[ConfigErrorCount {
            team,
            count: 1,
            effect: "its calls are refused",
        }]);
        assert_eq!(page.lines().count(), 2, "{page}");
    }

    #[test]
    fn the_number_of_listed_teams_is_limited() {
        let team = |at| ConfigErrorCount { team: format!("t{at}"), count: 1, effect: "" };
        let page = config_error_lines(&(0..LINES_MAX + 5).map(team).collect::<Vec<_>>());
        assert_eq!(page.lines().count(), LINES_MAX + 2, "{page}");
        assert!(page.contains("in the files of 5 more teams"), "{page}");
    }
}
