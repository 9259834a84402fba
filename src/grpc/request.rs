//! Request heads: the RPC and its timeout.
//!
//! Paths are compared octet for octet. Without normalisation, a policy for one spelling cannot be
//! bypassed by another.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use sconce_filters::call::RawValue;
use sconce_filters::method::SERVICE;
use sconce_filters::{Code, HeadCache, Metadata, Method, Refusal};

use crate::wire::hpack::{Field, Fields, Text};

/// Maximum length of a method name, in octets.
const METHOD_MAX: usize = 128;
/// Scratch space for a path, in octets; longer than the path of any valid method.
const PATH_MAX: usize = 192;
/// Maximum length of `grpc-timeout`, in octets: eight digits and a unit (gRPC over HTTP/2,
/// "Requests").
const TIMEOUT_MAX: usize = 9;

/// A request head. Values are decoded lazily and once; consecutive equal requests share one head.
#[derive(Debug)]
pub struct RequestHead {
    fields: Rc<Fields>,
    /// The decoded value of each Huffman-coded field.
    decoded: Box<[OnceCell<Box<[u8]>>]>,
    cache: HeadCache,
}

impl RequestHead {
    /// A head without decoded values.
    #[must_use]
    pub fn new(fields: Rc<Fields>) -> Self {
        let decoded = fields.iter().map(|_| OnceCell::new()).collect();
        Self { fields, decoded, cache: HeadCache::default() }
    }

    /// The received fields.
    #[must_use]
    pub fn fields(&self) -> &Rc<Fields> {
        &self.fields
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.named(name.as_bytes()).filter_map(|(place, field)| {
            if !field.value.is_huffman() {
                return Some(field.value.encoded());
            }
            let decoded = self.decoded.get(place)?;
            Some(decoded.get_or_init(|| field.value.to_boxed()))
        })
    }
}

impl Metadata for RequestHead {
    fn authority(&self) -> Cow<'_, str> {
        let value = self.values(":authority").next().or_else(|| self.values("host").next());
        let value = value.unwrap_or_default();
        str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed)
    }

    fn first(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.values(name).next().map(Cow::Borrowed)
    }

    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.values(name).for_each(each);
    }

    fn raw_value(&self, names: &[&str]) -> Option<RawValue<'_>> {
        let mut all = names.iter().flat_map(|name| self.fields.named(name.as_bytes()));
        match (all.next(), all.next()) {
            (Some((_, Field { value, .. })), None) => {
                Some(RawValue { bytes: value.encoded(), is_huffman_coded: value.is_huffman() })
            }
            (None | Some(_), _) => None,
        }
    }

    fn cache(&self) -> Option<&HeadCache> {
        Some(&self.cache)
    }
}

/// The RPC of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The RPC.
    pub method: Method,
    /// The value of `grpc-timeout`, if there is one.
    pub timeout: Option<Duration>,
}

/// An error of a request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not gRPC; the response is HTTP status 415 (gRPC over HTTP/2, "Requests").
    NotGrpc,
    /// gRPC; the response is a gRPC status.
    Refused(Refusal),
}

/// Parses a head.
///
/// # Errors
/// The first error of the head.
pub fn read(fields: &Fields) -> Result<Request, RequestError> {
    let (mut method, mut path, mut kind, mut timeout) = (None, None, None, None);
    for field in fields.iter() {
        match field.name {
            b":method" => method = Some(field.value),
            b":path" => path = Some(field.value),
            b"content-type" if kind.is_some() => return Err(RequestError::NotGrpc),
            b"content-type" => kind = Some(field.value),
            b"grpc-timeout" if timeout.is_some() => return Err(bad_timeout()),
            b"grpc-timeout" => timeout = Some(field.value),
            _ => {}
        }
    }
    if !kind.is_some_and(is_grpc) {
        return Err(RequestError::NotGrpc);
    }
    if !method.is_some_and(|method| method.equals(b"POST")) {
        return Err(unimplemented("gRPC requires the method POST"));
    }
    let method = path
        .and_then(parse_method)
        .ok_or_else(|| unimplemented(&format!("only methods of /{SERVICE}/ are served here")))?;
    let timeout = match timeout {
        Some(value) => Some(parse_timeout(value).ok_or_else(bad_timeout)?),
        None => None,
    };
    Ok(Request { method, timeout })
}

