//! The claims of a token: identity and validity period.
//!
//! Only verified claims may be passed in, except to [`ValidityWindow`], which can only refuse.

use super::{
    ClaimSettings,
    error::{AuthError, ClaimError},
};
use crate::identity::{IdentityField, RawIdentity, is_valid_text};
use serde_json::{Map, Value};
use std::time::Duration;

/// The claims of a token. Of two members with the same name, JSON keeps the last.
pub(super) type Claims = Map<String, Value>;

/// The claims with an e-mail address and its verification.
const EMAIL: &str = "email";
const EMAIL_VERIFIED: &str = "email_verified";

/// The validity period of a token, since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValidityWindow {
    not_before: Duration,
    /// `None` if it does not expire.
    expires_at: Option<Duration>,
}

impl ValidityWindow {
    /// The period of credentials without one.
    pub(super) const ALWAYS: Self = Self { not_before: Duration::ZERO, expires_at: None };

    /// The period of a JWT: `exp` is required; `nbf` and `iat` are optional, and must not be in the
    /// future.
    pub(super) fn from_claims(claims: &Claims, skew: Duration) -> Result<Self, AuthError> {
        let ends = timestamp(claims, "exp")?.ok_or(ClaimError::NoExpiry)?;
        let begins = timestamp(claims, "nbf")?.max(timestamp(claims, "iat")?).unwrap_or_default();
        Ok(Self { not_before: begins.saturating_sub(skew), expires_at: Some(ends) })
    }

    /// Checks the current time, for a token that is accepted for `leeway` after its expiry.
    pub(super) fn check_at(&self, now: Duration, leeway: Duration) -> Result<(), AuthError> {
        if self.expires_at.is_some_and(|ends| now >= ends.saturating_add(leeway)) {
            return Err(AuthError::Expired);
        }
        if now < self.not_before { Err(AuthError::NotYetValid) } else { Ok(()) }
    }
}

/// A time in seconds, with an optional fraction. `null` counts as absent.
pub(super) fn timestamp(
    claims: &Claims,
    name: &'static str,
) -> Result<Option<Duration>, ClaimError> {
    let Some(value) = claims.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let seconds = value.as_u64().map(Duration::from_secs);
    let fraction = || value.as_f64().and_then(|it| Duration::try_from_secs_f64(it).ok());
    seconds.or_else(fraction).map(Some).ok_or(ClaimError::NotTime(name))
}

/// Whether `aud` contains one of these audiences.
pub(super) fn has_audience(claims: &Claims, audiences: &[String]) -> bool {
    let is_ours = |value: &Value| {
        value.as_str().is_some_and(|text| audiences.iter().any(|audience| audience == text))
    };
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

/// The identity in the claims. Optional values that are not valid are left out: users cannot
/// correct the claims of their own tokens.
pub(super) fn raw_identity(
    claims: &Claims,
    settings: &ClaimSettings,
) -> Result<RawIdentity, ClaimError> {
    let user = lookup(claims, &settings.user).ok_or(ClaimError::NoUser)?;
    let user = user.as_str().ok_or(ClaimError::NotString(IdentityField::User))?;
    check_email_verified(claims, settings)?;
    let names = settings.display_name.iter().filter_map(|path| lookup(claims, path)?.as_str());
    let display_name = names.into_iter().find(|name| is_valid_text(name));
    let groups = strings(claims, &settings.groups, IdentityField::Group)?;
    let groups = groups.into_iter().map(|group| settings.groups_prefix.clone() + &group).collect();
    let teams = match &settings.teams {
        Some(path) => strings(claims, path, IdentityField::Team)?,
        None => Vec::new(),
    };
    let (user, display_name) =
        (settings.user_prefix.clone() + user, display_name.map(str::to_owned));
    Ok(RawIdentity { user, display_name, groups, teams })
}

/// An unverified e-mail address is not trusted (OpenID Connect Core 1.0, 5.1). `email_verified` may
/// be at the top level and beside a nested address; each occurrence must be `true`.
fn check_email_verified(claims: &Claims, settings: &ClaimSettings) -> Result<(), ClaimError> {
    let (user, required) = (settings.user.as_str(), settings.require_verified_email);
    let name_at = user.rfind(['.', '/', ':']).map_or(0, |at| at.saturating_add(1));
    let (path, name) = user.split_at_checked(name_at).unwrap_or(("", user));
    if name != EMAIL && !required {
        return Ok(());
    }
    let beside = format!("{path}{EMAIL_VERIFIED}");
    let values = [claims.get(EMAIL_VERIFIED), claims.get(&beside), at_path(claims, &beside)];
    let mut values = values.into_iter().flatten().peekable();
    if required && values.peek().is_none() {
        return Err(ClaimError::EmailVerifiedMissing);
    }
    if values.all(|it| *it == Value::Bool(true)) {
        Ok(())
    } else {
        Err(ClaimError::EmailNotVerified)
    }
}

fn strings(claims: &Claims, path: &str, part: IdentityField) -> Result<Vec<String>, ClaimError> {
    let all = match lookup(claims, path) {
        None => &[],
        Some(Value::Array(all)) => all.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(_) => return Err(ClaimError::NotString(part)),
    };
    let texts = all.iter().filter_map(Value::as_str).filter(|text| is_valid_text(text));
    Ok(texts.map(str::to_owned).collect())
}

/// The claim of this name, or else at this path. `null` counts as absent.
pub(super) fn lookup<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| at_path(claims, path)).filter(|value| !value.is_null())
}

