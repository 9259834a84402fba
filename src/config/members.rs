//! Members of teams: the names that a team's file lists, held against those that callers can have.
//!
//! A name that nobody can have admits nobody, so that it is a warning and no complaint. Must never
//! happen here: a change of what is listed.

use crate::config::{
    diagnostics::{Diagnostics, Problem, quote},
    section::{Scalar, Section},
    user_prefixes::SubjectKind,
};
use sconce_filters::{
    TeamName,
    authenticate::{ReservedPrefixes, Settings},
    team::Members,
};
use std::collections::BTreeSet;

/// The names that callers can have.
#[derive(Debug)]
pub(super) struct CallerNames {
    users: NameSources,
    groups: NameSources,
    reserved: ReservedPrefixes,
    /// Whether tokens of an issuer say which teams their callers are in.
    has_team_claims: bool,
    /// The teams of listed tokens.
    teams: BTreeSet<String>,
}

/// Where names of one kind come from.
#[derive(Debug)]
struct NameSources {
    /// What the names of each issuer begin with.
    prefixes: Vec<String>,
    /// Whether there is a source whose names may begin with anything.
    has_unprefixed: bool,
    /// The names of listed tokens.
    listed: BTreeSet<String>,
}

impl CallerNames {
    /// Those that these settings can prove.
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { issuers, tokens, certificates, reserved, .. } = settings;
        let sources = |kind: SubjectKind, has_more: bool| {
            let prefixes = issuers.iter().map(|issuer| kind.prefix(issuer).to_owned());
            let (open, prefixes): (Vec<_>, Vec<_>) = prefixes.partition(String::is_empty);
            let listed = tokens.iter().flat_map(|token| kind.names(&token.identity));
            let listed = listed.map(str::to_owned).collect();
            NameSources { prefixes, has_unprefixed: has_more || !open.is_empty(), listed }
        };
        let users = sources(SubjectKind::Users, certificates.is_some());
        let has_team_claims = issuers.iter().any(|issuer| issuer.claims.teams.is_some());
        let teams = tokens.iter().flat_map(|token| token.identity.teams().iter().cloned());
        let groups = sources(SubjectKind::Groups, false);
        let (reserved, teams) = (reserved.clone(), teams.collect());
        Self { users, groups, reserved, has_team_claims, teams }
    }

    /// Warns of a team that nobody can belong to.
    pub(super) fn check_team(
        &self,
        desk: &Diagnostics,
        (team, line): (&TeamName, u64),
        all: &Members,
    ) {
        let mut users = all.users.iter().map(|name| (SubjectKind::Users, name));
        let mut groups = all.groups.iter().map(|name| (SubjectKind::Groups, name));
        let can_be =
            |(kind, name): (SubjectKind, &String)| self.impossible_name(kind, name).is_none();
        let is_named = self.has_team_claims || self.teams.contains(team.as_str());
        if is_named || users.any(can_be) || groups.any(can_be) {
            return;
        }
        let what = format!(
            "nobody can belong to the team '{team}': its file lists nobody who can be a caller, \
             no issuer has claims.teams, and no listed token names it"
        );
        let remedy = "write members: { groups: [...] } into this file, or claims: { teams: ... } \
                      for an issuer into the main file";
        desk.warn(line, "team", Problem::new(what, remedy));
    }

    /// Why nobody can have this name, if so.
    fn impossible_name(&self, kind: SubjectKind, name: &str) -> Option<Problem> {
        let sources = match kind {
            SubjectKind::Users => &self.users,
            SubjectKind::Groups => &self.groups,
        };
        let mut prefixes = sources.prefixes.iter();
        if prefixes.any(|prefix| name.starts_with(&**prefix)) || sources.listed.contains(name) {
            return None;
        }
        let why = match kind.reserved_by(&self.reserved, name) {
            Some(prefix) => format!("it begins with {}, and not as an issuer's do", quote(prefix)),
            None if sources.has_unprefixed => return None,
            None if sources.prefixes.is_empty() => "no token has it".to_owned(),
            None => format!("those of each issuer begin with its {}", kind.prefix_key()),
        };
        let what = format!(
            "{} is among the {} that no caller can have: {why}",
            quote(name),
            kind.as_str()
        );
        Some(Problem::new(what, "write it as authenticate names callers, or remove it"))
    }
}

/// Reads the members of a team, and warns of those that nobody can be.
pub(super) fn read(
    desk: &Diagnostics,
    mut section: Section<'_>,
    names: Option<&CallerNames>,
) -> Members {
    let mut members = |kind: SubjectKind| {
        let path = section.path_of(kind.as_str());
        let words = section.scalars(kind.as_str()).unwrap_or_default();
        let read = |Scalar { line, text }: Scalar| {
            if let Some(fault) = names.and_then(|names| names.impossible_name(kind, &text)) {
                desk.warn(line, &path, fault);
            }
            text
        };
        words.into_iter().map(read).collect()
    };
    let members =
        Members { users: members(SubjectKind::Users), groups: members(SubjectKind::Groups) };
    if members == Members::default() {
        let fault = Problem::new("lists nobody", "list users or groups, or remove the key");
        desk.warn(section.line(), "members", fault);
    }
    section.finish();
    members
}

