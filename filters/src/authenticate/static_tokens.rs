//! Tokens that the configuration lists.
//!
//! Must never stop at the first difference: how long an answer takes must not tell how much of a
//! guess was right.

use super::StaticToken;
use aws_lc_rs::{
    constant_time,
    digest::{SHA256, digest},
};

/// The token of the list that this is. All are compared, whether one has fitted or not, and each in
/// constant time.
pub(super) fn find<'t>(tokens: &'t [StaticToken], presented: &str) -> Option<&'t StaticToken> {
    if tokens.is_empty() {
        return None;
    }
    let hash = digest(&SHA256, presented.as_bytes());
    tokens.iter().fold(None, |found, token| {
        let is_this = constant_time::verify_slices_are_equal(hash.as_ref(), &token.sha256).is_ok();
        if is_this { Some(token) } else { found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::static_token;

    #[test]
    fn a_token_is_found_by_its_hash_wherever_it_stands() {
        let tokens = [
            static_token("secret-1", "ann"),
            static_token("a.b.c", "bob"),
            static_token("x", "eve"),
        ];
        for (presented, user) in [("secret-1", "ann"), ("a.b.c", "bob"), ("x", "eve")] {
            assert_eq!(find(&tokens, presented).unwrap().identity.user(), user);
        }
        for presented in ["", "secret", "secret-1 ", "Secret-1"] {
            assert!(find(&tokens, presented).is_none(), "{presented}");
        }
        assert!(find(&[], "secret-1").is_none());
    }

    #[test]
    fn the_hash_is_sha_256_as_everybody_else_computes_it() {
        let token = static_token("abc", "ann");
        assert_eq!(token.sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(token.sha256[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn neither_hash_nor_token_is_in_the_debug_form() {
        let shown = format!("{:?}", static_token("abc", "ann"));
        assert!(shown.contains("ann") && !shown.contains("186"), "{shown}");
    }
}
