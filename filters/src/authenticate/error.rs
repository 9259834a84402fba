//! The refusals of the filter.
//!
//! Must not contain a part of a token, nor the value that would be accepted: the caller may be an
//! attacker.

use crate::{
    Code, Refusal,
    identity::{IdentityError, IdentityField},
};
use std::{fmt, time::Duration};

/// Delay for retries, where no other one is known.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The refusal of a call whose token has expired, and whose session did not begin before the
/// expiry.
pub fn token_expired() -> Refusal {
    AuthError::Expired.into()
}

const RESERVED_USER: &str = "the token's user has the prefix of another identity provider's users \
    (user_prefix): ask for an account with another name";
const CERTIFICATE_RESERVED_USER: &str = "the client certificate's user has the prefix of an \
    identity provider's users (user_prefix): ask for a certificate with another name";
const CERTIFICATE_UNTRUSTED: &str = "the authority of the client certificate is no longer trusted \
    here: reconnect with a certificate of another authority";
const KEY_NOT_REFRESHED: &str = "the token's key is unknown and the keys of its identity provider \
    could not be refreshed; retry";

/// Why a call is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthError {
    /// No token and no certificate.
    Missing,
    /// More than one `authorization`, or more than one `authentication` header.
    DuplicateHeader,
    /// `authorization` and `authentication` differ.
    ConflictingHeaders,
    /// The header is not `Bearer <token>`.
    NotBearer,
    /// The token is neither a JWT nor a static token.
    NotJwt,
    /// The token has too many claims, values or levels of nesting.
    TooLarge,
    /// The token has a critical header parameter (RFC 7515, 4.1.11).
    CriticalHeader,
    /// The issuer does not use this signature algorithm.
    UnsupportedAlgorithm,
    /// The issuer is not trusted.
    UntrustedIssuer,
    /// No key of the issuer verifies the signature.
    InvalidSignature,
    /// The issuer has no such key.
    UnknownKey,
    /// The key is unknown, and no refresh was possible since the call arrived.
    KeyNotRefreshed { retry_after: Duration },
    /// No keys of the issuer have been fetched yet.
    KeysNotFetched { retry_after: Duration },
    /// Too many calls wait for a refresh.
    TooManyWaiters,
    /// The token has expired.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
    /// The token has another audience.
    WrongAudience,
    /// The user has a reserved prefix of another issuer.
    ReservedUser,
    /// The signature is valid, but the claims are not.
    InvalidClaims(ClaimError),
    /// The certificate names no user, or several.
    CertificateUser,
    /// The certificate has expired.
    CertificateExpired,
    /// The authority of the certificate is not trusted any more.
    CertificateUntrusted,
    /// The user in the certificate is not a valid identity.
    CertificateInvalidUser(IdentityError),
    /// The credential now has another identity than at admission.
    IdentityChanged,
    /// The user in the certificate has a reserved prefix of an issuer.
    CertificateReservedUser,
    /// The call has no wall-clock time: an internal error.
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
    fn from(error: ClaimError) -> Self {
        Self::InvalidClaims(error)
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser => f.write_str("no claim names the user"),
            Self::NotString(part) => write!(f, "the {} is not a string", part.name()),
            Self::NoExpiry => f.write_str("the expiry (exp) is missing"),
            Self::EmailNotVerified => f.write_str("the e-mail address is not verified"),
            Self::EmailVerifiedMissing => f.write_str("email_verified is missing"),
            Self::NotTime(name) => write!(f, "{name} is not a time"),
            Self::Invalid(error) => write!(f, "{error}"),
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
                "the authorization (or authentication) header is not 'Bearer <token>'"
            }
            Self::NotJwt => "the token is neither a valid JWT nor a configured static token",
            Self::TooLarge => {
                "the token has more than 256 claims, 2048 values or 16 levels of nesting"
            }
            Self::CriticalHeader => {
                "the token has a critical header parameter (crit) that sconce does not support"
            }
            Self::UnsupportedAlgorithm => {
                "the token's signature algorithm (alg) is not accepted here"
            }
            Self::UntrustedIssuer => "the token's issuer is not trusted here",
            Self::InvalidSignature | Self::UnknownKey => {
                "the token's signature is invalid or its key is unknown"
            }
            Self::KeyNotRefreshed { .. } => KEY_NOT_REFRESHED,
            Self::KeysNotFetched { .. } => {
                "the keys of the token's identity provider have not been fetched yet; retry"
            }
            Self::TooManyWaiters => {
                "too many calls are waiting for the keys of the identity provider; retry"
            }
            Self::Expired => {
                "the token has expired: call spark.stop(), then create a new session with a new \
                 token"
            }
            Self::NotYetValid => "the token is not valid yet (nbf, iat)",
            Self::WrongAudience => "the token is not issued for this service (aud)",
            Self::InvalidClaims(error) => {
                return write!(f, "the token's claims are not valid: {error}");
            }
            Self::CertificateUser => "the client certificate does not name exactly one user",
            Self::CertificateExpired => {
                "the client certificate has expired: reconnect with a new one"
            }
            Self::CertificateUntrusted => CERTIFICATE_UNTRUSTED,
            Self::CertificateInvalidUser(error) => {
                return write!(f, "the user in the client certificate is not valid: {error}");
            }
            Self::IdentityChanged => "a reload has changed the user of this call: retry",
            Self::ReservedUser => RESERVED_USER,
            Self::CertificateReservedUser => CERTIFICATE_RESERVED_USER,
            Self::NoWallTime => {
                "internal error: the time of day is unknown; report this to the operators"
            }
        })
    }
}

impl AuthError {
    /// Whether the same token is rejected for the same reason until the keys or the configuration
    /// change, as time goes forward.
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
            Self::ConflictingHeaders => "authenticate.conflicting_headers",
            Self::NotBearer | Self::NotJwt | Self::TooLarge | Self::CriticalHeader => {
                "authenticate.malformed"
            }
            Self::UnsupportedAlgorithm | Self::InvalidSignature => "authenticate.signature",
            Self::UntrustedIssuer => "authenticate.issuer",
            Self::UnknownKey => "authenticate.key_unknown",
            Self::KeyNotRefreshed { .. } => "authenticate.key_not_refreshed",
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
            Self::IdentityChanged => "authenticate.identity_changed",
            Self::NoWallTime => "authenticate.time",
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let refusal = |code| Self::new(code, error.label(), error);
        match error {
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
