//! Reserved prefixes: names with such a prefix belong to one issuer.
//!
//! A prefix separates the users of two issuers only if no other source can name a user with it.
//! Comparison ignores case: sconce and Spark distinguish `Partner:ann` from `partner:ann`, but
//! directories and authorizers behind a driver often do not.

/// The reserved prefixes. With none, every name is allowed.
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
    /// Reserves prefixes of users and of groups. Empty prefixes are ignored.
    pub fn new<'p>(
        users: impl IntoIterator<Item = &'p str>,
        groups: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        Self { users: prefixes(users), groups: prefixes(groups) }
    }

    /// The prefix of another source that this user begins with. `own` is the prefix of the source
    /// of the name.
    pub fn conflict_for_user(&self, own: &str, user: &str) -> Option<&str> {
        conflicting_prefix(&self.users, own, user)
    }

    /// The prefix of another source that this group begins with.
    pub fn conflict_for_group(&self, own: &str, group: &str) -> Option<&str> {
        conflicting_prefix(&self.groups, own, group)
    }
    /// The prefixes of `before` that are not reserved any more.
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

/// Whether a name begins with a prefix, ignoring case.
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

/// A text in one case. Each character is folded on its own, so that a prefix of a text folds to a
/// prefix of the folded text.
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
    fn a_name_with_the_prefix_of_another_source_is_reserved() {
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
    fn prefixes_that_are_no_longer_reserved_are_listed() {
        let before = ReservedPrefixes::new(["p:", "q:", "r:x:"], ["p:", "g/"]);
        let after = ReservedPrefixes::new(["Q:", "r:"], ["g/"]);
        assert_eq!(after.no_longer_reserved(&before), ["p:"]);
        assert_eq!(before.no_longer_reserved(&before), [""; 0]);
        assert_eq!(ReservedPrefixes::default().no_longer_reserved(&after), ["Q:", "g/", "r:"]);
    }

    #[test]
    fn case_is_ignored_in_every_script() {
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
    fn reserved_users_are_refused_and_reserved_groups_left_out() {
        let jwks = jwks_cache(&[Signer::P256.jwk("a")]);
        let by = |user_prefix: &str, groups_prefix: &str| {
            let mut settings = settings(&jwks);
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
                    Err(AuthFailure::Rejected(error, _)) => Err(error),
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
