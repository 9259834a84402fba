//! Members of teams: the names that a team's file lists, held against those that callers can have.
//!
//! A name that nobody can have admits nobody, so that it is a warning and no complaint. Must never
//! happen here: a change of what is listed.

use crate::config::{
    complaint::{Desk, Fault, shown},
    section::{Section, Word},
    users::Kind,
};
use sconce_filters::{
    authenticate::{Reserved, Settings},
    team::Members,
};
use std::collections::BTreeSet;

/// The names that callers can have.
#[derive(Debug)]
pub(super) struct Names {
    users: Sources,
    groups: Sources,
    reserved: Reserved,
}

/// Where names of one kind come from.
#[derive(Debug)]
struct Sources {
    /// What the names of each issuer begin with.
    prefixes: Vec<String>,
    /// Whether there is a source whose names may begin with anything.
    is_open: bool,
    /// The names of listed tokens.
    listed: BTreeSet<String>,
}

impl Names {
    /// Those that these settings can prove.
    pub(super) fn of(settings: &Settings) -> Self {
        let Settings { issuers, tokens, certificates, reserved, .. } = settings;
        let sources = |kind: Kind, has_more: bool| {
            let prefixes = issuers.iter().map(|issuer| kind.prefix(issuer).to_owned());
            let (open, prefixes): (Vec<_>, Vec<_>) = prefixes.partition(String::is_empty);
            let listed = tokens.iter().flat_map(|token| kind.names(&token.identity));
            let listed = listed.map(str::to_owned).collect();
            Sources { prefixes, is_open: has_more || !open.is_empty(), listed }
        };
        let users = sources(Kind::Users, certificates.is_some());
        Self { users, groups: sources(Kind::Groups, false), reserved: reserved.clone() }
    }

    /// Why nobody can have this name, if so.
    fn unheld(&self, kind: Kind, name: &str) -> Option<Fault> {
        let sources = match kind {
            Kind::Users => &self.users,
            Kind::Groups => &self.groups,
        };
        let mut prefixes = sources.prefixes.iter();
        if prefixes.any(|prefix| name.starts_with(&**prefix)) || sources.listed.contains(name) {
            return None;
        }
        let why = match kind.reserved_by(&self.reserved, name) {
            Some(prefix) => format!("it begins with {}, and not as an issuer's do", shown(prefix)),
            None if sources.is_open => return None,
            None if sources.prefixes.is_empty() => "no token has it".to_owned(),
            None => format!("those of each issuer begin with its {}", kind.key()),
        };
        let what =
            format!("{} is among the {} that no caller can have: {why}", shown(name), kind.word());
        Some(Fault::new(what, "write it as authenticate names callers, or remove it"))
    }
}

/// Reads the members of a team, and warns of those that nobody can be.
pub(super) fn read(desk: &Desk, mut section: Section<'_>, names: Option<&Names>) -> Members {
    let mut members = |kind: Kind| {
        let path = section.below(kind.word());
        let words = section.words(kind.word()).unwrap_or_default();
        let read = |Word { line, text }: Word| {
            if let Some(fault) = names.and_then(|names| names.unheld(kind, &text)) {
                desk.warn(line, &path, fault);
            }
            text
        };
        words.into_iter().map(read).collect()
    };
    let members = Members { users: members(Kind::Users), groups: members(Kind::Groups) };
    section.close();
    members
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Reading, keys::Book};
    use std::fs;

    /// The warnings about a team with these members, where an `authenticate` section says so much.
    fn warned(members: &str, authenticate: &str) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("teams")).unwrap();
        let ads = format!(
            "team: ads\nmembers: {{ {members} }}\nenvironments: {{ p: {{ driver: 'a:1' }} }}\n"
        );
        fs::write(home.path().join("teams/ads.yaml"), ads).unwrap();
        let main = home.path().join("sconce.yaml");
        let text = format!("teams: {{ directory: teams }}\nauthenticate: {{ {authenticate} }}\n");
        fs::write(&main, text).unwrap();
        let Reading { plan, warnings, .. } = config::read(&main, &Book::default(), None);
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
}