/// The claim at a path with dots between the steps.
fn at_path<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SKEW: Duration = Duration::from_secs(30);

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn at(value: Value, seconds: u64) -> Result<(), AuthError> {
        let window = ValidityWindow::from_claims(&claims(value), SKEW)?;
        window.check_at(Duration::from_secs(seconds), SKEW + Duration::from_secs(100))
    }

    fn owned(value: Value) -> Result<RawIdentity, ClaimError> {
        let teams = Some("sconce.teams".to_owned());
        raw_identity(&claims(value), &ClaimSettings { teams, ..ClaimSettings::default() })
    }

    #[test]
    fn a_token_is_accepted_for_the_leeway_after_its_expiry() {
        assert_eq!(at(json!({"exp": 1000}), 1129), Ok(()));
        assert_eq!(at(json!({"exp": 1000}), 1130), Err(AuthError::Expired));
        assert_eq!(at(json!({"exp": 1000.5}), 1130), Ok(()));
        assert_eq!(at(json!({"exp": 1000.5}), 1131), Err(AuthError::Expired));
        assert_eq!(at(json!({"exp": u64::MAX}), u64::MAX - 1), Ok(()));
    }

    #[test]
    fn a_token_starts_at_the_later_of_nbf_and_iat_minus_skew() {
        for value in
            [json!({"exp": 9000, "nbf": 1000}), json!({"exp": 9000, "iat": 1000, "nbf": 1})]
        {
            assert_eq!(at(value.clone(), 969), Err(AuthError::NotYetValid));
            assert_eq!(at(value, 970), Ok(()));
        }
    }

    #[test]
    fn an_invalid_time_is_refused() {
        for none in [json!({}), json!({"exp": null, "nbf": null})] {
            assert_eq!(at(none, 1), Err(AuthError::InvalidClaims(ClaimError::NoExpiry)));
        }
        for odd in [json!("1000"), json!(-1), json!(1e300), json!([1000])] {
            let error = |name| Err(AuthError::InvalidClaims(ClaimError::NotTime(name)));
            assert_eq!(at(json!({"exp": odd}), 1), error("exp"));
            assert_eq!(at(json!({"exp": 9000, "nbf": odd}), 1), error("nbf"));
            assert_eq!(at(json!({"exp": 9000, "iat": odd}), 1), error("iat"));
        }
    }

    #[test]
    fn aud_may_be_a_string_or_a_list() {
        let ours = ["sconce".to_owned(), "spark".to_owned()];
        for aud in [json!("spark"), json!(["x", "sconce"]), json!([7, "spark"])] {
            assert!(has_audience(&claims(json!({ "aud": aud })), &ours));
        }
        for aud in [json!("spark "), json!(["x"]), json!([["spark"]]), json!(null), json!({})] {
            assert!(!has_audience(&claims(json!({ "aud": aud })), &ours));
        }
        assert!(!has_audience(&claims(json!({})), &ours));
        assert!(!has_audience(&claims(json!({"aud": "spark"})), &[]));
    }

    #[test]
    fn the_display_name_is_the_first_existing_claim() {
        let name = |value| owned(value).unwrap().display_name;
        let both = json!({"sub": "7", "name": "Ann", "preferred_username": "ann"});
        assert_eq!(name(both).as_deref(), Some("Ann"));
        let one = json!({"sub": "7", "name": null, "preferred_username": "ann"});
        assert_eq!(name(one).as_deref(), Some("ann"));
        assert_eq!(name(json!({"sub": "7"})), None);
        for useless in [json!(""), json!(7), json!("a\nb"), json!("n".repeat(999))] {
            let one = json!({"sub": "7", "name": useless, "preferred_username": "ann"});
            assert_eq!(name(one).as_deref(), Some("ann"));
        }
    }

    #[test]
    fn an_invalid_group_is_left_out() {
        let groups = json!(["a", "", 1, "b\u{202e}", "g".repeat(999), ["c"], null, "d"]);
        assert_eq!(owned(json!({"sub": "7", "groups": groups})).unwrap().groups, ["a", "d"]);
        assert_eq!(owned(json!({"sub": "7", "groups": ""})).unwrap().groups, [""; 0]);
    }

    #[test]
    fn users_and_groups_have_the_prefix_of_their_issuer() {
        let (user_prefix, groups_prefix) = ("b:".to_owned(), "bb:".to_owned());
        let settings = ClaimSettings { user_prefix, groups_prefix, ..ClaimSettings::default() };
        let one = claims(json!({"sub": "ann", "name": "Ann", "groups": ["x", "y"]}));
        let owner = raw_identity(&one, &settings).unwrap();
        assert_eq!((&*owner.user, owner.display_name.as_deref()), ("b:ann", Some("Ann")));
        assert_eq!(owner.groups, ["bb:x", "bb:y"]);
    }

    #[test]
    fn an_unverified_email_address_is_refused_as_user() {
        let by = |user: &str, value: Value| {
            let settings = ClaimSettings { user: user.to_owned(), ..ClaimSettings::default() };
            raw_identity(&claims(value), &settings).map(|claimed| claimed.user)
        };
        let claims = |verified: Value| json!({"email": "ann@x", "email_verified": verified});
        for odd in [json!(false), json!("true"), json!(null)] {
            assert_eq!(by("email", claims(odd)), Err(ClaimError::EmailNotVerified));
        }
        assert_eq!(by("email", claims(json!(true))).as_deref(), Ok("ann@x"));
        assert_eq!(by("email", json!({"email": "ann@x"})).as_deref(), Ok("ann@x"));
        let other = json!({"sub": "7", "email": "ann@x", "email_verified": false});
        assert_eq!(by("sub", other).as_deref(), Ok("7"));
    }

    /// The user of a token by this claim, with or without `require_verified_email`.
    fn addressed(
        user: &str,
        require_verified_email: bool,
        value: Value,
    ) -> Result<String, ClaimError> {
        let user = user.to_owned();
        let settings = ClaimSettings { user, require_verified_email, ..ClaimSettings::default() };
        raw_identity(&claims(value), &settings).map(|claimed| claimed.user)
    }

    #[test]
    fn email_verified_is_read_beside_a_nested_address_and_at_the_top() {
        let profile = |verified: Value| json!({"email": "ann@x", "email_verified": verified});
        for odd in [json!(false), json!("true"), json!(null)] {
            let nested = json!({"profile": profile(odd.clone())});
            let above = json!({"profile": profile(json!(true)), "email_verified": odd});
            let deeper = json!({"a": {"profile": profile(odd.clone())}});
            let dotted = json!({"profile.email": "ann@x", "profile.email_verified": odd});
            let named = json!({"https://x/email": "ann@x", "https://x/email_verified": odd});
            for (user, value) in [
                ("profile.email", nested),
                ("profile.email", above),
                ("a.profile.email", deeper),
                ("profile.email", dotted),
                ("https://x/email", named),
            ] {
                let user = addressed(user, false, value.clone());
                assert_eq!(user, Err(ClaimError::EmailNotVerified), "{value}");
            }
        }
        let verified = json!({"profile": profile(json!(true)), "email_verified": true});
        assert_eq!(addressed("profile.email", false, verified).as_deref(), Ok("ann@x"));
        let unsaid = json!({"profile": {"email": "ann@x"}});
        assert_eq!(addressed("profile.email", false, unsaid).as_deref(), Ok("ann@x"));
        let elsewhere = json!({"profile": {"email": "ann@x"}, "work": profile(json!(false))});
        assert_eq!(addressed("profile.email", false, elsewhere).as_deref(), Ok("ann@x"));
    }

    #[test]
    fn email_verified_can_be_required() {
        let required = |user, value| addressed(user, true, value);
        let unsaid = Err(ClaimError::EmailVerifiedMissing);
        assert_eq!(required("email", json!({"email": "ann@x"})), unsaid);
        assert_eq!(required("profile.email", json!({"profile": {"email": "ann@x"}})), unsaid);
        let elsewhere = json!({"email": "ann@x", "profile": {"email_verified": true}});
        assert_eq!(required("email", elsewhere), unsaid);
        for odd in [json!(false), json!("true"), json!(null), json!(1)] {
            let value = json!({"email": "ann@x", "email_verified": odd});
            assert_eq!(required("email", value), Err(ClaimError::EmailNotVerified), "{odd}");
        }
        let top = json!({"profile": {"email": "ann@x"}, "email_verified": true});
        assert_eq!(required("profile.email", top).as_deref(), Ok("ann@x"));
        let beside = json!({"profile": {"email": "ann@x", "email_verified": true}});
        assert_eq!(required("profile.email", beside).as_deref(), Ok("ann@x"));
        // It also applies to users that are not e-mail addresses.
        assert_eq!(required("sub", json!({"sub": "7"})), unsaid);
        assert_eq!(
            required("sub", json!({"sub": "7", "email_verified": true})).as_deref(),
            Ok("7")
        );
        let refused = required("sub", json!({"sub": "7", "email_verified": false}));
        assert_eq!(refused, Err(ClaimError::EmailNotVerified));
        let mail = json!({"profile": {"mail": "ann@x", "email_verified": true}});
        assert_eq!(required("profile.mail", mail).as_deref(), Ok("ann@x"));
    }

    #[test]
    fn groups_and_teams_may_be_a_string_or_a_list_at_a_path() {
        let claimed = json!({"sub": "7", "groups": "a b", "sconce": {"teams": ["ads", "ml"]}});
        let claimed = owned(claimed).unwrap();
        assert_eq!(claimed.groups, ["a b"]);
        assert_eq!(claimed.teams, ["ads", "ml"]);
    }

    #[test]
    fn a_claim_name_with_dots_takes_precedence_over_a_path() {
        let both = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}});
        let both = claims(both);
        assert_eq!(lookup(&both, "a.b"), Some(&json!(1)));
        assert_eq!(lookup(&both, "a.c.d"), Some(&json!(3)));
        for path in ["a.c.e", "a.b.c", "", ".", "b"] {
            assert_eq!(lookup(&both, path), None, "{path}");
        }
    }

    #[test]
    fn claims_of_the_wrong_type_are_refused() {
        assert_eq!(owned(json!({})), Err(ClaimError::NoUser));
        assert_eq!(owned(json!({"sub": 7})), Err(ClaimError::NotString(IdentityField::User)));
        let groups = json!({"sub": "7", "groups": 1});
        assert_eq!(owned(groups), Err(ClaimError::NotString(IdentityField::Group)));
        let teams = json!({"sub": "7", "sconce.teams": {"ads": true}});
        assert_eq!(owned(teams), Err(ClaimError::NotString(IdentityField::Team)));
    }
}
