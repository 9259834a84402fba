//! Who calls: a user that was proved, and what came with the proof.
//!
//! Must never hold a credential: an identity is shown in messages and logs.

use std::{fmt, sync::Arc};

/// The most octets of a user, a display name, a group or a team.
pub const TEXT_MAX: usize = 256;
/// The most groups, and the most teams, of one identity.
pub const NAMES_MAX: usize = 1024;
/// What a text costs beside its octets: its place in a list, and what the allocator adds.
const TEXT_OVERHEAD: usize = 48;

/// Who calls. If you hold one, its texts are sound: not empty, not long, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    raw: RawIdentity,
    source: IdentitySource,
    expires_at: Option<u64>,
}

/// What a proof says of its owner, before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawIdentity {
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
pub enum IdentitySource {
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

impl fmt::Display for IdentitySource {
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
pub enum IdentityField {
    /// The user.
    User,
    /// Its display name.
    DisplayName,
    /// A group.
    Group,
    /// A team.
    Team,
}

impl IdentityField {
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
pub enum IdentityError {
    /// A text with nothing in it.
    Empty(IdentityField),
    /// More octets than [`TEXT_MAX`].
    TooLong(IdentityField),
    /// A character that controls a line, or that nobody sees: it could forge lines of a log, or
    /// look like another name.
    HiddenCharacter(IdentityField),
    /// More than [`NAMES_MAX`] of them.
    TooMany(IdentityField),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(part) => write!(f, "a {} is empty", part.name()),
            Self::TooLong(part) => write!(f, "a {} has more than 256 octets", part.name()),
            Self::HiddenCharacter(part) => {
                write!(f, "a {} has a control or hidden character", part.name())
            }
            Self::TooMany(part) => write!(f, "there are more than 1024 {}s", part.name()),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// The only way to an identity. `expires_at` is when the proof itself ends, in seconds of the
    /// Unix epoch; `None` for one that does not.
    ///
    /// # Errors
    /// The first text that is not sound.
    pub fn new(
        claimed: RawIdentity,
        source: IdentitySource,
        expires_at: Option<u64>,
    ) -> Result<Self, IdentityError> {
        check_text(IdentityField::User, &claimed.user)?;
        if let Some(name) = &claimed.display_name {
            check_text(IdentityField::DisplayName, name)?;
        }
        for (part, names) in
            [(IdentityField::Group, &claimed.groups), (IdentityField::Team, &claimed.teams)]
        {
            if names.len() > NAMES_MAX {
                return Err(IdentityError::TooMany(part));
            }
            names.iter().try_for_each(|name| check_text(part, name))?;
        }
        Ok(Self { raw: claimed, source, expires_at })
    }

    /// The user's name or number, unique within its [`source`](Self::source).
    pub fn user(&self) -> &str {
        &self.raw.user
    }

    /// How people call the user.
    pub fn display_name(&self) -> &str {
        self.raw.display_name.as_deref().unwrap_or(&self.raw.user)
    }

    /// The groups that the user is in.
    pub fn groups(&self) -> &[String] {
        &self.raw.groups
    }

    /// The teams that the proof itself admits the user to.
    pub fn teams(&self) -> &[String] {
        &self.raw.teams
    }

    /// What proved it.
    pub fn source(&self) -> &IdentitySource {
        &self.source
    }

    /// When the proof itself ends, in seconds of the Unix epoch: no skew and no grace is in it.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Octets of memory that its texts take, about.
    pub(crate) fn memory_size(&self) -> usize {
        let RawIdentity { user, display_name, groups, teams } = &self.raw;
        let texts = [user].into_iter().chain(display_name).chain(groups).chain(teams);
        texts.map(|text| text.len().saturating_add(TEXT_OVERHEAD)).sum()
    }
}

fn check_text(part: IdentityField, text: &str) -> Result<(), IdentityError> {
    if text.is_empty() {
        return Err(IdentityError::Empty(part));
    }
    if text.len() > TEXT_MAX {
        return Err(IdentityError::TooLong(part));
    }
    if text.chars().any(|letter| letter.is_control() || is_hidden(letter)) {
        return Err(IdentityError::HiddenCharacter(part));
    }
    Ok(())
}

/// Whether a text can stand in an identity.
pub(crate) fn is_valid_text(text: &str) -> bool {
    // Which part it would be is of no matter here.
    check_text(IdentityField::Group, text).is_ok()
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

    fn identity(claimed: RawIdentity) -> Result<Identity, IdentityError> {
        Identity::new(claimed, IdentitySource::Certificate, None)
    }

    fn user(user: &str) -> RawIdentity {
        RawIdentity { user: user.to_owned(), ..RawIdentity::default() }
    }

    #[test]
    fn a_user_without_a_display_name_is_called_by_its_own() {
        assert_eq!(identity(user("ann")).unwrap().display_name(), "ann");
        let claimed = RawIdentity { display_name: Some("Ann Ö.".to_owned()), ..user("ann") };
        assert_eq!(identity(claimed).unwrap().display_name(), "Ann Ö.");
    }

    #[test]
    fn a_text_that_is_not_sound_is_refused_wherever_it_stands() {
        let long = "a".repeat(TEXT_MAX + 1);
        let cases = [
            ("", IdentityError::Empty as fn(IdentityField) -> IdentityError),
            (&long, IdentityError::TooLong),
            ("a\nb", IdentityError::HiddenCharacter),
            ("a\u{85}b", IdentityError::HiddenCharacter),
            ("a\u{202e}b", IdentityError::HiddenCharacter),
            ("a\u{61c}b", IdentityError::HiddenCharacter),
            ("a\u{200b}", IdentityError::HiddenCharacter),
        ];
        for (text, fault) in cases {
            let text = text.to_owned();
            assert_eq!(identity(user(&text)), Err(fault(IdentityField::User)));
            let claimed = RawIdentity { display_name: Some(text.clone()), ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(IdentityField::DisplayName)));
            let claimed = RawIdentity { groups: vec!["a".into(), text.clone()], ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(IdentityField::Group)));
            let claimed = RawIdentity { teams: vec![text], ..user("ann") };
            assert_eq!(identity(claimed), Err(fault(IdentityField::Team)));
        }
        assert!(identity(user(&"a".repeat(TEXT_MAX))).is_ok());
    }

    #[test]
    fn groups_and_teams_are_counted() {
        let many = vec!["a".to_owned(); NAMES_MAX + 1];
        let claimed = RawIdentity { groups: many.clone(), ..user("ann") };
        assert_eq!(identity(claimed), Err(IdentityError::TooMany(IdentityField::Group)));
        let claimed = RawIdentity { teams: many, ..user("ann") };
        assert_eq!(identity(claimed), Err(IdentityError::TooMany(IdentityField::Team)));
        let claimed = RawIdentity { groups: vec!["a".to_owned(); NAMES_MAX], ..user("ann") };
        assert!(identity(claimed).is_ok());
    }
}
