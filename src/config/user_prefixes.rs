//! User and group names from tokens, and the prefixes that keep issuers apart.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    parse,
    section::Section,
};
use sconce_filters::{
    Identity,
    authenticate::{ClaimSettings, IssuerSettings, ReservedPrefixes, StaticToken, has_prefix},
    identity::TEXT_MAX,
};

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// Each caller has exactly one.
    Users,
    /// Each caller can have several.
    Groups,
}

/// The lines of an issuer's prefixes; the line of the issuer if a prefix is absent.
#[derive(Clone, Copy)]
pub(super) struct PrefixLines {
    users: u64,
    groups: u64,
}

/// An issuer with the lines of its prefixes.
pub(super) type LocatedIssuer = (PrefixLines, IssuerSettings);

/// Reads `claims`.
pub(super) fn claims(mut section: Section<'_>, line: u64) -> (ClaimSettings, PrefixLines) {
    let default = ClaimSettings::default();
    let (user, display_name) = (text(&mut section, "user"), text(&mut section, "display_name"));
    let (groups, teams) = (text(&mut section, "groups"), text(&mut section, "teams"));
    let mut prefix = |key| section.scalar_at(key, |text| Ok(text.to_owned()));
    let (users_prefix, groups_prefix) = (prefix("user_prefix"), prefix("groups_prefix"));
    let required = section.scalar("require_verified_email", parse::boolean);
    section.finish();
    let at = |prefix: &Option<(String, u64)>| prefix.as_ref().map_or(line, |(_, line)| *line);
    let lines = PrefixLines { users: at(&users_prefix), groups: at(&groups_prefix) };
    let settings = ClaimSettings {
        user: user.unwrap_or(default.user),
        user_prefix: users_prefix.map_or(default.user_prefix, |(prefix, _)| prefix),
        require_verified_email: required.unwrap_or(default.require_verified_email),
        display_name: display_name.map_or(default.display_name, |name| vec![name]),
        groups: groups.unwrap_or(default.groups),
        groups_prefix: groups_prefix.map_or(default.groups_prefix, |(prefix, _)| prefix),
        teams: teams.or(default.teams),
    };
    (settings, lines)
}

fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.scalar(key, |text| Ok(text.to_owned()))
}

impl SubjectKind {
    const ALL: [Self; 2] = [Self::Users, Self::Groups];

    /// The key in team files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Groups => "groups",
        }
    }

    /// The key of an issuer's prefix.
    pub(super) fn prefix_key(self) -> &'static str {
        match self {
            Self::Users => "user_prefix",
            Self::Groups => "groups_prefix",
        }
    }

    /// The prefix of an issuer.
    pub(super) fn prefix(self, issuer: &IssuerSettings) -> &str {
        match self {
            Self::Users => &issuer.claims.user_prefix,
            Self::Groups => &issuer.claims.groups_prefix,
        }
    }

    /// The names of an identity.
    pub(super) fn names(self, identity: &Identity) -> Vec<&str> {
        match self {
            Self::Users => vec![identity.user()],
            Self::Groups => identity.groups().iter().map(String::as_str).collect(),
        }
    }

    /// The reserved prefix of a name, if the name has one.
    pub(super) fn reserved_by<'r>(
        self,
        reserved: &'r ReservedPrefixes,
        name: &str,
    ) -> Option<&'r str> {
        match self {
            Self::Users => reserved.conflict_for_user("", name),
            Self::Groups => reserved.conflict_for_group("", name),
        }
    }

    fn line(self, lines: PrefixLines) -> u64 {
        match self {
            Self::Users => lines.users,
            Self::Groups => lines.groups,
        }
    }
}

/// Help for two sources with the same people.
const HELP_SHARED_USERS: &str = "authenticate: { shared_users: true } if both have the same people";

/// Reports issuers with overlapping prefixes. One issuer may have no prefix: its user names are
/// checked at each call.
pub(super) fn check_prefixes(diagnostics: &Diagnostics, issuers: &[LocatedIssuer]) {
    for (place, (lines, issuer)) in issuers.iter().enumerate() {
        let mut earlier = issuers.iter().take(place).map(|(_, other)| other);
        let conflict = earlier.find_map(|other| {
            let conflict = |kind: SubjectKind| Some((kind, prefix_conflict(kind, issuer, other)?));
            SubjectKind::ALL.into_iter().find_map(conflict)
        });
        if let Some((kind, problem)) = conflict {
            let key = format!("authenticate.issuers.claims.{}", kind.prefix_key());
            diagnostics.report(kind.line(*lines), &key, problem);
        }
    }
}

