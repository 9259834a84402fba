//! Who makes a call, and how the call says so.

/// The token of RS256 that a caller shows is about so long.
const TOKEN_OCTETS: usize = 600;

/// What a call says of who makes it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The team that it names; without one its token tells.
    pub team: Option<String>,
    /// The environment that it names.
    pub environment: String,
    /// What it shows as proof.
    pub token: String,
}

impl Caller {
    /// A caller that names its team, and whose token nobody looks at.
    #[must_use]
    pub fn naming(team: &str, environment: &str) -> Self {
        let team = Some(team.to_owned());
        Self { team, environment: environment.to_owned(), token: stand_in() }
    }

    /// A caller whose team is what its token says.
    #[must_use]
    pub fn proving(token: &str, environment: &str) -> Self {
        let (token, environment) = (token.to_owned(), environment.to_owned());
        Self { team: None, environment, token }
    }
}

/// Stands for a signed token: as long as one and, like one, of base64 that Huffman coding
/// cannot make much shorter.
fn stand_in() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = (0..TOKEN_OCTETS).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = usize::try_from(state >> 58).unwrap_or_default();
        ALPHABET.get(at).copied().map_or('A', char::from)
    });
    letters.collect()
}
