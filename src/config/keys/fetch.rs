//! One fetch of the keys of a provider, within limits.
//!
//! A document of another issuer, keys that are not valid and an endless response are errors: the
//! caller keeps the cached keys.

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

/// Timeout of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The path of the discovery document below the issuer (OpenID Connect Discovery 1.0, 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

type Fetched = (KeySet, Vec<String>);
type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The keys of a provider, and the reasons for skipped keys.
///
/// # Errors
/// The error in one sentence for a log.
pub async fn fetch(source: &JwksSource) -> Result<Fetched, String> {
    let mut url_in_use = String::new();
    let attempt = fetch_from_source(source, &mut url_in_use);
    match tokio::time::timeout(FETCH_TIMEOUT, attempt).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("{url_in_use}: no response within {} s", FETCH_TIMEOUT.as_secs())),
    }
}

/// Stores the URL of the current request in `url_in_use`.
async fn fetch_from_source(
    source: &JwksSource,
    url_in_use: &mut String,
) -> Result<Fetched, String> {
    let url = match &source.location {
        JwksLocation::Static(keys) => return Ok((keys.clone(), Vec::new())),
        JwksLocation::Url(url) => url.clone(),
        JwksLocation::Discovery => {
            let url = format!("{}{WELL_KNOWN}", source.issuer.trim_end_matches('/'));
            url_in_use.clone_from(&url);
            discover(&http_client(source)?, &url, &source.issuer).await?
        }
    };
    url_in_use.clone_from(&url);
    let text = get(&http_client(source)?, &url).await?;
    KeySet::from_jwks(&text).map_err(|error| format!("{url}: {error}"))
}

async fn discover(client: &HttpClient, url: &str, issuer: &str) -> Result<String, String> {
    let text = get(client, url).await?;
    let document: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{url} is not JSON: {error}"))?;
    let member = |key| document.get(key).and_then(serde_json::Value::as_str);
    match member("issuer") {
        Some(other) if other != issuer => {
            let (other, issuer) = (quote(other), quote(issuer));
            return Err(format!("{url} has the issuer {other}, the configuration has {issuer}"));
        }
        Some(_) => {}
        None => return Err(format!("{url} has no issuer")),
    }
    let keys = member("jwks_uri").ok_or_else(|| format!("{url} has no jwks_uri"))?;
    if !is_secure_enough(keys, issuer) {
        return Err(format!("{url} has a jwks_uri without TLS; it must begin with https://"));
    }
    Ok(keys.to_owned())
}

/// Whether keys from this URL are trusted: over TLS, or over clear text on loopback if the issuer
/// is a clear-text URL on loopback as well. A text that is not a URL is never fetched.
fn is_secure_enough(url: &str, issuer: &str) -> bool {
    let of = |url: &str| url.parse::<Uri>().ok();
    let is = |url: &Uri, scheme: &str| url.scheme_str() == Some(scheme);
    let is_clear = of(issuer).is_some_and(|issuer| is(&issuer, "http"));
    of(url)
        .is_none_or(|url| is(&url, "https") || (is_clear && is(&url, "http") && is_loopback(&url)))
}

/// Whether a URL is on loopback.
pub(in crate::config) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_local = host.eq_ignore_ascii_case("localhost");
    is_local || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn get(client: &HttpClient, url: &str) -> Result<String, String> {
    let failure = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let uri: Uri = url.parse().map_err(|error| failure(&error))?;
    let request = Request::get(uri).header(header::ACCEPT, "application/json");
    let request = request.body(Empty::new()).map_err(|error| failure(&error))?;
    let response = client.request(request).await.map_err(|error| failure(&root_cause(&error)))?;
    let header = |name| {
        let value: Option<&HeaderValue> = response.headers().get(name);
        value.map(|value| quote(&String::from_utf8_lossy(value.as_bytes())))
    };
    let status = response.status();
    if let (true, Some(location)) = (status.is_redirection(), header(header::LOCATION)) {
        return Err(failure(&format!("redirects to {location}; redirects are not followed")));
    }
    if status != StatusCode::OK {
        return Err(failure(&format!("HTTP status {status}")));
    }
    if let Some(coding) = header(header::CONTENT_ENCODING).filter(|coding| coding != "'identity'") {
        return Err(failure(&format!(
            "has the content-encoding {coding}, which was not requested"
        )));
    }
    let kind = header(header::CONTENT_TYPE).unwrap_or_else(|| "missing".to_owned());
    let body = Limited::new(response.into_body(), DOCUMENT_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => failure(&format!("is larger than {} KiB", DOCUMENT_MAX / 1024)),
        false => failure(&root_cause(&*error)),
    });
    let text = String::from_utf8(body?.to_bytes().into()).map_err(|_| failure(&"is not UTF-8"))?;
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    is_json
        .then_some(text)
        .ok_or_else(|| failure(&format!("is not JSON; its content-type is {kind}")))
}

/// The innermost error: it has the most specific message.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(deeper) = inner.source() {
        inner = deeper;
    }
    let tls_error = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls_error = tls_error.and_then(|tls_error| tls_error.downcast_ref::<rustls::Error>());
    match tls_error {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!("{inner}: add its certificate authority to authorities")
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
        .map_err(|error| error.to_string())?
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

    /// The error for this response, with the address of the provider replaced.
    fn fetch_error(response: &[u8], is_discovered: bool) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer = format!("http://{}", listener.local_addr().unwrap());
            let location = if is_discovered {
                JwksLocation::Discovery
            } else {
                JwksLocation::Url(format!("{issuer}/keys"))
            };
            let refresh = Duration::from_secs(60);
            let (issuer_name, algorithms) = (issuer.clone(), Vec::new());
            let source = JwksSource {
                issuer: issuer_name,
                location,
                authorities: None,
                refresh,
                algorithms,
            };
            let serve = async {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.read(&mut [0; 4096]).await;
                // The client disconnects when it has enough.
                let _ = socket.write_all(response).await;
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
    fn invalid_responses_are_reported_with_their_url() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(DOCUMENT_MAX + 1));
        for (response, expected) in [
            (
                "HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n",
                "redirects to '/login'; redirects are not followed",
            ),
            ("HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503 Service Unavailable"),
            (&long, "is larger than 256 KiB"),
            (
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n{}",
                "has the content-encoding 'gzip', which was not requested",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>",
                "is not JSON; its content-type is 'text/html'",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "the JWKS document has no list 'keys'"),
        ] {
            assert_eq!(
                fetch_error(response.as_bytes(), false),
                format!("PROVIDER/keys: {expected}")
            );
        }
    }

    #[test]
    fn clear_text_keys_are_fetched_only_on_loopback_for_loopback_issuers() {
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
    fn another_issuer_in_the_document_is_reported_with_both_spellings() {
        let response = b"HTTP/1.1 200 OK\r\n\r\n{\"issuer\": \"http://x/\"}";
        let expected = format!(
            "PROVIDER{WELL_KNOWN} has the issuer 'http://x/', the configuration has 'PROVIDER'"
        );
        assert_eq!(fetch_error(response, true), expected);
    }
}
