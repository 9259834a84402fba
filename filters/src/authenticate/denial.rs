//! What the room says to a call that it turns away.
//!
//! Must never show a part of a token, nor what would have been right: the caller may be a stranger.

use crate::{
    Code, Refusal,
    identity::{IdentityFault, Part},
};
use std::{fmt, time::Duration};

/// When trying again may help.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The refusal of a call whose token has expired, and whose session did not begin before that.
pub fn expired() -> Refusal {
    Denial::Expired.into()
}

/// Why a call proves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// Neither a token nor a certificate.
    Missing,
    /// More than one `authorization`, or more than one `authentication`.
    Duplicate,
    /// Both are there and differ.
    Contradiction,
    /// Its value is no bearer token.
    Malformed,
    /// Its token is no signed one, and none of those that are listed.
    Unsigned,
    /// More claims, values or levels of nesting than a token may have.
    TooLarge,
    /// A header that must be understood and is not (RFC 7515, 4.1.11).
    Critical,
    /// Another way of signing than the issuer's.
    Algorithm,
    /// Nobody whose word counts.
    Issuer,
    /// No signature by the issuer's key.
    Signature,
    /// The issuer has no such key.
    KeyUnknown,
    /// The issuer had no such key, and could not be asked whether it has one now; it may be, after
    /// so long.
    KeyUnasked { after: Duration },
    /// The issuer's keys were never fetched; they may be, after so long.
    KeysMissing { after: Duration },
    /// Too many calls wait for other keys.
    Busy,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// It is meant for somebody else.
    Audience,
    /// It names a user who belongs to another issuer.
    Foreign,
    /// It is right and says nothing that can be used.
    Claims(ClaimFault),
    /// The certificate names no user, or several.
    Certificate,
    /// The time of the certificate is over.
    CertificateExpired,
    /// Nobody who is trusted vouches for the certificate any more.
    CertificateWithdrawn,
    /// The name in the certificate is none.
    CertificateName(IdentityFault),
    /// The credential proves somebody else than it did when the call was admitted.
    Renamed,
    /// The name in the certificate is that of an issuer's user.
    CertificateForeign,
    /// Nobody told the call what time it is.
    NoTime,
}

/// What is wrong with the claims of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimFault {
    NoUser,
    NoText(Part),
    NoExpiry,
    Unverified,
    VerifiedMissing,
    NoTime(&'static str),
    Unsound(IdentityFault),
}

impl From<ClaimFault> for Denial {
    fn from(fault: ClaimFault) -> Self {
        Self::Claims(fault)
    }
}

impl fmt::Display for ClaimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser => f.write_str("none names a user"),
            Self::NoText(part) => write!(f, "a {} is no text", part.name()),
            Self::NoExpiry => f.write_str("none says when it ends (exp)"),
            Self::Unverified => f.write_str("the e-mail address is not verified"),
            Self::VerifiedMissing => {
                f.write_str("none says that the e-mail address is verified (email_verified)")
            }
            Self::NoTime(name) => write!(f, "{name} is no time"),
            Self::Unsound(fault) => write!(f, "{fault}"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no token: add ;token=... to the sc:// URL",
            Self::Duplicate => "more than one authorization or authentication header: send one",
            Self::Contradiction => {
                "the authorization and authentication headers differ: send one of them"
            }
            Self::Malformed => {
                "the authorization (or authentication) header is not 'Bearer' and one token"
            }
            Self::Unsigned => {
                "the token is neither a signed token (JWT) nor one that is known here"
            }
            Self::TooLarge => {
                "the token has more than 256 claims, 2048 values or 16 levels of nesting"
            }
            Self::Critical => "the token must not be used by who does not know its header (crit)",
            Self::Algorithm => "the token is signed in a way (alg) that is not accepted here",
            Self::Issuer => "the token's issuer is not trusted here",
            Self::Signature | Self::KeyUnknown => {
                "the token's signature is not right or its key is not known"
            }
            Self::KeyUnasked { .. } => {
                "the identity provider could not be asked about the token's key"
            }
            Self::KeysMissing { .. } => {
                "the keys of the identity provider that issued the token are not there yet"
            }
            Self::Busy => "too many calls wait for the keys of the identity provider",
            Self::Expired => {
                "the token has expired: call spark.stop(), then begin a new session with a new \
                 token"
            }
            Self::Early => "the token is not valid yet (nbf, iat)",
            Self::Audience => "the token is not meant for this service (aud)",
            Self::Claims(fault) => return write!(f, "the token's claims cannot be used: {fault}"),
            Self::Certificate => "the client certificate does not name one user",
            Self::CertificateExpired => {
                "the client certificate has expired: connect anew with a new one"
            }
            Self::CertificateWithdrawn => {
                "the authority of the client certificate is not trusted here any more: show another"
            }
            Self::CertificateName(fault) => {
                return write!(f, "the client certificate names no user: {fault}");
            }
            Self::Renamed => {
                "the configuration has changed whom this call is from: make the call again"
            }
            Self::Foreign => {
                "the token's user has a name that begins with the prefix of another identity \
                 provider's users (user_prefix): ask for an account with another name"
            }
            Self::CertificateForeign => {
                "the client certificate's user has a name that begins with the prefix of an \
                 identity provider's users (user_prefix): ask for a certificate with another name"
            }
            Self::NoTime => "the time of day is not known",
        })
    }
}

