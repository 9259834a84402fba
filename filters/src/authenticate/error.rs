//! What the room says to a call that it turns away.
//!
//! Must never show a part of a token, nor what would have been right: the caller may be a stranger.

use crate::{
    Code, Refusal,
    identity::{IdentityError, IdentityField},
};
use std::{fmt, time::Duration};

/// When trying again may help.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The refusal of a call whose token has expired, and whose session did not begin before that.
pub fn token_expired() -> Refusal {
    AuthError::Expired.into()
}

/// Why a call proves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthError {
    /// Neither a token nor a certificate.
    Missing,
    /// More than one `authorization`, or more than one `authentication`.
    DuplicateHeader,
    /// Both are there and differ.
    ConflictingHeaders,
    /// Its value is no bearer token.
    NotBearer,
    /// Its token is no signed one, and none of those that are listed.
    NotJwt,
    /// More claims, values or levels of nesting than a token may have.
    TooLarge,
    /// A header that must be understood and is not (RFC 7515, 4.1.11).
    CriticalHeader,
    /// Another way of signing than the issuer's.
    UnsupportedAlgorithm,
    /// Nobody whose word counts.
    UntrustedIssuer,
    /// No signature by the issuer's key.
    InvalidSignature,
    /// The issuer has no such key.
    UnknownKey,
    /// The issuer had no such key, and could not be asked whether it has one now; it may be, after
    /// so long.
    KeyNotRefreshed { retry_after: Duration },
    /// The issuer's keys were never fetched; they may be, after so long.
    KeysNotFetched { retry_after: Duration },
    /// Too many calls wait for other keys.
    TooManyWaiters,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is meant for somebody else.
    WrongAudience,
    /// It names a user who belongs to another issuer.
    ReservedUser,
    /// It is right and says nothing that can be used.
    InvalidClaims(ClaimError),
    /// The certificate names no user, or several.
    CertificateUser,
    /// The time of the certificate is over.
    CertificateExpired,
    /// Nobody who is trusted vouches for the certificate any more.
    CertificateUntrusted,
    /// The name in the certificate is none.
    CertificateInvalidUser(IdentityError),
    /// The credential proves somebody else than it did when the call was admitted.
    IdentityChanged,
    /// The name in the certificate is that of an issuer's user.
    CertificateReservedUser,
    /// Nobody told the call what time it is.
    NoWallTime,
}

/// What is wrong with the claims of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimError {
    NoUser,
    NotString(IdentityField),
    NoExpiry,
    EmailNotVerified,
    EmailVerifiedMissing,
    NotTime(&'static str),
    Invalid(IdentityError),
}

impl From<ClaimError> for AuthError {
    fn from(fault: ClaimError) -> Self {
        Self::InvalidClaims(fault)
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser => f.write_str("none names a user"),
            Self::NotString(part) => write!(f, "a {} is no text", part.name()),
            Self::NoExpiry => f.write_str("none says when it ends (exp)"),
            Self::EmailNotVerified => f.write_str("the e-mail address is not verified"),
            Self::EmailVerifiedMissing => {
                f.write_str("none says that the e-mail address is verified (email_verified)")
            }
            Self::NotTime(name) => write!(f, "{name} is no time"),
            Self::Invalid(fault) => write!(f, "{fault}"),
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no token: add ;token=... to the sc:// URL",
            Self::DuplicateHeader => {
                "more than one authorization or authentication header: send one"
            }
            Self::ConflictingHeaders => {
                "the authorization and authentication headers differ: send one of them"
            }
            Self::NotBearer => {
                "the authorization (or authentication) header is not 'Bearer' and one token"
            }
            Self::NotJwt => "the token is neither a signed token (JWT) nor one that is known here",
            Self::TooLarge => {
                "the token has more than 256 claims, 2048 values or 16 levels of nesting"
            }
            Self::CriticalHeader => {
                "the token must not be used by who does not know its header (crit)"
            }
            Self::UnsupportedAlgorithm => {
                "the token is signed in a way (alg) that is not accepted here"
            }
            Self::UntrustedIssuer => "the token's issuer is not trusted here",
            Self::InvalidSignature | Self::UnknownKey => {
                "the token's signature is not right or its key is not known"
            }
            Self::KeyNotRefreshed { .. } => {
                "the identity provider could not be asked about the token's key"
            }
            Self::KeysNotFetched { .. } => {
                "the keys of the identity provider that issued the token are not there yet"
            }
            Self::TooManyWaiters => "too many calls wait for the keys of the identity provider",
            Self::Expired => {
                "the token has expired: call spark.stop(), then begin a new session with a new \
                 token"
            }
            Self::NotYetValid => "the token is not valid yet (nbf, iat)",
            Self::WrongAudience => "the token is not meant for this service (aud)",
            Self::InvalidClaims(fault) => {
                return write!(f, "the token's claims cannot be used: {fault}");
            }
            Self::CertificateUser => "the client certificate does not name one user",
            Self::CertificateExpired => {
                "the client certificate has expired: connect anew with a new one"
            }
            Self::CertificateUntrusted => {
                "the authority of the client certificate is not trusted here any more: show another"
            }
            Self::CertificateInvalidUser(fault) => {
                return write!(f, "the client certificate names no user: {fault}");
            }
            Self::IdentityChanged => {
                "the configuration has changed whom this call is from: make the call again"
            }
            Self::ReservedUser => {
                "the token's user has a name that begins with the prefix of another identity \
                 provider's users (user_prefix): ask for an account with another name"
            }
            Self::CertificateReservedUser => {
                "the client certificate's user has a name that begins with the prefix of an \
                 identity provider's users (user_prefix): ask for a certificate with another name"
            }
            Self::NoWallTime => "the time of day is not known",
        })
    }
}

