//! One attempt to fetch the keys of a provider, within bounds.
//!
//! A lying provider is no better than a dead one: a document for another issuer, keys that are none
//! and an answer without an end are failures, and leave the keys there are in place.

use crate::config::{
    diagnostics::quote,
    keys::{JwksLocation, JwksSource},
    pem,
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::aws_lc_rs};
use sconce_filters::authenticate::{DOCUMENT_MAX, KeySet};
use serde::de::IgnoredAny;
use std::{io, net::IpAddr, sync::Arc, time::Duration};

/// How long an attempt may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a provider's own document is, below its name (OpenID Connect Discovery 1.0, 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

type Fetched = (KeySet, Vec<String>);
type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The keys of a provider, and why some of them were passed over.
///
/// # Errors
/// What went wrong, in a sentence for a log.
pub async fn fetch(source: &JwksSource) -> Result<Fetched, String> {
    let mut asked = String::new();
    let attempt = fetch_from_source(source, &mut asked);
    match tokio::time::timeout(FETCH_TIMEOUT, attempt).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("{asked}: no answer within {} s", FETCH_TIMEOUT.as_secs())),
    }
}

/// Notes in `asked` which document it waits for.
async fn fetch_from_source(source: &JwksSource, asked: &mut String) -> Result<Fetched, String> {
    let url = match &source.location {
        JwksLocation::Static(keys) => return Ok((keys.clone(), Vec::new())),
        JwksLocation::Url(url) => url.clone(),
        JwksLocation::Discovery => {
            let url = format!("{}{WELL_KNOWN}", source.issuer.trim_end_matches('/'));
            asked.clone_from(&url);
            discover(&http_client(source)?, &url, &source.issuer).await?
        }
    };
    asked.clone_from(&url);
    let text = get(&http_client(source)?, &url).await?;
    KeySet::from_jwks(&text).map_err(|fault| format!("{url}: {fault}"))
}

async fn discover(web: &HttpClient, url: &str, issuer: &str) -> Result<String, String> {
    let text = get(web, url).await?;
    let document: serde_json::Value =
        serde_json::from_str(&text).map_err(|fault| format!("{url} cannot be read: {fault}"))?;
    let said = |key| document.get(key).and_then(serde_json::Value::as_str);
    match said("issuer") {
        Some(other) if other != issuer => {
            let (other, issuer) = (quote(other), quote(issuer));
            return Err(format!("{url} says issuer {other}, the configuration says {issuer}"));
        }
        Some(_) => {}
        None => return Err(format!("{url} names no issuer")),
    }
    let keys = said("jwks_uri").ok_or_else(|| format!("{url} names no jwks_uri"))?;
    if !is_secure_enough(keys, issuer) {
        return Err(format!("{url} leads to clear text"));
    }
    Ok(keys.to_owned())
}

/// Keys that come in clear text are worth no more than the network. An issuer in clear text is on
/// loopback, and allowed: so may its keys be. What is no URL is not fetched at all.
fn is_secure_enough(url: &str, issuer: &str) -> bool {
    let of = |url: &str| url.parse::<Uri>().ok();
    let is = |url: &Uri, scheme: &str| url.scheme_str() == Some(scheme);
    let is_clear = of(issuer).is_some_and(|issuer| is(&issuer, "http"));
    of(url)
        .is_none_or(|url| is(&url, "https") || (is_clear && is(&url, "http") && is_loopback(&url)))
}

/// Whether a URL leads to this machine alone.
pub(in crate::config) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_local = host.eq_ignore_ascii_case("localhost");
    is_local || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn get(web: &HttpClient, url: &str) -> Result<String, String> {
    let said = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let uri: Uri = url.parse().map_err(|fault| said(&fault))?;
    let request = Request::get(uri).header(header::ACCEPT, "application/json");
    let request = request.body(Empty::new()).map_err(|fault| said(&fault))?;
    let answer = web.request(request).await.map_err(|fault| said(&root_cause(&fault)))?;
    let header = |name| {
        let value: Option<&HeaderValue> = answer.headers().get(name);
        value.map(|value| quote(&String::from_utf8_lossy(value.as_bytes())))
    };
    let status = answer.status();
    if let (true, Some(place)) = (status.is_redirection(), header(header::LOCATION)) {
        return Err(said(&format!("redirects to {place}, redirects are not followed")));
    }
    if status != StatusCode::OK {
        return Err(said(&format!("answered {status}")));
    }
    if let Some(coding) = header(header::CONTENT_ENCODING).filter(|coding| coding != "'identity'") {
        return Err(said(&format!("is encoded as {coding}, which was not asked for")));
    }
    let kind = header(header::CONTENT_TYPE).unwrap_or_else(|| "not told".to_owned());
    let body = Limited::new(answer.into_body(), DOCUMENT_MAX).collect().await;
    let body = body.map_err(|fault| match fault.is::<LengthLimitError>() {
        true => said(&format!("is larger than {} KiB", DOCUMENT_MAX / 1024)),
        false => said(&root_cause(&*fault)),
    });
    let text = String::from_utf8(body?.to_bytes().into()).map_err(|_| said(&"is not UTF-8"))?;
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    is_json.then_some(text).ok_or_else(|| said(&format!("is not JSON; its content-type is {kind}")))
}

