//! Who calls: a user that was proved, and what came with the proof.
//!
//! Must never hold a credential: an identity is shown in messages and logs.

use std::{fmt, sync::Arc};

/// The most octets of a user, a display name, a group or a team.
pub const TEXT_MAX: usize = 256;
/// The most groups, and the most teams, of one identity.
pub const NAMES_MAX: usize = 1024;
/// What a text costs beside its octets: its place in a list, and what the allocator adds.
const TEXT_COST: usize = 48;

/// Who calls. If you hold one, its texts are sound: not empty, not long, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    claimed: Claimed,
    source: Source,
    expires_at: Option<u64>,
}

/// What a proof says of its owner, before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The user's name or number, unique within its source.
    pub user: String,
    /// How people call the user; the user itself when it is absent.
    pub display_name: Option<String>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// The teams that the proof itself admits the user to.
    pub teams: Vec<String>,
}

/// What proved an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A token that an identity provider signed.
    Token {
        /// The provider, as the token and the configuration both spell it.
        issuer: Arc<str>,
    },
    /// A token that the configuration lists.
    StaticToken {
        /// The token's name there.
        name: Arc<str>,
    },
    /// The certificate of the client's connection.
    Certificate,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { issuer } => write!(f, "a token of {issuer}"),
            Self::StaticToken { name } => write!(f, "the static token '{name}'"),
            Self::Certificate => f.write_str("a client certificate"),
        }
    }
}

/// One text of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The user.
    User,
    /// Its display name.
    DisplayName,
    /// A group.
    Group,
    /// A team.
    Team,
}

impl Part {
    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::DisplayName => "display name",
            Self::Group => "group",
            Self::Team => "team",
        }
    }
}

/// Why something is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// A text with nothing in it.
    Empty(Part),
    /// More octets than [`TEXT_MAX`].
    TooLong(Part),
    /// A character that controls a line, or that nobody sees: it could forge lines of a log, or
    /// look like another name.
    Control(Part),
    /// More than [`NAMES_MAX`] of them.
    TooMany(Part),
}

impl fmt::Display for IdentityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(part) => write!(f, "a {} is empty", part.name()),
            Self::TooLong(part) => write!(f, "a {} has more than 256 octets", part.name()),
            Self::Control(part) => write!(f, "a {} has a control or hidden character", part.name()),
            Self::TooMany(part) => write!(f, "there are more than 1024 {}s", part.name()),
        }
    }
}

impl std::error::Error for IdentityFault {}

impl Identity {
    /// The only way to an identity. `expires_at` is when the proof itself ends, in seconds of the
    /// Unix epoch; `None` for one that does not.
    ///
    /// # Errors
    /// The first text that is not sound.
    pub fn new(
        claimed: Claimed,
        source: Source,
        expires_at: Option<u64>,
    ) -> Result<Self, IdentityFault> {
        sound(Part::User, &claimed.user)?;
        if let Some(name) = &claimed.display_name {
            sound(Part::DisplayName, name)?;
        }
        for (part, names) in [(Part::Group, &claimed.groups), (Part::Team, &claimed.teams)] {
            if names.len() > NAMES_MAX {
                return Err(IdentityFault::TooMany(part));
            }
            names.iter().try_for_each(|name| sound(part, name))?;
        }
        Ok(Self { claimed, source, expires_at })
    }

    /// The user's name or number, unique within its [`source`](Self::source).
    pub fn user(&self) -> &str {
        &self.claimed.user
    }

    /// How people call the user.
    pub fn display_name(&self) -> &str {
        self.claimed.display_name.as_deref().unwrap_or(&self.claimed.user)
    }

    /// The groups that the user is in.
    pub fn groups(&self) -> &[String] {
        &self.claimed.groups
    }

    /// The teams that the proof itself admits the user to.
    pub fn teams(&self) -> &[String] {
        &self.claimed.teams
    }

    /// What proved it.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// When the proof itself ends, in seconds of the Unix epoch: no skew and no grace is in it.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Octets of memory that its texts take, about.
    pub(crate) fn weight(&self) -> usize {
        let Claimed { user, display_name, groups, teams } = &self.claimed;
        let texts = [user].into_iter().chain(display_name).chain(groups).chain(teams);
        texts.map(|text| text.len().saturating_add(TEXT_COST)).sum()
    }
}

fn sound(part: Part, text: &str) -> Result<(), IdentityFault> {
    if text.is_empty() {
        return Err(IdentityFault::Empty(part));
    }
    if text.len() > TEXT_MAX {
        return Err(IdentityFault::TooLong(part));
    }
    if text.chars().any(|letter| letter.is_control() || is_hidden(letter)) {
        return Err(IdentityFault::Control(part));
    }
    Ok(())
}

/// Whether a text can stand in an identity.
pub(crate) fn is_sound(text: &str) -> bool {
    // Which part it would be is of no matter here.
    sound(Part::Group, text).is_ok()
}

/// Marks of direction, joiners, separators of lines: what is there, and not seen.
fn is_hidden(letter: char) -> bool {
    match letter {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => true,
        other => matches!(other, '\u{ad}' | '\u{61c}' | '\u{feff}'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(claimed: Claimed) -> Result<Identity, IdentityFault> {
        Identity::new(claimed, Source::Certificate, None)
    }

    fn user(user: &str) -> Claimed {
        Claimed { user: user.to_owned(), ..Claimed::default() }
    }

    #[test]
    fn a_user_without_a_display_name_is_called_by_its_own() {
        assert_eq!(identity(user("ann")).unwrap().display_name(), "ann");
        let claimed = Claimed { display_name: Some("Ann Ö.".to_owned()), ..user("ann") };
        assert_eq!(identity(claimed).unwrap().display_name(), "Ann Ö.");
    }

    #[test]
    fn a_text_that_is_not_sound_is_refused_wherever_it_stands() {
        let long = "a".repeat(TEXT_MAX + 1);
        let cases = [
            ("", IdentityFault::Empty as fn(Part) -> IdentityFault),
            (&long, IdentityFault::TooLong),
            ("a\nb", IdentityFault::Control),
            ("a\u{85}b", IdentityFault::Control),
            ("a\u{202e}b", IdentityFault::Control),
            ("a\u{61c}b", IdentityFault::Control),
            ("a\u{200b}", IdentityFault::Control),
        ];
        for (text, fault) in cases {
            let text = text.to_owned();
            assert_eq!(identity(user(&text)), Err(fault(Part::User)));
            let claimed = Claimed { display_name: Some(text.clone()), ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(Part::DisplayName)));
            let claimed = Claimed { groups: vec!["a".into(), text.clone()], ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(Part::Group)));
            let claimed = Claimed { teams: vec![text], ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(Part::Team)));
        }
        assert!(identity(user(&"a".repeat(TEXT_MAX))).is_ok());
    }

    #[test]
    fn groups_and_teams_are_counted() {
        let many = vec!["a".to_owned(); NAMES_MAX + 1];
        let claimed = Claimed { groups: many.clone(), ..user("ann") };
        assert_eq!(identity(claimed), Err(IdentityFault::TooMany(Part::Group)));
        let claimed = Claimed { teams: many, ..user("ann") };
        assert_eq!(identity(claimed), Err(IdentityFault::TooMany(Part::Team)));
        let claimed = Claimed { groups: vec!["a".to_owned(); NAMES_MAX], ..user("ann") };
        assert!(identity(claimed).is_ok());
    }
}
