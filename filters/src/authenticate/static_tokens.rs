//! Static tokens of the configuration.
//!
//! Must not stop at the first difference: the duration of the comparison must not reveal how much
//! of a guess is right.

use super::StaticToken;
use aws_lc_rs::{
    constant_time,
    digest::{SHA256, digest},
};

/// The configured token with this value. Compares all tokens, each in constant time.
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
    fn a_static_token_is_found_by_its_hash() {
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
    fn the_hash_is_standard_sha_256() {
        let token = static_token("abc", "ann");
        assert_eq!(token.sha256[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(token.sha256[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn debug_output_has_neither_hash_nor_token() {
        let shown = format!("{:?}", static_token("abc", "ann"));
        assert!(shown.contains("ann") && !shown.contains("186"), "{shown}");
    }
}
