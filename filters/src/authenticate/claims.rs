//! What the claims of a token say of its owner, and of its own time.
//!
//! Must be asked of verified claims alone, but for [`Window`], which can only refuse.

use super::{
    ClaimSettings,
    denial::{ClaimFault, Denial},
};
use crate::identity::{Claimed, Part};
use serde_json::{Map, Value};
use std::time::Duration;

/// The claims of a token. Of two with the same name JSON keeps the last.
pub(super) type Claims = Map<String, Value>;

/// When a token counts, in time since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    opens: Duration,
    /// `None` for what does not end.
    closes: Option<Duration>,
}

impl Window {
    /// Of a proof that counts at all times.
    pub(super) const ALWAYS: Self = Self { opens: Duration::ZERO, closes: None };

    /// Of a token: `exp` must be there; `nbf` and `iat` may be, and must not lie ahead.
    pub(super) fn of(claims: &Claims, skew: Duration, grace: Duration) -> Result<Self, Denial> {
        let ends = moment(claims, "exp")?.ok_or(ClaimFault::NoExpiry)?;
        let begins = moment(claims, "nbf")?.max(moment(claims, "iat")?).unwrap_or_default();
        let closes = ends.saturating_add(skew).saturating_add(grace);
        Ok(Self { opens: begins.saturating_sub(skew), closes: Some(closes) })
    }

    /// Whether now is within.
    pub(super) fn holds(&self, now: Duration) -> Result<(), Denial> {
        if self.closes.is_some_and(|closes| now >= closes) {
            return Err(Denial::Expired);
        }
        if now < self.opens { Err(Denial::Early) } else { Ok(()) }
    }
}

/// A time in seconds, which may have a fraction.
pub(super) fn moment(claims: &Claims, name: &'static str) -> Result<Option<Duration>, ClaimFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64().map(Duration::from_secs);
    let parted = || value.as_f64().and_then(|it| Duration::try_from_secs_f64(it).ok());
    whole.or_else(parted).map(Some).ok_or(ClaimFault::NoTime(name))
}

/// Whether a token is meant for one of these.
pub(super) fn is_meant_for(claims: &Claims, audiences: &[String]) -> bool {
    let is_ours = |value: &Value| {
        value.as_str().is_some_and(|text| audiences.iter().any(|audience| audience == text))
    };
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

/// Whom a token proves.
pub(super) fn owner(claims: &Claims, settings: &ClaimSettings) -> Result<Claimed, ClaimFault> {
    let user = text(claims, &settings.user, Part::User)?.ok_or(ClaimFault::NoUser)?;
    let mut display_name = None;
    for path in &settings.display_name {
        if display_name.is_none() {
            display_name = text(claims, path, Part::DisplayName)?;
        }
    }
    let groups = texts(claims, &settings.groups, Part::Group)?;
    let teams = match &settings.teams {
        Some(path) => texts(claims, path, Part::Team)?,
        None => Vec::new(),
    };
    let (user, display_name) = (user.to_owned(), display_name.map(str::to_owned));
    Ok(Claimed { user, display_name, groups, teams })
}

fn text<'c>(claims: &'c Claims, path: &str, part: Part) -> Result<Option<&'c str>, ClaimFault> {
    match find(claims, path) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(ClaimFault::NoText(part)),
    }
}

fn texts(claims: &Claims, path: &str, part: Part) -> Result<Vec<String>, ClaimFault> {
    let own = |value: &Value| value.as_str().map(str::to_owned).ok_or(ClaimFault::NoText(part));
    match find(claims, path) {
        None => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(own).collect(),
        Some(one) => Ok(vec![own(one)?]),
    }
}

