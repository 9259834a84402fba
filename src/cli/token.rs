//! `sconce token`: mints tokens with a key of one's own, for development and first days.
//!
//! What it mints is an ordinary signed token: the gateway trusts it because its configuration names
//! the public half of the key, and for no other reason.

use crate::cli::{
    key_file::{self, KeyFile, NOT_OUR_KEY},
    terminal,
};
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
    identity::{IdentitySource, RawIdentity},
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// The longest life of such a token: it is for development.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What the token shall say.
#[derive(Args, Clone, Debug)]
pub(super) struct TokenArgs {
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
    /// A team of the user, in the claim "teams"; may be given several times. It counts only if the
    /// issuer has claims: { teams: teams } in the configuration
    #[arg(long = "team", value_name = "NAME")]
    teams: Vec<String>,
    /// How long it is good, as 30m or 12h
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = lifetime)]
    expires: Duration,
}

/// Prints a token.
pub(super) fn run(wanted: &TokenArgs) -> ExitCode {
    match mint(wanted) {
        Ok(token) => {
            terminal::print([token]);
            ExitCode::SUCCESS
        }
        Err(what) => {
            terminal::print_error(format_args!("sconce: {what}"));
            ExitCode::FAILURE
        }
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let life = crate::config::duration(text)?;
    match life.is_zero() || life > LIFETIME_MAX {
        true => Err("write 1s to 366 days".to_owned()),
        false => Ok(life),
    }
}

/// Names that no gateway would admit are not written into a token.
fn check(wanted: &TokenArgs) -> Result<(), String> {
    let TokenArgs { user, name, groups, teams, .. } = wanted.clone();
    let claimed = RawIdentity { user, display_name: name, groups, teams };
    let checked = Identity::new(claimed, IdentitySource::Certificate, None);
    checked.map(drop).map_err(|fault| format!("{fault}: correct it"))
}

fn mint(wanted: &TokenArgs) -> Result<String, String> {
    check(wanted)?;
    let said = |what: String| format!("{}: {what}", wanted.key.display());
    let (KeyFile { pkcs8, is_readable_by_others: is_readable }, made) =
        load_or_create_key(&wanted.key).map_err(said)?;
    let pair = key_pair(&pkcs8).map_err(|()| said(NOT_OUR_KEY.to_owned()))?;
    if is_readable {
        let what = "others can read it, and mint tokens as well: chmod 600";
        terminal::print_error(format_args!("sconce: {}: {what}", wanted.key.display()));
    }
    write_public_key(&wanted.key, &pair, made).map_err(said)?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key_id(&pair));
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

/// The private key in a file; made if there is none, and whether it was.
fn load_or_create_key(file: &Path) -> Result<(KeyFile, bool), String> {
    if let Some(key) = key_file::read(file)? {
        return Ok((key, false));
    }
    let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new());
    let pkcs8 = made.map_err(|_| "no key can be made".to_owned())?.as_ref().to_vec();
    key_file::write_private_key(file, &pkcs8)?;
    Ok((KeyFile { pkcs8, is_readable_by_others: false }, true))
}

/// Writes the public half beside the key, unless it is there.
fn write_public_key(file: &Path, pair: &EcdsaKeyPair, made: bool) -> Result<(), String> {
    let public = file.with_added_extension("jwks");
    let said = |what: String| format!("{}: {what}", public.display());
    if !made && key_file::public_key_exists(&public).map_err(said)? {
        return Ok(());
    }
    key_file::write_public_key(&public, &format!("{:#}", jwks(pair))).map_err(said)?;
    let secret =
        if made { format!("{}, to be kept secret, and ", file.display()) } else { "".into() };
    let public = public.display();
    terminal::print_error(format_args!("sconce: made {secret}{public}, for keys_file"));
    Ok(())
}

fn key_pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, ()> {
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
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key_id(pair), "x": x, "y": y,
    }] })
}