/// The innermost reason, which is the one that tells.
fn root_cause(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = fault;
    while let Some(deeper) = inner.source() {
        inner = deeper;
    }
    let theirs = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let theirs = theirs.and_then(|theirs| theirs.downcast_ref::<rustls::Error>());
    match theirs {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!("{inner}: name who signed it under authorities")
        }
        Some(_) | None => inner.to_string(),
    }
}

fn http_client(source: &JwksSource) -> Result<HttpClient, String> {
    let roots = match &source.authorities {
        Some(authorities) => pem::roots(authorities)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    Ok(Client::builder(TokioExecutor::new()).build(connector.enable_http1().build()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// What is said of a provider that answers so, with its address left out.
    fn said(answer: &[u8], is_discovered: bool) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer = format!("http://{}", listener.local_addr().unwrap());
            let at = if is_discovered {
                JwksLocation::Discovery
            } else {
                JwksLocation::Url(format!("{issuer}/keys"))
            };
            let refresh = Duration::from_secs(60);
            let (issuer_name, algorithms) = (issuer.clone(), Vec::new());
            let source = JwksSource {
                issuer: issuer_name,
                location: at,
                authorities: None,
                refresh,
                algorithms,
            };
            let serve = async {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 4096]).await;
                // Who has heard enough hangs up.
                let _ = socket.write_all(answer).await;
                let _ = socket.shutdown().await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                fetched = fetch(&source) => fetched.unwrap_err().replace(&issuer, "PROVIDER"),
                () = serve => unreachable!(),
            }
        })
    }

    #[test]
    fn what_a_provider_answers_amiss_is_told_by_its_document() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(DOCUMENT_MAX + 1));
        for (answer, expected) in [
            (
                "HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n",
                "redirects to '/login', redirects are not followed",
            ),
            ("HTTP/1.1 503 Busy\r\n\r\n", "answered 503 Service Unavailable"),
            (&long, "is larger than 256 KiB"),
            (
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n{}",
                "is encoded as 'gzip', which was not asked for",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>",
                "is not JSON; its content-type is 'text/html'",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "the key document has no list of keys"),
        ] {
            assert_eq!(said(answer.as_bytes(), false), format!("PROVIDER/keys: {expected}"));
        }
    }

    #[test]
    fn keys_in_clear_text_are_fetched_from_loopback_alone_and_for_an_issuer_there() {
        for (url, issuer, is_safe) in [
            ("https://keys.example", "https://id.example", true),
            ("https://keys.example", "http://127.0.0.1:1", true),
            ("http://127.0.0.1:1/keys", "https://id.example", false),
            ("http://localhost:1/keys", "http://127.0.0.1:1", true),
            ("http://[::1]:1/keys", "HTTP://LOCALHOST:1", true),
            ("http://keys.example", "http://127.0.0.1:1", false),
            ("http://127.0.0.1.example", "http://127.0.0.1:1", false),
            ("ftp://127.0.0.1/keys", "http://127.0.0.1:1", false),
            ("/keys", "http://127.0.0.1:1", false),
            ("no URL", "https://id.example", true),
        ] {
            assert_eq!(is_secure_enough(url, issuer), is_safe, "{url} of {issuer}");
        }
    }

    #[test]
    fn an_issuer_that_is_spelt_otherwise_is_told_in_both_spellings() {
        let answer = b"HTTP/1.1 200 OK\r\n\r\n{\"issuer\": \"http://x/\"}";
        let expected = format!(
            "PROVIDER{WELL_KNOWN} says issuer 'http://x/', the configuration says 'PROVIDER'"
        );
        assert_eq!(said(answer, true), expected);
    }
}
