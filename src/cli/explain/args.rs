//! Arguments of `explain`. Arguments that may contain a token are parsed here and not by clap,
//! whose error messages repeat invalid arguments.

use crate::cli::{ConfigFile, url};
use crate::grpc::{
    malformed,
    request::{self, RequestError},
};
use crate::wire::head::{self, Rule};
use crate::wire::hpack::{Fields, Indexing};
use clap::Args;
use sconce_filters::{Code, Refusal, method::SERVICE};
use std::path::PathBuf;

/// Arguments of `explain`: the call to explain.
#[derive(Args, Debug)]
pub(in crate::cli) struct ExplainArgs {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// URL of a client: sets the authority and the headers
    #[arg(value_name = "sc://…")]
    pub(super) url: Option<String>,
    /// Host of the request (:authority)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) authority: Option<String>,
    /// Header of the call; repeat for several headers
    #[arg(long = "header", value_name = "KEY=VALUE")]
    pub(super) headers: Vec<String>,
    /// RPC name or complete :path
    #[arg(
        long,
        value_name = "NAME|PATH",
        value_parser = full_path,
        default_value = "ExecutePlan"
    )]
    pub(super) method: String,
    /// Client certificate: a PEM file with the client's own certificate first
    #[arg(long, value_name = "FILE")]
    pub(super) certificate: Option<PathBuf>,
    /// Also connect to the driver, and report the JWKS fetches from the identity providers
    #[arg(long)]
    pub(super) dial: bool,
}

/// The request that the client would send.
#[derive(Debug)]
pub(super) struct SimulatedRequest {
    /// The authority; empty if there is none.
    pub(super) authority: String,
    pub(super) headers: Vec<(String, String)>,
    /// Text about the origin of the token, if it is from the environment; otherwise empty.
    pub(super) token_origin: String,
}

/// Environment variable with the token of a client whose URL has none (PySpark 4.0 and later).
pub(super) const TOKEN_VARIABLE: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";

impl ExplainArgs {
    /// The request. `token` is the token from the environment, which clients use if neither the URL
    /// nor a header has one.
    ///
    /// # Errors
    /// The invalid argument, without any part that may be a token.
    pub(super) fn request(&self, token: Option<String>) -> Result<SimulatedRequest, String> {
        let url = self.url.as_deref().map(url::parse).transpose()?;
        let own = self.headers.iter().map(|text| parse_header(text));
        let own = own.collect::<Result<Vec<_>, _>>()?;
        let from_url = url.iter().flat_map(|url| url.headers.iter().cloned());
        let mut headers: Vec<_> = from_url.chain(own).collect();
        let mut origin = String::new();
        let shown =
            headers.iter().any(|(key, _)| matches!(&**key, "authorization" | "authentication"));
        if let Some(token) = token.filter(|token| !shown && !token.is_empty()) {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
            origin = format!(", with the token from {TOKEN_VARIABLE}");
        }
        let from_url = url.map(|url| url.authority);
        let authority = self.authority.clone().or(from_url).unwrap_or_default();
        url::check_host(&authority)?;
        Ok(SimulatedRequest { authority, headers, token_origin: origin })
    }
}

impl SimulatedRequest {
    /// Whether the request headers are valid HTTP/2 (RFC 9113, 8.2 and 8.3).
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        let has_host = self.headers.iter().any(|(key, _)| key == "host");
        let authority = match &*self.authority {
            "" if has_host => None,
            "" => Some("nowhere"),
            named => Some(named),
        };
        let own = [(":method", "POST"), (":scheme", "https"), (":path", path)];
        let own = own.into_iter().chain(authority.map(|named| (":authority", named)));
        let sent = self.headers.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut fields = Fields::default();
        for (name, value) in own.chain(sent) {
            fields.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
        }
        head::check_request(&fields).map(drop).map_err(|error| {
            // An invalid name may be a token.
            if error.rule == Rule::Name {
                return error.rule.description().to_owned();
            }
            malformed::refusal(&fields, error).message.to_string()
        })
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("--header: write it as key=value")?;
    let token = |o: u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&o);
    match !key.is_empty() && key.bytes().all(token) {
        true => Ok((key.to_ascii_lowercase(), value.to_owned())),
        false => Err("--header: the text before '=' is not a valid header name".to_owned()),
    }
}

