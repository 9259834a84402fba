//! `sconce token`: mints tokens with a key of one's own, for development and first days.
//!
//! What it mints is an ordinary signed token: the gateway trusts it because its configuration names
//! the public half of the key, and for no other reason.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use sconce_filters::{
    Identity,
    identity::{Claimed, Source},
};
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// The longest life of such a token: it is for development.
const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What the token shall say.
#[derive(Args, Clone, Debug)]
pub(super) struct Wanted {
    /// The private key; it is made if it is not there, and its public half beside it, as
    /// FILE.jwks, which is what authenticate.issuers.keys_file wants
    #[arg(long, value_name = "FILE", default_value = "dev.key")]
    key: PathBuf,
    /// Whose token it is, as authenticate.issuers.issuer says
    #[arg(long, value_name = "URL", default_value = "https://sconce.invalid/dev")]
    issuer: String,
    /// Whom it is meant for, as authenticate.issuers.audiences says
    #[arg(long, value_name = "NAME", default_value = "sconce")]
    audience: String,
    /// Who calls
    #[arg(long, value_name = "NAME")]
    user: String,
    /// How people call the user
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A group of the user; may be given several times
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// A team of the user, in the claim "teams"; may be given several times
    #[arg(long = "team", value_name = "NAME")]
    teams: Vec<String>,
    /// How long it is good, as 30m or 12h
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = life)]
    expires: Duration,
}

/// Prints a token.
pub(super) fn run(wanted: &Wanted) -> ExitCode {
    match mint(wanted) {
        Ok(token) => {
            crate::cli::print(&format!("{token}\n"));
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("sconce: {what}");
            ExitCode::FAILURE
        }
    }
}

fn life(text: &str) -> Result<Duration, String> {
    let life = crate::config::duration(text)?;
    match life.is_zero() || life > LIFE_MAX {
        true => Err("write 1s to 366 days".to_owned()),
        false => Ok(life),
    }
}

/// Names that no gateway would admit are not written into a token.
fn check(wanted: &Wanted) -> Result<(), String> {
    let Wanted { user, name, groups, teams, .. } = wanted.clone();
    let claimed = Claimed { user, display_name: name, groups, teams };
    let checked = Identity::new(claimed, Source::Certificate, None);
    checked.map(drop).map_err(|fault| format!("{fault}: correct it"))
}

fn mint(wanted: &Wanted) -> Result<String, String> {
    check(wanted)?;
    let pkcs8 = key(&wanted.key).map_err(|fault| format!("{}: {fault}", wanted.key.display()))?;
    let pair = pair(&pkcs8)
        .map_err(|()| format!("{}: is no key of ours; remove it", wanted.key.display()))?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid(&pair));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": wanted.issuer,
        "aud": wanted.audience,
        "sub": wanted.user,
        "name": wanted.name.as_ref().unwrap_or(&wanted.user),
        "groups": wanted.groups,
        "teams": wanted.teams,
        "iat": now.as_secs(),
        "exp": now.saturating_add(wanted.expires).as_secs(),
    });
    encode(&header, &claims, &EncodingKey::from_ec_der(&pkcs8)).map_err(|fault| fault.to_string())
}

/// The private key in a file, in PKCS #8; made if there is none.
fn key(file: &Path) -> io::Result<Vec<u8>> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let text = text.trim();
            URL_SAFE_NO_PAD.decode(text).map_err(|_| io::Error::other("is no key of ours"))
        }
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => make(file),
        Err(fault) => Err(fault),
    }
}

fn make(file: &Path) -> io::Result<Vec<u8>> {
    let failed = |_| io::Error::other("no key can be made");
    let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).map_err(failed)?;
    let pkcs8 = made.as_ref().to_vec();
    let pair = pair(&pkcs8).map_err(|()| io::Error::other("no key can be made"))?;
    let mut private = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(private, "{}", URL_SAFE_NO_PAD.encode(&pkcs8))?;
    let public = file.with_added_extension("jwks");
    fs::write(&public, format!("{:#}\n", jwks(&pair)))?;
    let (file, public) = (file.display(), public.display());
    eprintln!("sconce: made {file}, to be kept secret, and {public}, for keys_file");
    Ok(pkcs8)
}

fn pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, ()> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| ())
}

/// The public half as a JSON Web Key Set (RFC 7517, 5).
fn jwks(pair: &EcdsaKeyPair) -> serde_json::Value {
    // An uncompressed point: a mark, then both coordinates (SEC 1, 2.3.3).
    let point = pair.public_key().as_ref();
    let coordinate =
        |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
    let (x, y) = (coordinate(1), coordinate(33));
    json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid(pair), "x": x, "y": y,
    }] })
}

/// A name for the key that only this key has.
fn kid(pair: &EcdsaKeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, pair.public_key().as_ref());
    URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_can_have_is_refused_before_a_key_is_made() {
        let place = tempfile::tempdir().unwrap();
        let wanted = |user: &str, team: &str| Wanted {
            key: place.path().join("dev.key"),
            issuer: "https://i".to_owned(),
            audience: "a".to_owned(),
            user: user.to_owned(),
            name: None,
            groups: Vec::new(),
            teams: vec![team.to_owned()],
            expires: Duration::from_secs(1),
        };
        assert_eq!(mint(&wanted("", "ads")).unwrap_err(), "a user is empty: correct it");
        assert!(mint(&wanted("a\nb", "ads")).unwrap_err().contains("control character"));
        assert_eq!(mint(&wanted("ann", "")).unwrap_err(), "a team is empty: correct it");
        assert!(!place.path().join("dev.key").exists());
        assert!(mint(&wanted("ann", "ads")).is_ok());
    }
}