fn prefix_conflict(
    kind: SubjectKind,
    issuer: &IssuerSettings,
    other: &IssuerSettings,
) -> Option<Problem> {
    let (own, other_prefix) = (kind.prefix(issuer), kind.prefix(other));
    let (key, names, they) = (kind.prefix_key(), kind.as_str(), &other.issuer);
    let (own_starts, other_starts) = (has_prefix(own, other_prefix), has_prefix(other_prefix, own));
    if own_starts && other_starts {
        let case = if own == other_prefix { "" } else { ", ignoring case" };
        let what = format!(
            "gives {names} the same names as {they}{case}: sconce could not tell them apart"
        );
        let help =
            format!("set claims: {{ {key}: 'partner:' }} for one of them, or {HELP_SHARED_USERS}");
        return Some(Problem::new(what, help));
    }
    if own.is_empty() || other_prefix.is_empty() || !(own_starts || other_starts) {
        return None;
    }
    let (long, short) = if own_starts { (own, other_prefix) } else { (other_prefix, own) };
    let what = format!(
        "{} and the {key} of {they} overlap: {names} of the issuer with {} could have the names of \
         the other",
        quote(own),
        quote(short),
    );
    let help = format!(
        "write prefixes that do not start with one another, for example 'a:' and 'b:' instead of \
         {} and {}, or {HELP_SHARED_USERS}",
        quote(short),
        quote(long),
    );
    Some(Problem::new(what, help))
}

/// The prefixes of these issuers, and `more` reserved ones.
pub(super) fn reserved(issuers: &[LocatedIssuer], more: &[String]) -> ReservedPrefixes {
    let of = |kind: SubjectKind| {
        let prefixes = issuers.iter().map(move |(_, issuer)| kind.prefix(issuer));
        prefixes.chain(more.iter().map(String::as_str))
    };
    ReservedPrefixes::new(of(SubjectKind::Users), of(SubjectKind::Groups))
}

/// Reads `reserved_prefixes`.
pub(super) fn reserved_prefixes(
    diagnostics: &Diagnostics,
    section: &mut Section<'_>,
) -> Vec<String> {
    let path = section.path_of("reserved_prefixes");
    let mut prefixes = Vec::new();
    for value in section.scalars("reserved_prefixes").unwrap_or_default() {
        if value.text.is_empty() || value.text.len() > TEXT_MAX {
            let what = format!("{} is not a prefix", quote(&value.text));
            let help = format!("write 1 to {TEXT_MAX} bytes, for example 'partner:'");
            diagnostics.report(value.line, &path, Problem::new(what, help));
        } else {
            prefixes.push(value.text);
        }
    }
    prefixes
}

