//! Names that belong to one issuer: those that begin with its prefix.
//!
//! A prefix keeps the users of two issuers apart only if no other source can name a user that
//! begins with it. Letters count alike in upper and lower case: sconce and Spark tell `Partner:ann`
//! from `partner:ann`, but directories and authorizers behind a driver often do not.

/// The prefixes that are taken. With nothing in it, every name is free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    users: Vec<Prefix>,
    groups: Vec<Prefix>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    written: String,
    folded: String,
}

impl Reserved {
    /// Those of users and those of groups, each as it is written. Empty ones reserve nothing.
    pub fn new<'p>(
        users: impl IntoIterator<Item = &'p str>,
        groups: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        Self { users: prefixes(users), groups: prefixes(groups) }
    }

    /// The prefix of somebody else that this user begins with. `own` is what the source of the name
    /// puts in front of its users.
    pub fn user(&self, own: &str, user: &str) -> Option<&str> {
        taken(&self.users, own, user)
    }

    /// The same for a group.
    pub fn group(&self, own: &str, group: &str) -> Option<&str> {
        taken(&self.groups, own, group)
    }
    /// The prefixes of `before` that other names may begin with now.
    pub fn freed<'b>(&self, before: &'b Self) -> Vec<&'b str> {
        let users = before.users.iter().filter(|it| self.user("", &it.written).is_none());
        let groups = before.groups.iter().filter(|it| self.group("", &it.written).is_none());
        let mut freed: Vec<_> = users.chain(groups).map(|it| it.written.as_str()).collect();
        freed.sort_unstable();
        freed.dedup();
        freed
    }
}

/// Whether a name begins with a prefix, in whatever case.
pub fn begins_with(name: &str, prefix: &str) -> bool {
    folded(name).starts_with(&folded(prefix))
}

fn prefixes<'p>(written: impl IntoIterator<Item = &'p str>) -> Vec<Prefix> {
    let written = written.into_iter().filter(|prefix| !prefix.is_empty());
    let prefix = |written: &str| Prefix { written: written.to_owned(), folded: folded(written) };
    written.map(prefix).collect()
}

fn taken<'p>(prefixes: &'p [Prefix], own: &str, name: &str) -> Option<&'p str> {
    if prefixes.is_empty() {
        return None;
    }
    let (own, name) = (folded(own), folded(name));
    let mut others = prefixes.iter().filter(|prefix| !own.starts_with(&prefix.folded));
    let found = others.find(|prefix| name.starts_with(&prefix.folded));
    found.map(|prefix| prefix.written.as_str())
}

/// A text without the case of its letters. Each letter is folded by itself, so that a text begins
/// with what its beginning is folded to.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::{
        denial::Denial,
        judge::{Judge, Undecided},
        tests::{NOW, Signer, claims, ring, settings},
    };
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_name_that_begins_with_the_prefix_of_another_source_is_taken() {
        let reserved = Reserved::new(["p:", "q:", ""], ["g/"]);
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
            assert_eq!(reserved.user(own, name), prefix, "{own:?} {name:?}");
        }
        assert_eq!(reserved.group("", "G/eng"), Some("g/"));
        assert_eq!(reserved.group("", "p:eng"), None);
        assert_eq!(reserved.group("g/", "g/eng"), None);
        assert_eq!(Reserved::default().user("", "p:ann"), None);
        assert_eq!(Reserved::new([""], [""]), Reserved::default());
    }

    #[test]
    fn a_prefix_that_is_reserved_no_more_is_told() {
        let before = Reserved::new(["p:", "q:", "r:x:"], ["p:", "g/"]);
        let after = Reserved::new(["Q:", "r:"], ["g/"]);
        assert_eq!(after.freed(&before), ["p:"]);
        assert_eq!(before.freed(&before), [""; 0]);
        assert_eq!(Reserved::default().freed(&after), ["Q:", "g/", "r:"]);
    }

    #[test]
    fn the_case_of_letters_of_any_script_is_of_no_matter() {
        for (name, prefix) in
            [("ÄRZTE:ann", "ärzte:"), ("\u{212a}:ann", "k:"), ("STRASSE:x", "straße:")]
        {
            assert!(begins_with(name, prefix), "{name} {prefix}");
            assert!(Reserved::new([prefix], []).user("", name).is_some(), "{name} {prefix}");
        }
        assert!(begins_with("ann", "") && !begins_with("", "ann") && !begins_with("an", "ann"));
    }

    #[test]
    fn a_token_names_no_user_and_no_group_of_another_issuer() {
        let ring = ring(&[Signer::P256.jwk("a")]);
        let by = |user_prefix: &str, groups_prefix: &str| {
            let mut settings = settings(&ring);
            settings.reserved = Reserved::new(["p:", "q:"], ["p/", "q/"]);
            settings.issuers[0].claims.user_prefix = user_prefix.to_owned();
            settings.issuers[0].claims.groups_prefix = groups_prefix.to_owned();
            let mut claims = claims();
            claims["groups"] = json!(["p/x", "q/x", "Q/x", "x"]);
            let judge = Judge::new(settings);
            move |user: &str| {
                claims["sub"] = user.into();
                match judge.token(&Signer::P256.sign("a", &claims), Duration::from_secs(NOW)) {
                    Ok(verified) => Ok(verified.identity.clone()),
                    Err(Undecided::Denied(denial, _)) => Err(denial),
                    Err(Undecided::Unknown(_)) => panic!("the key is known"),
                }
            }
        };
        let mut bare = by("", "");
        for user in ["p:ann", "P:ann", "q:"] {
            assert_eq!(bare(user), Err(Denial::Foreign), "{user}");
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