/// The complete path of a method of Spark's service. A path is not changed.
fn full_path(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Ok(text.to_owned()),
        false => Ok(format!("/{SERVICE}/{text}")),
    }
}

/// Whether `serve` would let any room hear of this path.
pub(super) fn check_path(path: &str) -> Result<(), Refusal> {
    let mut head = Fields::default();
    let fields = [(":method", "POST"), (":path", path), ("content-type", "application/grpc")];
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
    }
    match request::read(&head) {
        Ok(_) => Ok(()),
        Err(RequestError::Refused(refusal)) => Err(refusal),
        Err(RequestError::NotGrpc) => {
            Err(Refusal::new(Code::Internal, "request", "is not a gRPC request"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        question: ExplainArgs,
    }

    fn read(words: &[&str], token: Option<&str>) -> Result<SimulatedRequest, String> {
        let words = ["explain"].iter().chain(words);
        Typed::parse_from(words).question.request(token.map(str::to_owned))
    }

    #[test]
    fn the_token_of_the_environment_is_used_without_another_token() {
        let kept = |words: &[&str]| {
            let asked = read(words, Some("t")).unwrap();
            (asked.headers.last().unwrap().1.clone(), asked.token_origin)
        };
        let origin = ", with the token from SPARK_CONNECT_AUTHENTICATE_TOKEN".to_owned();
        assert_eq!(kept(&["sc://h"]), ("Bearer t".to_owned(), origin));
        assert_eq!(kept(&["sc://h/;token=u"]), ("Bearer u".to_owned(), String::new()));
        assert_eq!(kept(&["--header", "Authorization=x"]), ("x".to_owned(), String::new()));
    }

    #[test]
    fn a_header_needs_a_valid_name() {
        assert_eq!(parse_header("A=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(
            parse_header("a").is_err()
                && parse_header("=b").is_err()
                && parse_header("a b=c").is_err()
        );
    }

    #[test]
    fn invalid_arguments_are_not_repeated() {
        for words in [
            &["sc://h/;token=SEKRET;more"][..],
            &["sc://h/;SEKRET"],
            &["http://h/;token=SEKRET"],
            &["sc://h:SEKRET/;token=SEKRET"],
            &["--header", "authorization: Bearer SEKRET"],
            &["--header", "Bearer SEKRET=="],
            &["sc://SEKRET@h/"],
            &["--authority", "ann:SEKRET@h"],
            &["--authority", "h/SEKRET"],
        ] {
            let error = read(words, None).unwrap_err();
            assert!(!error.contains("SEKRET"), "{words:?}: {error}");
        }
    }

    #[test]
    fn malformed_request_headers_are_rejected_as_on_the_wire() {
        let checked = |words: &[&str]| read(words, None).unwrap().check("/a");
        assert_eq!(checked(&["sc://h/;x-sconce-team=ads"]), Ok(()));
        let spaced = checked(&["sc://h/;x-sconce-team=ads%20"]).unwrap_err();
        assert_eq!(spaced, "the value of x-sconce-team ends with a space: remove it");
        let token = checked(&["sc://h/;token=SEKRET "]).unwrap_err();
        assert_eq!(token, "the token ends with a space: remove it");
        let tab = checked(&["sc://h/;x-sconce-team=ads%09"]).unwrap_err();
        assert_eq!(tab, "the value of x-sconce-team ends with a tab: remove it");
        assert_eq!(checked(&["--header", "host=h", "--authority", "h:443"]), Ok(()));
        assert_eq!(checked(&["--header", "host=h"]), Ok(()));
        for words in [
            &["--header", "connection=close"][..],
            &["--header", "te=SEKRET"],
            &["--header", "host=SEKRET", "--authority", "h"],
            &["sc://h/;x-a=SEKRET%00"],
            &["sc://h/;Bearer SEKRET=="],
            &["--authority", "h[SEKRET"],
        ] {
            let error = checked(words).unwrap_err().to_lowercase();
            assert!(!error.contains("sekret"), "{words:?}: {error}");
        }
    }
}