/// Reports a static token whose user or group has the prefix of an issuer.
pub(super) fn check_token(
    diagnostics: &Diagnostics,
    line: u64,
    token: &StaticToken,
    reserved: &ReservedPrefixes,
) {
    for kind in SubjectKind::ALL {
        for name in kind.names(&token.identity) {
            let Some(prefix) = kind.reserved_by(reserved, name) else { continue };
            let (name, prefix) = (quote(name), quote(prefix));
            let what = format!(
                "{name} starts with {prefix}, which is reserved for the names of an issuer"
            );
            let help = "write another name, or authenticate: { shared_users: true } if all sources \
                        have the same people";
            let path = match kind {
                SubjectKind::Users => "authenticate.tokens.user",
                SubjectKind::Groups => "authenticate.tokens.groups",
            };
            diagnostics.report(line, path, Problem::new(what, help));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use std::fs;

    /// The errors of two issuers with these claims, and more lines of the section.
    fn messages(claims: [&str; 2], more: &str) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let ads = "team: ads\nenvironments: { prod: { driver: 'ads:1' } }\n";
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        let issuer = |at: usize| {
            let claims = claims[at];
            format!("    - {{ issuer: 'https://{at}', audiences: [a], claims: {{ {claims} }} }}\n")
        };
        let main = home.path().join("sconce.yaml");
        let issuers = [issuer(0), issuer(1)].concat();
        let text =
            format!("teams: {{ directory: teams }}\nauthenticate:\n{more}  issuers:\n{issuers}");
        fs::write(&main, text).unwrap();
        let errors = config::load(&main).err().unwrap_or_default();
        errors.iter().map(|it| format!("{}: {}: {}", it.line, it.key, it.what)).collect()
    }

    const KEY: &str = "authenticate.issuers.claims";

    /// The errors of two issuers with these prefixes for users and groups.
    fn errors_in([one, other]: [[&str; 2]; 2]) -> Vec<String> {
        let claims = |[users, groups]: [&str; 2]| {
            format!("user_prefix: '{users}', groups_prefix: '{groups}'")
        };
        let messages = messages([&claims(one), &claims(other)], "");
        messages.into_iter().map(|it| it.replace(KEY, "")).collect()
    }

    #[test]
    fn overlapping_prefixes_are_errors_in_any_order() {
        for [one, other] in [["p:", "p:q:"], ["p:q:", "p:"], ["p", "p:"], ["p:", "P:q:"]] {
            let found = errors_in([[one, "a"], [other, "b"]]);
            let begins = format!("5: .user_prefix: '{other}' and the user_prefix of https://0 ");
            assert!(found.len() == 1 && found[0].starts_with(&begins), "{found:?}");
            let found = errors_in([["a", one], ["b", other]]);
            let begins =
                format!("5: .groups_prefix: '{other}' and the groups_prefix of https://0 ");
            assert!(found.len() == 1 && found[0].starts_with(&begins), "{found:?}");
        }
        let found = errors_in([["P:", "a"], ["p:", "b"]]);
        assert!(found.len() == 1 && found[0].contains("ignoring case"), "{found:?}");
        for [one, other] in [["p:", "q:"], ["p:", ""], ["", "p:"], ["pq:", "p:q"]] {
            assert_eq!(errors_in([[one, "a"], [other, "b"]]), [""; 0]);
        }
        let shared = ["user_prefix: 'p'", "user_prefix: 'p:'"];
        assert_eq!(messages(shared, "  shared_users: true\n"), [""; 0]);
    }

    #[test]
    fn the_error_for_a_prefix_has_its_line() {
        let claims = "\n      user_prefix: 'p:q:',\n      groups_prefix: 'b'\n    ";
        let found = messages(["user_prefix: 'p:', groups_prefix: 'a'", claims], "");
        assert!(found.len() == 1 && found[0].starts_with("6: "), "{found:?}");
    }

    #[test]
    fn a_static_token_with_a_reserved_name_is_an_error() {
        let claims = ["", "user_prefix: 'p:', groups_prefix: 'g:'"];
        let token = |user: &str, groups: &str| {
            let sha256 = "c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483";
            let names = format!("user: '{user}', groups: [{groups}]");
            format!("  tokens: [{{ name: a, sha256: {sha256}, {names} }}]\n")
        };
        let taken = "which is reserved for the names of an issuer";
        assert_eq!(
            messages(claims, &token("p:ann", "x, 'G:eng', 'p:x'")),
            [
                format!("3: authenticate.tokens.groups: 'G:eng' starts with 'g:', {taken}"),
                format!("3: authenticate.tokens.user: 'p:ann' starts with 'p:', {taken}"),
            ]
        );
        assert_eq!(messages(claims, &token("ann", "'p:x'")), [""; 0]);
        let shared = token("p:ann", "'g:eng'") + "  shared_users: true\n";
        assert_eq!(messages(claims, &shared), [""; 0]);
        let reserved = token("Old:ann", "'old:eng'") + "  reserved_prefixes: ['old:']\n";
        assert_eq!(messages(claims, &reserved).len(), 2);
    }

    #[test]
    fn an_empty_reserved_prefix_is_an_error() {
        let found =
            messages(["", "user_prefix: 'p:', groups_prefix: 'g:'"], "  reserved_prefixes: ['']\n");
        assert_eq!(found, ["3: authenticate.reserved_prefixes: '' is not a prefix"]);
    }

    #[test]
    fn issuers_with_equal_prefixes_are_errors() {
        let users = "5: authenticate.issuers.claims.user_prefix: gives users the same names as \
                     https://0: sconce could not tell them apart";
        let groups = "5: authenticate.issuers.claims.groups_prefix: gives groups the same names as \
                      https://0: sconce could not tell them apart";
        assert_eq!(messages(["", ""], ""), [users]);
        assert_eq!(
            messages(["user_prefix: 'a'", "user_prefix: 'a', groups_prefix: 'b'"], ""),
            [users]
        );
        assert_eq!(messages(["", "user_prefix: 'b:'"], ""), [groups]);
        assert_eq!(messages(["", "user_prefix: 'b:', groups_prefix: 'b:'"], ""), [""; 0]);
        assert_eq!(messages(["", ""], "  shared_users: true\n"), [""; 0]);
        assert_eq!(messages(["", ""], "  shared_users: false\n").len(), 1);
    }
}
