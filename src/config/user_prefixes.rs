//! Users: what tokens say of them, and that one source's are no other's by accident.

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

/// A kind of names that sources give to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// Of which each caller has one.
    Users,
    /// Of which each caller has any number.
    Groups,
}

/// The lines of an issuer's prefixes; where one is not there, the line of the issuer.
#[derive(Clone, Copy)]
pub(super) struct PrefixLines {
    users: u64,
    groups: u64,
}

/// An issuer, and where its prefixes stand.
pub(super) type LocatedIssuer = (PrefixLines, IssuerSettings);

/// Which claims say who somebody is.
pub(super) fn claims(mut section: Section<'_>, line: u64) -> (ClaimSettings, PrefixLines) {
    let usual = ClaimSettings::default();
    let (user, display_name) = (text(&mut section, "user"), text(&mut section, "display_name"));
    let (groups, teams) = (text(&mut section, "groups"), text(&mut section, "teams"));
    let mut prefix = |key| section.scalar_at(key, |text| Ok(text.to_owned()));
    let (users_prefix, groups_prefix) = (prefix("user_prefix"), prefix("groups_prefix"));
    let required = section.scalar("require_verified_email", parse::boolean);
    section.finish();
    let at = |prefix: &Option<(String, u64)>| prefix.as_ref().map_or(line, |(_, line)| *line);
    let lines = PrefixLines { users: at(&users_prefix), groups: at(&groups_prefix) };
    let settings = ClaimSettings {
        user: user.unwrap_or(usual.user),
        user_prefix: users_prefix.map_or(usual.user_prefix, |(prefix, _)| prefix),
        require_verified_email: required.unwrap_or(usual.require_verified_email),
        display_name: display_name.map_or(usual.display_name, |name| vec![name]),
        groups: groups.unwrap_or(usual.groups),
        groups_prefix: groups_prefix.map_or(usual.groups_prefix, |(prefix, _)| prefix),
        teams: teams.or(usual.teams),
    };
    (settings, lines)
}

fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.scalar(key, |text| Ok(text.to_owned()))
}

impl SubjectKind {
    const ALL: [Self; 2] = [Self::Users, Self::Groups];

    /// The word for them in messages.
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

    /// An issuer's prefix.
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

