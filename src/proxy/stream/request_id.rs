//! Request ids: the name of a call in logs.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use sconce_filters::Call;

use crate::wire::frame::StreamId;

/// The header with which clients and load balancers name a call.
const REQUEST_ID: &str = "x-request-id";

/// Longest request id in octets.
const REQUEST_ID_MAX: usize = 64;

/// Seeded for each process, so that no two processes generate the same ids.
static ID_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The client's id of a call; a generated one if that is missing or not printable.
pub(crate) fn request_id_of(call: &Call, id: StreamId) -> String {
    let given = call.metadata().first(REQUEST_ID);
    let given = given.as_deref().filter(|given| is_plain(given));
    let given = given.and_then(|given| std::str::from_utf8(given).ok());
    given.map_or_else(|| generated_id(&(call.peer(), call.opened_at(), id)), str::to_owned)
}

/// Whether an id can be logged as it is: short, and without control characters or spaces.
fn is_plain(name: &[u8]) -> bool {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.:/+=".contains(octet);
    !name.is_empty() && name.len() <= REQUEST_ID_MAX && name.iter().all(plain)
}

/// A generated id for a request.
pub(crate) fn generated_id(of: &impl Hash) -> String {
    format!("{:016x}", ID_HASHER.hash_one(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_ids_are_logged() {
        for id in ["4d2f", "0af7651916cd43dd8448eb211c80319c", "a:b/c+d=.e_f-g"] {
            assert!(is_plain(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a\nb", "\u{1b}[2J", "ö", &"a".repeat(65)] {
            assert!(!is_plain(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn generated_ids_are_stable_and_differ_between_calls() {
        assert_eq!(generated_id(&1), generated_id(&1));
        assert_ne!(generated_id(&1), generated_id(&2));
    }
}