impl Denial {
    /// Whether the same token is refused for the same reason for as long as neither the keys nor
    /// the configuration change, and the clock goes forward.
    pub(super) fn is_lasting(self) -> bool {
        match self {
            Self::Unsigned
            | Self::TooLarge
            | Self::Critical
            | Self::Algorithm
            | Self::Issuer
            | Self::Signature
            | Self::KeyUnknown
            | Self::Expired
            | Self::Audience
            | Self::Claims(_)
            | Self::Foreign => true,
            Self::Missing
            | Self::Duplicate
            | Self::Contradiction
            | Self::Malformed
            | Self::KeyUnasked { .. }
            | Self::KeysMissing { .. }
            | Self::Busy
            | Self::Early
            | Self::Certificate
            | Self::CertificateExpired
            | Self::CertificateWithdrawn
            | Self::CertificateName(_)
            | Self::CertificateForeign
            | Self::Renamed
            | Self::NoTime => false,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Missing => "authenticate.missing",
            Self::Duplicate => "authenticate.duplicate",
            Self::Contradiction => "authenticate.contradiction",
            Self::Malformed | Self::Unsigned | Self::TooLarge | Self::Critical => {
                "authenticate.malformed"
            }
            Self::Algorithm | Self::Signature => "authenticate.signature",
            Self::Issuer => "authenticate.issuer",
            Self::KeyUnknown => "authenticate.key_unknown",
            Self::KeyUnasked { .. } => "authenticate.key_unasked",
            Self::KeysMissing { .. } => "authenticate.keys_missing",
            Self::Busy => "authenticate.busy",
            Self::Expired => "authenticate.expired",
            Self::Early => "authenticate.early",
            Self::Audience => "authenticate.audience",
            Self::Claims(_) => "authenticate.claims",
            Self::Certificate
            | Self::CertificateExpired
            | Self::CertificateWithdrawn
            | Self::CertificateName(_) => "authenticate.certificate",
            Self::Foreign | Self::CertificateForeign => "authenticate.user_prefix",
            Self::Renamed => "authenticate.renamed",
            Self::NoTime => "authenticate.time",
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let refusal = |code| Self::new(code, denial.label(), denial);
        match denial {
            Denial::KeyUnasked { after } | Denial::KeysMissing { after } => {
                refusal(Code::Unavailable).retry_after(after)
            }
            Denial::Busy | Denial::Renamed => refusal(Code::Unavailable).retry_after(RETRY),
            Denial::NoTime => refusal(Code::Internal),
            Denial::Missing
            | Denial::Duplicate
            | Denial::Contradiction
            | Denial::Malformed
            | Denial::Unsigned
            | Denial::TooLarge
            | Denial::Critical
            | Denial::Algorithm
            | Denial::Issuer
            | Denial::Signature
            | Denial::KeyUnknown
            | Denial::Expired
            | Denial::Early
            | Denial::Audience
            | Denial::Claims(_)
            | Denial::Foreign
            | Denial::CertificateForeign
            | Denial::Certificate
            | Denial::CertificateExpired
            | Denial::CertificateWithdrawn
            | Denial::CertificateName(_) => refusal(Code::Unauthenticated),
        }
    }
}