    /// The prefix that a name of no issuer begins with and must not.
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

/// What to do where two sources speak of the same people.
const HELP_SHARED_USERS: &str =
    "authenticate: { shared_users: true } where both speak of the same people";

/// Complains about issuers whose users or groups nobody could tell apart. One of them may have no
/// prefix: its users are told apart at each call.
pub(super) fn check_prefixes(desk: &Diagnostics, issuers: &[LocatedIssuer]) {
    for (place, (lines, issuer)) in issuers.iter().enumerate() {
        let mut earlier = issuers.iter().take(place).map(|(_, other)| other);
        let clash = earlier.find_map(|other| {
            let clash = |kind: SubjectKind| Some((kind, prefix_conflict(kind, issuer, other)?));
            SubjectKind::ALL.into_iter().find_map(clash)
        });
        if let Some((kind, fault)) = clash {
            let key = format!("authenticate.issuers.claims.{}", kind.prefix_key());
            desk.report(kind.line(*lines), &key, fault);
        }
    }
}

fn prefix_conflict(
    kind: SubjectKind,
    issuer: &IssuerSettings,
    other: &IssuerSettings,
) -> Option<Problem> {
    let (ours, theirs) = (kind.prefix(issuer), kind.prefix(other));
    let (key, names, they) = (kind.prefix_key(), kind.as_str(), &other.issuer);
    let (ours_begins, theirs_begins) = (has_prefix(ours, theirs), has_prefix(theirs, ours));
    if ours_begins && theirs_begins {
        let case = if ours == theirs { "" } else { ", but for the case of letters" };
        let what = format!("names {names} as {they} does{case}: those of one would be the other's");
        let remedy = format!(
            "write claims: {{ {key}: 'partner:' }} for one of the two, or {HELP_SHARED_USERS}"
        );
        return Some(Problem::new(what, remedy));
    }
    if ours.is_empty() || theirs.is_empty() || !(ours_begins || theirs_begins) {
        return None;
    }
    let (long, short) = if ours_begins { (ours, theirs) } else { (theirs, ours) };
    let what = format!(
        "{} and the {key} of {they} begin alike: {names} of the one with {} could have the names \
         of the other's",
        quote(ours),
        quote(short),
    );
    let remedy = format!(
        "write prefixes of which none begins with another, as 'a:' and 'b:' instead of {} and {}, \
         or {HELP_SHARED_USERS}",
        quote(short),
        quote(long),
    );
    Some(Problem::new(what, remedy))
}

/// The prefixes of these issuers, and those that are reserved besides.
pub(super) fn reserved(issuers: &[LocatedIssuer], more: &[String]) -> ReservedPrefixes {
    let of = |kind: SubjectKind| {
        let prefixes = issuers.iter().map(move |(_, issuer)| kind.prefix(issuer));
        prefixes.chain(more.iter().map(String::as_str))
    };
    ReservedPrefixes::new(of(SubjectKind::Users), of(SubjectKind::Groups))
}

/// The prefixes of names that nobody has, or not any more.
pub(super) fn reserved_prefixes(desk: &Diagnostics, section: &mut Section<'_>) -> Vec<String> {
    let path = section.path_of("reserved_prefixes");
    let mut prefixes = Vec::new();
    for word in section.scalars("reserved_prefixes").unwrap_or_default() {
        if word.text.is_empty() || word.text.len() > TEXT_MAX {
            let what = format!("{} is no prefix", quote(&word.text));
            let remedy = format!("write 1 to {TEXT_MAX} octets, as 'partner:'");
            desk.report(word.line, &path, Problem::new(what, remedy));
        } else {
            prefixes.push(word.text);
        }
    }
    prefixes
}

/// Complains about a listed token whose user or group is an issuer's.
pub(super) fn check_token(
    desk: &Diagnostics,
    line: u64,
    token: &StaticToken,
    reserved: &ReservedPrefixes,
) {
    for kind in SubjectKind::ALL {
        for name in kind.names(&token.identity) {
            let Some(prefix) = kind.reserved_by(reserved, name) else { continue };
            let (name, prefix) = (quote(name), quote(prefix));
            let what =
                format!("{name} begins with {prefix}, which only names of its issuer begin with");
            let remedy = "write another name, or authenticate: { shared_users: true } where all \
                          speak of the same people";
            let path = match kind {
                SubjectKind::Users => "authenticate.tokens.user",
                SubjectKind::Groups => "authenticate.tokens.groups",
            };
            desk.report(line, path, Problem::new(what, remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use std::fs;

    /// What is said of two issuers with these claims, and more lines of the section.
    fn said(claims: [&str; 2], more: &str) -> Vec<String> {
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
        let complaints = config::load(&main).err().unwrap_or_default();
        complaints.iter().map(|it| format!("{}: {}: {}", it.line, it.key, it.what)).collect()
    }

    const KEY: &str = "authenticate.issuers.claims";

    /// The prefixes of the users and of the groups of both issuers, and what is said of them.
    fn said_of([one, other]: [[&str; 2]; 2]) -> Vec<String> {
        let claims = |[users, groups]: [&str; 2]| {
            format!("user_prefix: '{users}', groups_prefix: '{groups}'")
        };
        let said = said([&claims(one), &claims(other)], "");
        said.into_iter().map(|it| it.replace(KEY, "")).collect()
    }

    #[test]
    fn a_prefix_that_begins_another_is_said_whichever_comes_first() {
        for [one, other] in [["p:", "p:q:"], ["p:q:", "p:"], ["p", "p:"], ["p:", "P:q:"]] {
            let told = said_of([[one, "a"], [other, "b"]]);
            let begins = format!("5: .user_prefix: '{other}' and the user_prefix of https://0 ");
            assert!(told.len() == 1 && told[0].starts_with(&begins), "{told:?}");
            let told = said_of([["a", one], ["b", other]]);
            let begins =
                format!("5: .groups_prefix: '{other}' and the groups_prefix of https://0 ");
            assert!(told.len() == 1 && told[0].starts_with(&begins), "{told:?}");
        }
        let told = said_of([["P:", "a"], ["p:", "b"]]);
        assert!(told.len() == 1 && told[0].contains("but for the case of letters"), "{told:?}");
        for [one, other] in [["p:", "q:"], ["p:", ""], ["", "p:"], ["pq:", "p:q"]] {
            assert_eq!(said_of([[one, "a"], [other, "b"]]), [""; 0]);
        }
        let shared = ["user_prefix: 'p'", "user_prefix: 'p:'"];
        assert_eq!(said(shared, "  shared_users: true\n"), [""; 0]);
    }

    #[test]
    fn a_prefix_is_said_on_its_own_line() {
        let claims = "\n      user_prefix: 'p:q:',\n      groups_prefix: 'b'\n    ";
        let told = said(["user_prefix: 'p:', groups_prefix: 'a'", claims], "");
        assert!(told.len() == 1 && told[0].starts_with("6: "), "{told:?}");
    }

    #[test]
    fn a_listed_token_of_an_issuer_s_user_or_group_is_said() {
        let claims = ["", "user_prefix: 'p:', groups_prefix: 'g:'"];
        let token = |user: &str, groups: &str| {
            let sha256 = "c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483";
            let names = format!("user: '{user}', groups: [{groups}]");
            format!("  tokens: [{{ name: a, sha256: {sha256}, {names} }}]\n")
        };
        let taken = "which only names of its issuer begin with";
        assert_eq!(
            said(claims, &token("p:ann", "x, 'G:eng', 'p:x'")),
            [
                format!("3: authenticate.tokens.groups: 'G:eng' begins with 'g:', {taken}"),
                format!("3: authenticate.tokens.user: 'p:ann' begins with 'p:', {taken}"),
            ]
        );
        assert_eq!(said(claims, &token("ann", "'p:x'")), [""; 0]);
        let shared = token("p:ann", "'g:eng'") + "  shared_users: true\n";
        assert_eq!(said(claims, &shared), [""; 0]);
        let reserved = token("Old:ann", "'old:eng'") + "  reserved_prefixes: ['old:']\n";
        assert_eq!(said(claims, &reserved).len(), 2);
    }

    #[test]
    fn a_prefix_that_would_reserve_every_name_is_said() {
        let told =
            said(["", "user_prefix: 'p:', groups_prefix: 'g:'"], "  reserved_prefixes: ['']\n");
        assert_eq!(told, ["3: authenticate.reserved_prefixes: '' is no prefix"]);
    }

    #[test]
    fn issuers_whose_users_could_not_be_told_apart_are_said() {
        let users = "5: authenticate.issuers.claims.user_prefix: names users as https://0 does: \
                     those of one would be the other's";
        let groups = "5: authenticate.issuers.claims.groups_prefix: names groups as https://0 \
                      does: those of one would be the other's";
        assert_eq!(said(["", ""], ""), [users]);
        assert_eq!(said(["user_prefix: 'a'", "user_prefix: 'a', groups_prefix: 'b'"], ""), [users]);
        assert_eq!(said(["", "user_prefix: 'b:'"], ""), [groups]);
        assert_eq!(said(["", "user_prefix: 'b:', groups_prefix: 'b:'"], ""), [""; 0]);
        assert_eq!(said(["", ""], "  shared_users: true\n"), [""; 0]);
        assert_eq!(said(["", ""], "  shared_users: false\n").len(), 1);
    }
}