fn unimplemented(message: &str) -> RequestError {
    RequestError::Refused(Refusal::new(Code::Unimplemented, "request.unimplemented", message))
}

fn bad_timeout() -> RequestError {
    let message = "grpc-timeout must have 1 to 8 digits and one unit of H, M, S, m, u, n";
    RequestError::Refused(Refusal::new(Code::InvalidArgument, "request.timeout", message))
}

fn is_grpc(kind: Text<'_>) -> bool {
    match kind.prefix(&mut [0; 32]).strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

fn parse_method(path: Text<'_>) -> Option<Method> {
    let mut scratch = [0; PATH_MAX];
    let path = std::str::from_utf8(path.prefix(&mut scratch)).ok()?;
    let name = path.strip_prefix('/')?.strip_prefix(SERVICE)?.strip_prefix('/')?;
    let is_name = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    (!name.is_empty() && name.len() <= METHOD_MAX && is_name).then(|| Method::from_path(path))
}

fn parse_timeout(value: Text<'_>) -> Option<Duration> {
    let mut scratch = [0; TIMEOUT_MAX + 1];
    let (unit, digits) = value.prefix(&mut scratch).split_last()?;
    if digits.is_empty() || digits.len() >= TIMEOUT_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3_600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack::Indexing;

    fn head(path: &str, more: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        let mut all = vec![(":method", "POST"), (":path", path)];
        all.extend_from_slice(more);
        for (name, value) in all {
            fields.push(name.as_bytes(), value.as_bytes(), Indexing::Without);
        }
        fields
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");
    const CONFIG: &str = "/spark.connect.SparkConnectService/Config";

    #[test]
    fn a_method_is_read_with_its_timeout() {
        let request = read(&head(CONFIG, &[GRPC, ("grpc-timeout", "1500m")])).unwrap();
        assert_eq!(request.method, Method::Config);
        assert_eq!(request.timeout, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn a_header_that_occurs_once_has_a_raw_value() {
        let head = |more: &[(&str, &str)]| RequestHead::new(Rc::new(head(CONFIG, more)));
        let one = head(&[("authorization", "a")]);
        let names = ["authorization", "authentication"];
        assert_eq!(one.raw_value(&names), Some(RawValue { bytes: b"a", is_huffman_coded: false }));
        assert_eq!(head(&[]).raw_value(&names), None);
        for other in names {
            assert_eq!(head(&[("authorization", "a"), (other, "a")]).raw_value(&names), None);
        }
    }

    #[test]
    fn a_method_of_the_future_is_served() {
        let path = "/spark.connect.SparkConnectService/ListSqlExecutions";
        assert_eq!(read(&head(path, &[GRPC])).unwrap().method, Method::Other);
    }

    #[test]
    fn only_the_exact_path_is_served() {
        for path in [
            "//spark.connect.SparkConnectService/Config",
            "/spark.connect.SparkConnectService//Config",
            "/spark.connect.SparkConnectService/Config/",
            "/spark.connect.SparkConnectService/",
            "/spark.connect.SparkConnectService",
            "/spark.connect.sparkconnectservice/Config",
            "/spark.connect.SparkConnectService%2fConfig",
            "/spark.connect.SparkConnectService/Config?x=1",
            "/spark.connect.SparkConnectService/../Config",
            "/grpc.health.v1.Health/Check",
            "*",
        ] {
            let refused = read(&head(path, &[GRPC])).unwrap_err();
            let RequestError::Refused(refusal) = refused else { panic!("{path} is not gRPC?") };
            assert_eq!(refusal.code, Code::Unimplemented, "{path}");
        }
    }

    #[test]
    fn other_content_types_are_not_grpc() {
        for kind in ["text/html", "application/grpcx", "application/grpc-web", "application/json"] {
            let fields = head(CONFIG, &[("content-type", kind)]);
            assert_eq!(read(&fields), Err(RequestError::NotGrpc), "{kind}");
        }
        assert_eq!(read(&head(CONFIG, &[])), Err(RequestError::NotGrpc));
        assert!(read(&head(CONFIG, &[("content-type", "application/grpc+proto")])).is_ok());
    }

    #[test]
    fn an_invalid_timeout_is_refused() {
        for bad in ["", "S", "1", "123456789S", "1x", "-1S", "1.5S", " 1S"] {
            assert!(read(&head(CONFIG, &[GRPC, ("grpc-timeout", bad)])).is_err(), "{bad:?}");
        }
    }
}