/// A name for the key that only this key has.
fn key_id(pair: &EcdsaKeyPair) -> String {
    let digest = digest::digest(&digest::SHA256, pair.public_key().as_ref());
    URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, chown, symlink},
    };

    fn wanted(key: PathBuf, user: &str, team: &str) -> TokenArgs {
        TokenArgs {
            key,
            issuer: "https://i".to_owned(),
            audience: "a".to_owned(),
            user: user.to_owned(),
            name: None,
            groups: Vec::new(),
            teams: vec![team.to_owned()],
            expires: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_name_that_nobody_can_have_is_refused_before_a_key_is_made() {
        let place = tempfile::tempdir().unwrap();
        let wanted = |user, team| wanted(place.path().join("dev.key"), user, team);
        assert_eq!(mint(&wanted("", "ads")).unwrap_err(), "a user is empty: correct it");
        assert!(mint(&wanted("a\nb", "ads")).unwrap_err().contains("control or hidden character"));
        assert_eq!(mint(&wanted("ann", "")).unwrap_err(), "a team is empty: correct it");
        assert!(!place.path().join("dev.key").exists());
        assert!(mint(&wanted("ann", "ads")).is_ok());
    }

    #[test]
    fn a_public_half_that_is_lost_is_made_anew_and_one_that_is_there_is_left() {
        let place = tempfile::tempdir().unwrap();
        let wanted = wanted(place.path().join("dev.key"), "ann", "ads");
        let public = place.path().join("dev.key.jwks");
        mint(&wanted).unwrap();
        let first = fs::read_to_string(&public).unwrap();
        fs::remove_file(&public).unwrap();
        mint(&wanted).unwrap();
        assert_eq!(fs::read_to_string(&public).unwrap(), first);
        fs::write(&public, "with others").unwrap();
        mint(&wanted).unwrap();
        assert_eq!(fs::read_to_string(&public).unwrap(), "with others");
    }

    /// A file that is somebody else's: made so by who may, or found.
    fn somebody_else_s(place: &Path) -> PathBuf {
        let file = place.join("theirs.key");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        match chown(&file, Some(54_321), None) {
            Ok(()) => file,
            Err(_) => PathBuf::from("/etc/hostname"),
        }
    }

    #[test]
    fn a_key_of_somebody_else_or_that_others_can_write_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let theirs = somebody_else_s(place.path());
        let told = mint(&wanted(theirs.clone(), "ann", "ads")).unwrap_err();
        assert!(told.contains("belongs to another user"), "{told}");
        let link = place.path().join("link.key");
        symlink(&theirs, &link).unwrap();
        let told = mint(&wanted(link, "ann", "ads")).unwrap_err();
        assert!(told.contains("belongs to another user"), "{told}");
        let wanted = wanted(place.path().join("dev.key"), "ann", "ads");
        mint(&wanted).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&wanted.key, Permissions::from_mode(mode)).unwrap();
            let told = mint(&wanted).unwrap_err();
            assert!(told.contains("others can write it"), "{mode:o}: {told}");
        }
        fs::set_permissions(&wanted.key, Permissions::from_mode(0o400)).unwrap();
        mint(&wanted).unwrap();
    }

    #[test]
    fn a_key_that_others_can_read_is_told() {
        let place = tempfile::tempdir().unwrap();
        let wanted = wanted(place.path().join("dev.key"), "ann", "ads");
        mint(&wanted).unwrap();
        for (mode, is_told) in [(0o600, false), (0o640, true), (0o604, true), (0o644, true)] {
            fs::set_permissions(&wanted.key, Permissions::from_mode(mode)).unwrap();
            let (key, is_new) = load_or_create_key(&wanted.key).unwrap();
            assert_eq!((is_new, key.is_readable_by_others), (false, is_told), "{mode:o}");
        }
    }

    #[test]
    fn the_public_half_is_never_written_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let public = place.path().join("dev.key.jwks");
        let wanted = wanted(place.path().join("dev.key"), "ann", "ads");
        for victim in [None, Some("precious")] {
            let other = place.path().join("other");
            if let Some(text) = victim {
                fs::write(&other, text).unwrap();
            }
            symlink(&other, &public).unwrap();
            mint(&wanted).unwrap();
            assert_eq!(fs::read_to_string(&other).ok().as_deref(), victim);
            let found = fs::symlink_metadata(&public).unwrap();
            assert!(found.is_file(), "the link is still there");
            assert_eq!(found.permissions().mode() & 0o777, 0o644);
            assert!(fs::read_to_string(&public).unwrap().contains("\"kid\""));
            fs::remove_file(&public).unwrap();
            fs::remove_file(&wanted.key).unwrap();
        }
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|it| it.unwrap()).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_public_half_of_somebody_else_is_not_taken_for_ours() {
        let place = tempfile::tempdir().unwrap();
        let wanted = wanted(place.path().join("dev.key"), "ann", "ads");
        mint(&wanted).unwrap();
        let public = place.path().join("dev.key.jwks");
        fs::remove_file(&public).unwrap();
        symlink(somebody_else_s(place.path()), &public).unwrap();
        let told = mint(&wanted).unwrap_err();
        assert!(told.contains("dev.key.jwks: belongs to another user"), "{told}");
    }

    #[test]
    fn a_file_that_will_not_do_is_left_alone_and_another_is_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("dev.key");
        let said = |file: &Path| {
            let said = mint(&wanted(file.to_owned(), "ann", "ads")).unwrap_err();
            said.replace(&format!("{}/", place.path().display()), "")
        };
        for octets in [&b"-----BEGIN PRIVATE KEY-----"[..], b"QUJD", b"\xff"] {
            fs::write(&file, octets).unwrap();
            assert_eq!(said(&file), format!("dev.key: {NOT_OUR_KEY}"));
            assert_eq!(fs::read(&file).unwrap(), octets);
        }
        let nowhere = said(&place.path().join("none/dev.key"));
        let expected = "none/dev.key: cannot be made there: No such file or directory (os error \
                        2); name a file in a directory that you may write, with --key";
        assert_eq!(nowhere, expected);
    }
}
