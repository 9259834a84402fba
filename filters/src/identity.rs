//! The authenticated caller.
//!
//! Must not contain a credential: messages and logs show an identity.

use std::{fmt, sync::Arc};

/// Maximum length of a user, a display name, a group or a team, in bytes.
pub const TEXT_MAX: usize = 256;
/// Maximum number of groups, and of teams, of one identity.
pub const NAMES_MAX: usize = 1024;
/// Memory for one text in addition to its bytes: its entry in a list, and the allocator's overhead.
const TEXT_OVERHEAD: usize = 48;

/// The authenticated caller. All texts are valid: not empty, within [`TEXT_MAX`], without control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    raw: RawIdentity,
    source: IdentitySource,
    expires_at: Option<u64>,
}

/// The content of a credential before validation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawIdentity {
    /// The name or number of the user, unique within its source.
    pub user: String,
    /// The display name; the user if it is absent.
    pub display_name: Option<String>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// The teams that the credential grants the user.
    pub teams: Vec<String>,
}

/// The kind of credential that proves an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A token that an identity provider has signed.
    Token {
        /// The issuer, as the token and the configuration spell it.
        issuer: Arc<str>,
    },
    /// A static token of the configuration.
    StaticToken {
        /// The name of the token.
        name: Arc<str>,
    },
    /// The client certificate of the connection.
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

/// One field of an identity.
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
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::DisplayName => "display name",
            Self::Group => "group",
            Self::Team => "team",
        }
    }
}

/// Why a credential has no valid identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The field is empty.
    Empty(IdentityField),
    /// The field is longer than [`TEXT_MAX`].
    TooLong(IdentityField),
    /// A control character or an invisible character: it could forge log lines or imitate another
    /// name.
    HiddenCharacter(IdentityField),
    /// More than [`NAMES_MAX`] values.
    TooMany(IdentityField),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(field) => write!(f, "a {} is empty", field.name()),
            Self::TooLong(field) => write!(f, "a {} is longer than 256 bytes", field.name()),
            Self::HiddenCharacter(field) => {
                write!(f, "a {} has a control or hidden character", field.name())
            }
            Self::TooMany(field) => write!(f, "more than 1024 {}s", field.name()),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// Validates an identity. `expires_at` is the end of the credential in seconds since the Unix
    /// epoch; `None` if it does not expire.
    ///
    /// # Errors
    /// The first field that is not valid.
    pub fn new(
        raw: RawIdentity,
        source: IdentitySource,
        expires_at: Option<u64>,
    ) -> Result<Self, IdentityError> {
        check_text(IdentityField::User, &raw.user)?;
        if let Some(name) = &raw.display_name {
            check_text(IdentityField::DisplayName, name)?;
        }
        for (field, names) in
            [(IdentityField::Group, &raw.groups), (IdentityField::Team, &raw.teams)]
        {
            if names.len() > NAMES_MAX {
                return Err(IdentityError::TooMany(field));
            }
            names.iter().try_for_each(|name| check_text(field, name))?;
        }
        Ok(Self { raw, source, expires_at })
    }

    /// The name or number of the user, unique within its [`source`](Self::source).
    pub fn user(&self) -> &str {
        &self.raw.user
    }

    /// The display name; the user if there is none.
    pub fn display_name(&self) -> &str {
        self.raw.display_name.as_deref().unwrap_or(&self.raw.user)
    }

    /// The groups that the user is in.
    pub fn groups(&self) -> &[String] {
        &self.raw.groups
    }

    /// The teams that the credential grants the user.
    pub fn teams(&self) -> &[String] {
        &self.raw.teams
    }

    /// The kind of credential.
    pub fn source(&self) -> &IdentitySource {
        &self.source
    }

    /// The end of the credential in seconds since the Unix epoch, without clock skew or grace.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Approximate memory of the texts, in bytes.
    pub(crate) fn memory_size(&self) -> usize {
        let RawIdentity { user, display_name, groups, teams } = &self.raw;
        let texts = [user].into_iter().chain(display_name).chain(groups).chain(teams);
        texts.map(|text| text.len().saturating_add(TEXT_OVERHEAD)).sum()
    }
}

fn check_text(field: IdentityField, text: &str) -> Result<(), IdentityError> {
    if text.is_empty() {
        return Err(IdentityError::Empty(field));
    }
    if text.len() > TEXT_MAX {
        return Err(IdentityError::TooLong(field));
    }
    if text.chars().any(|character| character.is_control() || is_hidden(character)) {
        return Err(IdentityError::HiddenCharacter(field));
    }
    Ok(())
}

/// Whether a text is valid in an identity.
pub(crate) fn is_valid_text(text: &str) -> bool {
    // The field only matters for messages.
    check_text(IdentityField::Group, text).is_ok()
}

/// Direction marks, joiners and line separators.
fn is_hidden(character: char) -> bool {
    match character {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => true,
        other => matches!(other, '\u{ad}' | '\u{61c}' | '\u{feff}'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(raw: RawIdentity) -> Result<Identity, IdentityError> {
        Identity::new(raw, IdentitySource::Certificate, None)
    }

    fn user(user: &str) -> RawIdentity {
        RawIdentity { user: user.to_owned(), ..RawIdentity::default() }
    }

    #[test]
    fn the_display_name_defaults_to_the_user() {
        assert_eq!(identity(user("ann")).unwrap().display_name(), "ann");
        let raw = RawIdentity { display_name: Some("Ann Ö.".to_owned()), ..user("ann") };
        assert_eq!(identity(raw).unwrap().display_name(), "Ann Ö.");
    }

    #[test]
    fn an_invalid_text_is_refused_in_every_field() {
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
        for (text, error) in cases {
            let text = text.to_owned();
            assert_eq!(identity(user(&text)), Err(error(IdentityField::User)));
            let raw = RawIdentity { display_name: Some(text.clone()), ..user("ann") };
            assert_eq!(identity(raw), Err(error(IdentityField::DisplayName)));
            let raw = RawIdentity { groups: vec!["a".into(), text.clone()], ..user("ann") };
            assert_eq!(identity(raw), Err(error(IdentityField::Group)));
            let raw = RawIdentity { teams: vec![text], ..user("ann") };
            assert_eq!(identity(raw), Err(error(IdentityField::Team)));
        }
        assert!(identity(user(&"a".repeat(TEXT_MAX))).is_ok());
    }

    #[test]
    fn groups_and_teams_are_limited() {
        let many = vec!["a".to_owned(); NAMES_MAX + 1];
        let raw = RawIdentity { groups: many.clone(), ..user("ann") };
        assert_eq!(identity(raw), Err(IdentityError::TooMany(IdentityField::Group)));
        let raw = RawIdentity { teams: many, ..user("ann") };
        assert_eq!(identity(raw), Err(IdentityError::TooMany(IdentityField::Team)));
        let raw = RawIdentity { groups: vec!["a".to_owned(); NAMES_MAX], ..user("ann") };
        assert!(identity(raw).is_ok());
    }
}