impl AuthError {
    /// Whether the same token is refused for the same reason for as long as neither the keys nor
    /// the configuration change, and the clock goes forward.
    pub(super) fn is_permanent(self) -> bool {
        match self {
            Self::NotJwt
            | Self::TooLarge
            | Self::CriticalHeader
            | Self::UnsupportedAlgorithm
            | Self::UntrustedIssuer
            | Self::InvalidSignature
            | Self::UnknownKey
            | Self::Expired
            | Self::WrongAudience
            | Self::InvalidClaims(_)
            | Self::ReservedUser => true,
            Self::Missing
            | Self::DuplicateHeader
            | Self::ConflictingHeaders
            | Self::NotBearer
            | Self::KeyNotRefreshed { .. }
            | Self::KeysNotFetched { .. }
            | Self::TooManyWaiters
            | Self::NotYetValid
            | Self::CertificateUser
            | Self::CertificateExpired
            | Self::CertificateUntrusted
            | Self::CertificateInvalidUser(_)
            | Self::CertificateReservedUser
            | Self::IdentityChanged
            | Self::NoWallTime => false,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Missing => "authenticate.missing",
            Self::DuplicateHeader => "authenticate.duplicate",
            Self::ConflictingHeaders => "authenticate.contradiction",
            Self::NotBearer | Self::NotJwt | Self::TooLarge | Self::CriticalHeader => {
                "authenticate.malformed"
            }
            Self::UnsupportedAlgorithm | Self::InvalidSignature => "authenticate.signature",
            Self::UntrustedIssuer => "authenticate.issuer",
            Self::UnknownKey => "authenticate.key_unknown",
            Self::KeyNotRefreshed { .. } => "authenticate.key_unasked",
            Self::KeysNotFetched { .. } => "authenticate.keys_missing",
            Self::TooManyWaiters => "authenticate.busy",
            Self::Expired => "authenticate.expired",
            Self::NotYetValid => "authenticate.early",
            Self::WrongAudience => "authenticate.audience",
            Self::InvalidClaims(_) => "authenticate.claims",
            Self::CertificateUser
            | Self::CertificateExpired
            | Self::CertificateUntrusted
            | Self::CertificateInvalidUser(_) => "authenticate.certificate",
            Self::ReservedUser | Self::CertificateReservedUser => "authenticate.user_prefix",
            Self::IdentityChanged => "authenticate.renamed",
            Self::NoWallTime => "authenticate.time",
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(denial: AuthError) -> Self {
        let refusal = |code| Self::new(code, denial.label(), denial);
        match denial {
            AuthError::KeyNotRefreshed { retry_after: after }
            | AuthError::KeysNotFetched { retry_after: after } => {
                refusal(Code::Unavailable).with_retry_after(after)
            }
            AuthError::TooManyWaiters | AuthError::IdentityChanged => {
                refusal(Code::Unavailable).with_retry_after(RETRY_AFTER)
            }
            AuthError::NoWallTime => refusal(Code::Internal),
            AuthError::Missing
            | AuthError::DuplicateHeader
            | AuthError::ConflictingHeaders
            | AuthError::NotBearer
            | AuthError::NotJwt
            | AuthError::TooLarge
            | AuthError::CriticalHeader
            | AuthError::UnsupportedAlgorithm
            | AuthError::UntrustedIssuer
            | AuthError::InvalidSignature
            | AuthError::UnknownKey
            | AuthError::Expired
            | AuthError::NotYetValid
            | AuthError::WrongAudience
            | AuthError::InvalidClaims(_)
            | AuthError::ReservedUser
            | AuthError::CertificateReservedUser
            | AuthError::CertificateUser
            | AuthError::CertificateExpired
            | AuthError::CertificateUntrusted
            | AuthError::CertificateInvalidUser(_) => refusal(Code::Unauthenticated),
        }
    }
}
