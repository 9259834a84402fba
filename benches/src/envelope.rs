//! Requests of Spark Connect, laid out as PySpark does, and the stamp of who calls.
//!
//! Written down here once more and not taken from sconce: the rig must find what sconce gets wrong.

use std::str::FromStr;

const SESSION: &[u8] = b"5f3c1d7e-2a64-4b0e-9f58-0c6d1e7a9b42";
const OPERATION: &[u8] = b"c1a90b36-6d0f-4e55-8a1b-7f2f4d3c5e68";
const SERVER_SESSION: &[u8] = b"0e8b7c52-91d3-4f6a-b2c4-3d5e6f708192";
const CLIENT: &[u8] = b"_SPARK_CONNECT_PYTHON spark/4.1.4 os/linux python/3.11.2";
/// Whom the client says it is: nobody's proof.
const CLAIMED_USER: &[u8] = b"jovyan";
/// `reattach_options { reattachable: true }`, as every PySpark asks for.
const REATTACHABLE: &[u8] = b"\x0a\x02\x08\x01";
/// `crc` of a chunk, as a varint. Stub drivers compare octets, so it need not be right.
const CHECKSUM: &[u8] = b"\x10\xd2\x85\xd8\xcc\x04";

/// A method whose requests the rig makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Asks for a configuration key.
    Config,
    /// Runs a plan of one SQL text, which can be reattached.
    ExecutePlan,
    /// Uploads artifacts, each in a batch of its own.
    AddArtifacts,
}

impl Method {
    const ALL: [Self; 3] = [Self::Config, Self::ExecutePlan, Self::AddArtifacts];

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Config => "/spark.connect.SparkConnectService/Config",
            Self::ExecutePlan => "/spark.connect.SparkConnectService/ExecutePlan",
            Self::AddArtifacts => "/spark.connect.SparkConnectService/AddArtifacts",
        }
    }

    /// The method with this path.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }

    /// A request with `filler` where a client says what it wants: the key, the SQL, the artifact.
    #[must_use]
    pub fn request(self, filler: &[u8]) -> Vec<u8> {
        let front = [field(1, SESSION), field(2, &field(1, CLAIMED_USER))].concat();
        let rest = match self {
            Self::Config => {
                let get = field(2, &field(1, &text(filler)));
                [field(3, &get), field(4, CLIENT), field(8, SERVER_SESSION)].concat()
            }
            Self::ExecutePlan => {
                let plan = field(1, &field(10, &field(1, &text(filler))));
                let ask = [field(3, &plan), field(4, CLIENT), field(5, REATTACHABLE)].concat();
                [ask, field(6, OPERATION), field(8, SERVER_SESSION)].concat()
            }
            Self::AddArtifacts => {
                let chunk = [&field(1, filler), CHECKSUM].concat();
                let artifact = [field(1, b"files/artifact"), field(2, &chunk)].concat();
                let batch = field(3, &field(1, &artifact));
                [batch, field(6, CLIENT), field(7, SERVER_SESSION)].concat()
            }
        };
        [front, rest].concat()
    }
}

/// What a proxy that knows who calls must have written behind every message of a request: one more
/// `user_context`, which counts because it is the last.
#[derive(Clone, Debug)]
pub struct Stamp(Vec<u8>);

impl Stamp {
    /// The stamp of a user.
    #[must_use]
    pub fn of(user: &str, name: &str) -> Self {
        let names = [field(1, user.as_bytes()), field(2, name.as_bytes())].concat();
        Self(field(2, &names))
    }

    /// Its octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Stamp {
    type Err = &'static str;

    /// Of `user,display name`.
    fn from_str(both: &str) -> Result<Self, Self::Err> {
        let (user, name) = both.split_once(',').ok_or("write user,display name")?;
        Ok(Self::of(user, name))
    }
}

/// A field that has a length, as protobuf writes it. None of ours has a number above 15.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut octets = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        octets.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    octets.push(u8::try_from(length).unwrap_or_default());
    octets.extend_from_slice(content);
    octets
}

/// The same filler where only text may stand.
fn text(filler: &[u8]) -> Vec<u8> {
    filler.iter().map(|octet| b' ' + octet % 95).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_tells_its_length_in_as_many_octets_as_it_needs() {
        assert_eq!(field(1, b"ab"), b"\x0a\x02ab");
        assert_eq!(&field(2, &[7; 300])[..4], b"\x12\xac\x02\x07");
        assert_eq!(field(3, b""), b"\x1a\x00");
    }

    #[test]
    fn a_request_holds_its_filler_and_names_a_user_once() {
        let request = Method::AddArtifacts.request(&[0xee; 700]);
        let named = field(2, &field(1, CLAIMED_USER));
        assert_eq!(request.windows(700).filter(|it| *it == [0xee; 700]).count(), 1);
        assert_eq!(request.windows(named.len()).filter(|it| *it == named).count(), 1);
    }

    #[test]
    fn a_stamp_is_a_user_context_with_both_names() {
        let stamp = "bob,Bob".parse::<Stamp>().unwrap();
        assert_eq!(stamp.octets(), b"\x12\x0a\x0a\x03bob\x12\x03Bob");
        assert!("bob".parse::<Stamp>().is_err());
    }

    #[test]
    fn a_method_is_known_by_its_path_alone() {
        for method in Method::ALL {
            assert_eq!(Method::of(method.path()), Some(method));
        }
        assert_eq!(Method::of("/spark.connect.SparkConnectService/Interrupt"), None);
    }
}