/// The claim with this very name, or else the one at the end of this path. `null` is no claim.
fn find<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    let along = || {
        let mut steps = path.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.as_object()?.get(step))
    };
    claims.get(path).or_else(along).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SKEW: Duration = Duration::from_secs(30);

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn at(value: Value, seconds: u64) -> Result<(), Denial> {
        let window = Window::of(&claims(value), SKEW, Duration::from_secs(100))?;
        window.holds(Duration::from_secs(seconds))
    }

    fn owned(value: Value) -> Result<Claimed, ClaimFault> {
        let teams = Some("sconce.teams".to_owned());
        owner(&claims(value), &ClaimSettings { teams, ..ClaimSettings::default() })
    }

    #[test]
    fn a_token_ends_after_its_expiry_and_skew_and_grace() {
        assert_eq!(at(json!({"exp": 1000}), 1129), Ok(()));
        assert_eq!(at(json!({"exp": 1000}), 1130), Err(Denial::Expired));
        assert_eq!(at(json!({"exp": 1000.5}), 1130), Ok(()));
        assert_eq!(at(json!({"exp": 1000.5}), 1131), Err(Denial::Expired));
        assert_eq!(at(json!({"exp": u64::MAX}), u64::MAX - 1), Ok(()));
    }

    #[test]
    fn a_token_begins_with_the_later_of_its_beginnings_less_the_skew() {
        for value in
            [json!({"exp": 9000, "nbf": 1000}), json!({"exp": 9000, "iat": 1000, "nbf": 1})]
        {
            assert_eq!(at(value.clone(), 969), Err(Denial::Early));
            assert_eq!(at(value, 970), Ok(()));
        }
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert_eq!(at(json!({}), 1), Err(Denial::Claims(ClaimFault::NoExpiry)));
        for odd in [json!("1000"), json!(-1), json!(1e300), json!(null), json!([1000])] {
            let fault = |name| Err(Denial::Claims(ClaimFault::NoTime(name)));
            assert_eq!(at(json!({"exp": odd}), 1), fault("exp"));
            assert_eq!(at(json!({"exp": 9000, "nbf": odd}), 1), fault("nbf"));
            assert_eq!(at(json!({"exp": 9000, "iat": odd}), 1), fault("iat"));
        }
    }

    #[test]
    fn an_audience_may_be_one_text_or_a_list() {
        let ours = ["sconce".to_owned(), "spark".to_owned()];
        for aud in [json!("spark"), json!(["x", "sconce"]), json!([7, "spark"])] {
            assert!(is_meant_for(&claims(json!({ "aud": aud })), &ours));
        }
        for aud in [json!("spark "), json!(["x"]), json!([["spark"]]), json!(null), json!({})] {
            assert!(!is_meant_for(&claims(json!({ "aud": aud })), &ours));
        }
        assert!(!is_meant_for(&claims(json!({})), &ours));
        assert!(!is_meant_for(&claims(json!({"aud": "spark"})), &[]));
    }

    #[test]
    fn the_display_name_is_the_first_that_is_there() {
        let name = |value| owned(value).unwrap().display_name;
        let both = json!({"sub": "7", "name": "Ann", "preferred_username": "ann"});
        assert_eq!(name(both).as_deref(), Some("Ann"));
        let one = json!({"sub": "7", "name": null, "preferred_username": "ann"});
        assert_eq!(name(one).as_deref(), Some("ann"));
        assert_eq!(name(json!({"sub": "7"})), None);
    }

    #[test]
    fn groups_and_teams_may_be_one_text_or_a_list_at_the_end_of_a_path() {
        let claimed = json!({"sub": "7", "groups": "a b", "sconce": {"teams": ["ads", "ml"]}});
        let claimed = owned(claimed).unwrap();
        assert_eq!(claimed.groups, ["a b"]);
        assert_eq!(claimed.teams, ["ads", "ml"]);
    }

    #[test]
    fn a_name_with_dots_wins_over_the_path_of_the_same_spelling() {
        let both = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}});
        let both = claims(both);
        assert_eq!(find(&both, "a.b"), Some(&json!(1)));
        assert_eq!(find(&both, "a.c.d"), Some(&json!(3)));
        for path in ["a.c.e", "a.b.c", "", ".", "b"] {
            assert_eq!(find(&both, path), None, "{path}");
        }
    }

    #[test]
    fn claims_of_another_form_are_refused_and_not_guessed_at() {
        assert_eq!(owned(json!({})), Err(ClaimFault::NoUser));
        assert_eq!(owned(json!({"sub": 7})), Err(ClaimFault::NoText(Part::User)));
        let groups = json!({"sub": "7", "groups": ["a", 1]});
        assert_eq!(owned(groups), Err(ClaimFault::NoText(Part::Group)));
        let teams = json!({"sub": "7", "sconce.teams": {"ads": true}});
        assert_eq!(owned(teams), Err(ClaimFault::NoText(Part::Team)));
    }
}