#[cfg(test)]
mod tests {
    use crate::config::{self, LoadContext, LoadResult};
    use std::fs;

    /// The warnings about a team with these members, where an `authenticate` section says so much.
    fn warned(members: &str, authenticate: &str) -> Vec<String> {
        warned_of(&format!("members: {{ {members} }}\n"), authenticate)
    }

    /// The same, of a team's file with this line.
    fn warned_of(line: &str, authenticate: &str) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let ads = format!("team: ads\n{line}environments: {{ p: {{ driver: 'a:1' }} }}\n");
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        let main = home.path().join("sconce.yaml");
        let text = format!(
            "listen: {{ address: '127.0.0.1:0' }}\nteams: {{ directory: teams }}\nauthenticate: {{ \
             {authenticate} }}\n"
        );
        fs::write(&main, text).unwrap();
        let LoadResult { config: plan, warnings, .. } =
            config::read(&main, &LoadContext::default(), None);
        plan.unwrap();
        warnings.iter().map(|it| format!("{}: {}: {}", it.line, it.key, it.what)).collect()
    }

    const P: &str = "{ issuer: 'https://p', audiences: [a], \
                     claims: { user_prefix: 'p:', groups_prefix: 'p/' } }";
    const OPEN: &str = "{ issuer: 'https://o', audiences: [a] }";
    const TOKEN: &str = "tokens: [{ name: t, user: cron, groups: [jobs], sha256: \
                         c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483 }]";

    #[test]
    fn members_that_nobody_can_be_are_a_warning() {
        let users = "users: ['p:ann', 'P:ann', ann, cron]";
        let groups = "groups: ['p/eng', 'P/eng', eng, jobs]";
        let both = format!("{users}, {groups}");
        let says = |kind: &str, name: &str, why: &str| {
            let among = format!("'{name}' is among the {kind} that no caller can have: {why}");
            format!("2: members.{kind}: {among}")
        };
        let [case, other] = [
            "it begins with 'p:', and not as an issuer's do",
            "it begins with 'p/', and not as an issuer's do",
        ];
        let open = format!("issuers: [{P}, {OPEN}], {TOKEN}");
        assert_eq!(
            warned(&both, &open),
            [says("groups", "P/eng", other), says("users", "P:ann", case)]
        );
        let shut = format!("issuers: [{P}], {TOKEN}");
        assert_eq!(
            warned(&both, &shut),
            [
                says("groups", "P/eng", other),
                says("groups", "eng", "those of each issuer begin with its groups_prefix"),
                says("users", "P:ann", case),
                says("users", "ann", "those of each issuer begin with its user_prefix"),
            ]
        );
        let tokens = warned("users: [cron, ann], groups: [jobs, eng]", TOKEN);
        assert_eq!(
            tokens,
            [says("groups", "eng", "no token has it"), says("users", "ann", "no token has it")]
        );
    }

    #[test]
    fn members_that_somebody_can_be_are_none() {
        let shared = format!("issuers: [{P}, {OPEN}], shared_users: true");
        for (members, authenticate) in [
            ("users: ['p:ann'], groups: ['p/eng']", format!("issuers: [{P}]")),
            ("users: [ann], groups: [eng]", format!("issuers: [{P}, {OPEN}]")),
            ("users: ['P:ann'], groups: ['P/eng']", shared),
        ] {
            assert_eq!(warned(members, &authenticate), [""; 0], "{authenticate}");
        }
        let reserved = format!("issuers: [{OPEN}], reserved_prefixes: ['old:']");
        assert_eq!(warned("users: ['old:ann', ann]", &reserved).len(), 1);
    }

    #[test]
    fn a_team_that_nobody_can_belong_to_is_a_warning() {
        let nobody = |line: u64| {
            format!(
                "{line}: team: nobody can belong to the team 'ads': its file lists nobody who can \
                 be a caller, no issuer has claims.teams, and no listed token names it"
            )
        };
        let issuers = format!("issuers: [{OPEN}]");
        assert_eq!(warned_of("", &issuers), [nobody(1)]);
        let empty = "members: {}\n";
        let lists = "2: members: lists nobody".to_owned();
        assert_eq!(warned_of(empty, &issuers), [nobody(1), lists.clone()]);
        let shut = warned_of("members: { users: [ann] }\n", &format!("issuers: [{P}]"));
        assert_eq!((shut.len(), &shut[0]), (2, &nobody(1)));
        let claims = "issuers: [{ issuer: 'https://o', audiences: [a], claims: { teams: t } }]";
        assert_eq!(warned_of("", claims), [""; 0]);
        assert_eq!(warned_of(empty, claims), [lists]);
        let named = TOKEN.replace("groups: [jobs]", "teams: [ads]");
        assert_eq!(warned_of("", &named), [""; 0]);
        assert_eq!(warned_of("", &named.replace("[ads]", "[ml]")), [nobody(1)]);
        for members in ["users: [ann]", "groups: [eng]"] {
            let members = format!("members: {{ {members} }}\n");
            assert_eq!(warned_of(&members, &issuers), [""; 0]);
        }
    }
}
