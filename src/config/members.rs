//! Members of teams, checked against the names that callers can have.
//!
//! A name that no caller can have is a warning, not an error, because it admits nobody. Must never
//! happen here: a change of the member list.

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
    /// Whether an issuer has `claims.teams`.
    has_team_claims: bool,
    /// The teams of static tokens.
    teams: BTreeSet<String>,
}

/// The sources of users or of groups.
#[derive(Debug)]
struct NameSources {
    /// The prefixes of the issuers.
    prefixes: Vec<String>,
    /// Whether a source has no prefix.
    has_unprefixed: bool,
    /// The names of static tokens.
    listed: BTreeSet<String>,
}

impl CallerNames {
    /// The possible names with these settings.
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

    /// Warns about a team without possible members.
    pub(super) fn check_team(
        &self,
        diagnostics: &Diagnostics,
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
            "the team '{team}' can have no members: its file lists no possible caller, no issuer \
             has claims.teams, and no static token names it"
        );
        let help = "add members: { groups: [...] } to this file, or claims: { teams: ... } to an \
                    issuer in the main file";
        diagnostics.warn(line, "team", Problem::new(what, help));
    }

    /// Why no caller can have this name, if so.
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
            Some(prefix) => format!(
                "no issuer has names with the reserved prefix {} in this spelling",
                quote(prefix)
            ),
            None if sources.has_unprefixed => return None,
            None if sources.prefixes.is_empty() => "no static token has it".to_owned(),
            None => format!("the names of each issuer start with its {}", kind.prefix_key()),
        };
        let what =
            format!("{} in {} matches no possible caller: {why}", quote(name), kind.as_str());
        Some(Problem::new(what, "write it exactly as authenticate produces it, or remove it"))
    }
}

/// Reads the members of a team, and warns about names that no caller can have.
pub(super) fn read(
    diagnostics: &Diagnostics,
    mut section: Section<'_>,
    names: Option<&CallerNames>,
) -> Members {
    let mut members = |kind: SubjectKind| {
        let path = section.path_of(kind.as_str());
        let listed = section.scalars(kind.as_str()).unwrap_or_default();
        let read = |Scalar { line, text }: Scalar| {
            if let Some(problem) = names.and_then(|names| names.impossible_name(kind, &text)) {
                diagnostics.warn(line, &path, problem);
            }
            text
        };
        listed.into_iter().map(read).collect()
    };
    let members =
        Members { users: members(SubjectKind::Users), groups: members(SubjectKind::Groups) };
    if members == Members::default() {
        let problem = Problem::new("is empty", "add users or groups, or remove the key");
        diagnostics.warn(section.line(), "members", problem);
    }
    section.finish();
    members
}

#[cfg(test)]
mod tests {
    use crate::config::{self, LoadContext, LoadResult};
    use std::fs;

    /// The warnings about these members with this `authenticate` section.
    fn warned(members: &str, authenticate: &str) -> Vec<String> {
        warned_of(&format!("members: {{ {members} }}\n"), authenticate)
    }

    /// The warnings about a team file with this line.
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
        let LoadResult { config, warnings, .. } =
            config::read(&main, &LoadContext::default(), None);
        config.unwrap();
        warnings.iter().map(|it| format!("{}: {}: {}", it.line, it.key, it.what)).collect()
    }

    const P: &str = "{ issuer: 'https://p', audiences: [a], claims: { user_prefix: 'p:', \
                     groups_prefix: 'p/' } }";
    const OPEN: &str = "{ issuer: 'https://o', audiences: [a] }";
    const TOKEN: &str = "tokens: [{ name: t, user: cron, groups: [jobs], sha256: \
                         c247979cfbaf586e2deb692c8e39f7ed4098012ee8fb1063ca0d23507bf8c483 }]";

    #[test]
    fn impossible_members_are_a_warning() {
        let users = "users: ['p:ann', 'P:ann', ann, cron]";
        let groups = "groups: ['p/eng', 'P/eng', eng, jobs]";
        let both = format!("{users}, {groups}");
        let expected_text = |kind: &str, name: &str, why: &str| {
            format!("2: members.{kind}: '{name}' in {kind} matches no possible caller: {why}")
        };
        let [case, other] = [
            "no issuer has names with the reserved prefix 'p:' in this spelling",
            "no issuer has names with the reserved prefix 'p/' in this spelling",
        ];
        let open = format!("issuers: [{P}, {OPEN}], {TOKEN}");
        assert_eq!(
            warned(&both, &open),
            [expected_text("groups", "P/eng", other), expected_text("users", "P:ann", case)]
        );
        let shut = format!("issuers: [{P}], {TOKEN}");
        assert_eq!(
            warned(&both, &shut),
            [
                expected_text("groups", "P/eng", other),
                expected_text(
                    "groups",
                    "eng",
                    "the names of each issuer start with its groups_prefix"
                ),
                expected_text("users", "P:ann", case),
                expected_text(
                    "users",
                    "ann",
                    "the names of each issuer start with its user_prefix"
                ),
            ]
        );
        let tokens = warned("users: [cron, ann], groups: [jobs, eng]", TOKEN);
        assert_eq!(
            tokens,
            [
                expected_text("groups", "eng", "no static token has it"),
                expected_text("users", "ann", "no static token has it")
            ]
        );
    }

    #[test]
    fn possible_members_are_no_warning() {
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
    fn a_team_without_possible_members_is_a_warning() {
        let nobody = |line: u64| {
            format!(
                "{line}: team: the team 'ads' can have no members: its file lists no possible \
                 caller, no issuer has claims.teams, and no static token names it"
            )
        };
        let issuers = format!("issuers: [{OPEN}]");
        assert_eq!(warned_of("", &issuers), [nobody(1)]);
        let empty = "members: {}\n";
        let lists = "2: members: is empty".to_owned();
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
