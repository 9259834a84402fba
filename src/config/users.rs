//! Users: what tokens say of them, and that one issuer's are no other's by accident.

use crate::config::{
    complaint::{Desk, Fault},
    section::Section,
    words,
};
use sconce_filters::authenticate::{ClaimSettings, IssuerSettings};

/// Which claims say who somebody is.
pub(super) fn claims(mut section: Section<'_>) -> ClaimSettings {
    let usual = ClaimSettings::default();
    let mut word = |key| section.word(key, |text| Ok(text.to_owned()));
    let (user, display_name) = (word("user"), word("display_name"));
    let (groups, teams) = (word("groups"), word("teams"));
    let (user_prefix, groups_prefix) = (word("user_prefix"), word("groups_prefix"));
    let required = section.word("require_verified_email", words::boolean);
    section.close();
    ClaimSettings {
        user: user.unwrap_or(usual.user),
        user_prefix: user_prefix.unwrap_or(usual.user_prefix),
        require_verified_email: required.unwrap_or(usual.require_verified_email),
        display_name: display_name.map_or(usual.display_name, |name| vec![name]),
        groups: groups.unwrap_or(usual.groups),
        groups_prefix: groups_prefix.unwrap_or(usual.groups_prefix),
        teams,
    }
}

/// Complains about issuers, each with its line, whose users or groups nobody could tell apart.
pub(super) fn tell_apart(desk: &Desk, issuers: &[(u64, IssuerSettings)]) {
    for (place, (line, issuer)) in issuers.iter().enumerate() {
        let mut earlier = issuers.iter().take(place).map(|(_, other)| other);
        let alike = earlier.find_map(|other| {
            let (ours, theirs) = (&issuer.claims, &other.claims);
            let parts = [
                ("user_prefix", "users", ours.user_prefix == theirs.user_prefix),
                ("groups_prefix", "groups", ours.groups_prefix == theirs.groups_prefix),
            ];
            let (key, names, _) = parts.into_iter().find(|(_, _, is_alike)| *is_alike)?;
            Some((key, names, &other.issuer))
        });
        if let Some((key, names, other)) = alike {
            let what = format!("names {names} as {other} does: those of one would be the other's");
            let remedy = format!(
                "write claims: {{ {key}: 'partner:' }} for one of the two, or authenticate: {{ \
                 shared_users: true }} where both speak of the same people"
            );
            desk.complain(
                *line,
                &format!("authenticate.issuers.claims.{key}"),
                Fault::new(what, remedy),
            );
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
