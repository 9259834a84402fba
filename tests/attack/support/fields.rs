//! Header lists, and the few HPACK forms that tests need to write by hand (RFC 7541, section 6).

/// An integer with a prefix of `bits`, the bits above it set to `high`.
pub fn integer(high: u8, bits: u32, mut value: usize) -> Vec<u8> {
    let limit = (1usize << bits) - 1;
    if value < limit {
        return vec![high | u8::try_from(value).unwrap()];
    }
    let mut out = vec![high | u8::try_from(limit).unwrap()];
    value -= limit;
    while value >= 128 {
        out.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

pub fn string(octets: &[u8]) -> Vec<u8> {
    let mut out = integer(0, 7, octets.len());
    out.extend_from_slice(octets);
    out
}

/// A string that says it is Huffman coded, whatever its octets are.
pub fn huffman(octets: &[u8]) -> Vec<u8> {
    let mut out = integer(0x80, 7, octets.len());
    out.extend_from_slice(octets);
    out
}

fn literal_as(high: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![high];
    out.extend(string(name));
    out.extend(string(value));
    out
}

/// Literal without indexing, name and value spelt out.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal_as(0x00, name, value)
}

/// Literal that enters the dynamic table.
pub fn indexing(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal_as(0x40, name, value)
}

/// Literal that must never be indexed.
pub fn never(name: &[u8], value: &[u8]) -> Vec<u8> {
    literal_as(0x10, name, value)
}

pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

pub fn table_size(octets: usize) -> Vec<u8> {
    integer(0x20, 5, octets)
}

pub const SERVICE: &str = "/spark.connect.SparkConnectService/";
/// All methods of that service, as of Spark 4.3.
pub const METHODS: [&str; 12] = [
    "ExecutePlan",
    "AnalyzePlan",
    "Config",
    "AddArtifacts",
    "ArtifactStatus",
    "Interrupt",
    "ReattachExecute",
    "ReleaseExecute",
    "ReleaseSession",
    "FetchErrorDetails",
    "CloneSession",
    "GetStatus",
];

/// A request's header list in order, to be bent by the test.
#[derive(Clone)]
pub struct Request(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Request {
    /// A valid call of Config for team `ads`, marked with the name of its case.
    pub fn new(case: &str) -> Self {
        Self(Vec::new())
            .with(":method", "POST")
            .with(":scheme", "http")
            .with(":path", format!("{SERVICE}Config"))
            .with(":authority", "spark.example.com")
            .with("content-type", "application/grpc")
            .with("te", "trailers")
            .with("user-agent", "attack/1")
            .with("x-sconce-team", "ads")
            .with("x-sconce-env", "prod")
            .with("x-case", case)
    }

    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn script(self, script: &str) -> Self {
        self.with("x-script", script)
    }

    #[must_use]
    pub fn first(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.insert(0, (name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(have, _)| have != name.as_bytes());
        self
    }

    /// Replaces the value where the name stands.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for (have, old) in &mut self.0 {
            if have == name.as_bytes() {
                *old = value.as_ref().to_vec();
            }
        }
        self
    }

    #[must_use]
    pub fn team(self, team: &str) -> Self {
        self.set("x-sconce-team", team)
    }

    /// Octets as HPACK counts them: name, value, and 32 for each field.
    pub fn list_size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    pub fn block(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(name, value)| literal(name, value)).collect()
    }
}

/// A decoded list, looked up by name; octets that are no UTF-8 are shown replaced.
pub type List = Vec<(String, String)>;

pub fn find<'a>(list: &'a List, name: &str) -> Option<&'a str> {
    list.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

pub fn text(list: Vec<(Vec<u8>, Vec<u8>)>) -> List {
    let lossy = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    list.into_iter().map(|(name, value)| (lossy(name), lossy(value))).collect()
}

/// `%41` back to `A`, as `grpc-message` is written.
pub fn percent_decoded(value: &str) -> String {
    let octets = value.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < octets.len() {
        let hex = octets.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (octets[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(octet)) => {
                out.push(octet);
                at += 3;
            }
            (octet, _) => {
                out.push(octet);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
