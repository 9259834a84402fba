//! One attempt to fetch the keys of a provider, within bounds.
//!
//! A lying provider is no better than a dead one: a document for another issuer, keys that are none
//! and an answer without an end are failures, and leave the keys there are in place.

use crate::config::{
    keys::{At, Source},
    pem,
};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use sconce_filters::authenticate::{DOCUMENT_MAX, KeySet};
use std::{sync::Arc, time::Duration};

/// How long an attempt may take in all.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// Where a provider's own document is, below its name (OpenID Connect Discovery 1.0, 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

type Fetched = (KeySet, Vec<String>);
type Web = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The keys of a provider, and why some of them were passed over.
///
/// # Errors
/// What went wrong, in a sentence for a log.
pub async fn fetch(source: &Source) -> Result<Fetched, String> {
    let attempt = async {
        let text = match &source.at {
            At::Here(keys) => return Ok((keys.clone(), Vec::new())),
            At::Url(url) => get(&web(source)?, url).await?,
            At::Discovery => {
                let web = web(source)?;
                let url = discover(&web, &source.issuer).await?;
                get(&web, &url).await?
            }
        };
        KeySet::from_jwks(&text).map_err(|fault| fault.to_string())
    };
    let late = |_| format!("no answer within {} s", ATTEMPT_MAX.as_secs());
    tokio::time::timeout(ATTEMPT_MAX, attempt).await.map_err(late)?
}

async fn discover(web: &Web, issuer: &str) -> Result<String, String> {
    let url = format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'));
    let text = get(web, &url).await?;
    let document: serde_json::Value =
        serde_json::from_str(&text).map_err(|fault| format!("{url} cannot be read: {fault}"))?;
    let said = |key| document.get(key).and_then(serde_json::Value::as_str);
    if said("issuer") != Some(issuer) {
        return Err(format!("{url} is about another issuer"));
    }
    let keys = said("jwks_uri").ok_or_else(|| format!("{url} names no jwks_uri"))?;
    if !is_as_safe(keys, issuer) {
        return Err(format!("{url} leads from https to clear text"));
    }
    Ok(keys.to_owned())
}

/// Keys that come in clear text are worth no more than the network.
fn is_as_safe(url: &str, issuer: &str) -> bool {
    url.starts_with("https://") || issuer.starts_with("http://")
}

async fn get(web: &Web, url: &str) -> Result<String, String> {
    let said = |what: &dyn std::fmt::Display| format!("{url}: {what}");
    let uri: Uri = url.parse().map_err(|fault| said(&fault))?;
    let request = Request::get(uri).header(header::ACCEPT, "application/json");
    let request = request.body(Empty::new()).map_err(|fault| said(&fault))?;
    let answer = web.request(request).await.map_err(|fault| said(&cause(&fault)))?;
    if answer.status() != StatusCode::OK {
        return Err(said(&format!("answered {}", answer.status())));
    }
    let body = Limited::new(answer.into_body(), DOCUMENT_MAX).collect().await;
    let body = body.map_err(|fault| said(&fault))?.to_bytes();
    String::from_utf8(body.into()).map_err(|_| said(&"is not UTF-8"))
}

/// The innermost reason, which is the one that tells.
fn cause(fault: &dyn std::error::Error) -> String {
    let mut inner = fault;
    while let Some(deeper) = inner.source() {
        inner = deeper;
    }
    inner.to_string()
}

fn web(source: &Source) -> Result<Web, String> {
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
