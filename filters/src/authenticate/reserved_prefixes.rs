//! Names that belong to one issuer: those that begin with its prefix.
//!
//! A prefix keeps the users of two issuers apart only if no other source can name a user that
//! begins with it. Letters count alike in upper and lower case: sconce and Spark tell `Partner:ann`
//! from `partner:ann`, but directories and authorizers behind a driver often do not.

/// The prefixes that are taken. With nothing in it, every name is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservedPrefixes {
    users: Vec<Prefix>,
    groups: Vec<Prefix>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    written: String,
    case_folded: String,
}

impl ReservedPrefixes {
    /// Those of users and those of groups, each as it is written. Empty ones reserve nothing.
    pub fn new<'p>(
        users: impl IntoIterator<Item = &'p str>,
        groups: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        Self { users: prefixes(users), groups: prefixes(groups) }
    }

    /// The prefix of somebody else that this user begins with. `own` is what the source of the name
    /// puts in front of its users.
    pub fn conflict_for_user(&self, own: &str, user: &str) -> Option<&str> {
        conflicting_prefix(&self.users, own, user)
    }

    /// The same for a group.
    pub fn conflict_for_group(&self, own: &str, group: &str) -> Option<&str> {
        conflicting_prefix(&self.groups, own, group)
    }
    /// The prefixes of `before` that other names may begin with now.
    pub fn no_longer_reserved<'b>(&self, before: &'b Self) -> Vec<&'b str> {
        let users =
            before.users.iter().filter(|it| self.conflict_for_user("", &it.written).is_none());
        let groups =
            before.groups.iter().filter(|it| self.conflict_for_group("", &it.written).is_none());
        let mut freed: Vec<_> = users.chain(groups).map(|it| it.written.as_str()).collect();
        freed.sort_unstable();
        freed.dedup();
        freed
    }
}

/// Whether a name begins with a prefix, in whatever case.
pub fn has_prefix(name: &str, prefix: &str) -> bool {
    fold_case(name).starts_with(&fold_case(prefix))
}

fn prefixes<'p>(written: impl IntoIterator<Item = &'p str>) -> Vec<Prefix> {
    let written = written.into_iter().filter(|prefix| !prefix.is_empty());
    let prefix =
        |written: &str| Prefix { written: written.to_owned(), case_folded: fold_case(written) };
    written.map(prefix).collect()
}

fn conflicting_prefix<'p>(prefixes: &'p [Prefix], own: &str, name: &str) -> Option<&'p str> {
    if prefixes.is_empty() {
        return None;
    }
    let (own, name) = (fold_case(own), fold_case(name));
    let mut others = prefixes.iter().filter(|prefix| !own.starts_with(&prefix.case_folded));
    let found = others.find(|prefix| name.starts_with(&prefix.case_folded));
    found.map(|prefix| prefix.written.as_str())
}

/// A text without the case of its letters. Each letter is folded by itself, so that a text begins
/// with what its beginning is folded to.
fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::{
        authenticator::{AuthFailure, Authenticator},
        error::AuthError,
        tests::{NOW, Signer, claims, jwks_cache, settings},
    };
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_name_that_begins_with_the_prefix_of_another_source_is_taken() {
        let reserved = ReservedPrefixes::new(["p:", "q:", ""], ["g/"]);
        for (own, name, prefix) in [
            ("", "p:ann", Some("p:")),
            ("", "p:", Some("p:")),
            ("", "P:ann", Some("p:")),
            ("q:", "p:q:ann", Some("p:")),
            ("p:", "p:ann", None),
            ("p:", "p:q:ann", None),
            ("p:x:", "p:x:ann", None),
            ("P:", "P:ann", None),
            ("", "p", None),
            ("", "g/ann", None),
            ("", "ann", None),
            ("", " p:ann", None),
        ] {
            assert_eq!(reserved.conflict_for_user(own, name), prefix, "{own:?} {name:?}");
        }
        assert_eq!(reserved.conflict_for_group("", "G/eng"), Some("g/"));
        assert_eq!(reserved.conflict_for_group("", "p:eng"), None);
        assert_eq!(reserved.conflict_for_group("g/", "g/eng"), None);
        assert_eq!(ReservedPrefixes::default().conflict_for_user("", "p:ann"), None);
        assert_eq!(ReservedPrefixes::new([""], [""]), ReservedPrefixes::default());
    }

    #[test]
    fn a_prefix_that_is_reserved_no_more_is_told() {
        let before = ReservedPrefixes::new(["p:", "q:", "r:x:"], ["p:", "g/"]);
        let after = ReservedPrefixes::new(["Q:", "r:"], ["g/"]);
        assert_eq!(after.no_longer_reserved(&before), ["p:"]);
        assert_eq!(before.no_longer_reserved(&before), [""; 0]);
        assert_eq!(ReservedPrefixes::default().no_longer_reserved(&after), ["Q:", "g/", "r:"]);
    }

    #[test]
    fn the_case_of_letters_of_any_script_is_of_no_matter() {
        for (name, prefix) in
            [("ÄRZTE:ann", "ärzte:"), ("\u{212a}:ann", "k:"), ("STRASSE:x", "straße:")]
        {
            assert!(has_prefix(name, prefix), "{name} {prefix}");
            assert!(
                ReservedPrefixes::new([prefix], []).conflict_for_user("", name).is_some(),
                "{name} {prefix}"
            );
        }
        assert!(has_prefix("ann", "") && !has_prefix("", "ann") && !has_prefix("an", "ann"));
    }

    #[test]
    fn a_token_names_no_user_and_no_group_of_another_issuer() {
        let ring = jwks_cache(&[Signer::P256.jwk("a")]);
        let by = |user_prefix: &str, groups_prefix: &str| {
            let mut settings = settings(&ring);
            settings.reserved = ReservedPrefixes::new(["p:", "q:"], ["p/", "q/"]);
            settings.issuers[0].claims.user_prefix = user_prefix.to_owned();
            settings.issuers[0].claims.groups_prefix = groups_prefix.to_owned();
            let mut claims = claims();
            claims["groups"] = json!(["p/x", "q/x", "Q/x", "x"]);
            let judge = Authenticator::new(settings);
            move |user: &str| {
                claims["sub"] = user.into();
                match judge.authenticate_token_at(
                    &Signer::P256.sign("a", &claims),
                    Duration::from_secs(NOW),
                ) {
                    Ok(verified) => Ok(verified.identity.clone()),
                    Err(AuthFailure::Rejected(denial, _)) => Err(denial),
                    Err(AuthFailure::UnknownKey(_)) => panic!("the key is known"),
                }
            }
        };
        let mut bare = by("", "");
        for user in ["p:ann", "P:ann", "q:"] {
            assert_eq!(bare(user), Err(AuthError::ReservedUser), "{user}");
        }
        assert_eq!(bare("ann").unwrap().groups(), ["x"]);
        let mut prefixed = by("p:", "p/");
        let ann = prefixed("q:ann").unwrap();
        assert_eq!(
            (ann.user(), ann.groups()),
            ("p:q:ann", &["p/p/x", "p/q/x", "p/Q/x", "p/x"].map(String::from)[..])
        );
    }
}
