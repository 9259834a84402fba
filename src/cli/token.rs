//! `sconce token`: creates tokens signed with a local key, for development and first tests.
//!
//! Such a token is an ordinary signed JWT. sconce accepts it only if its configuration contains the
//! public key.

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

/// Maximum lifetime of a token.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Arguments of `token`.
#[derive(Args, Clone, Debug)]
pub(super) struct TokenArgs {
    /// Private key file. If it does not exist, sconce creates it, with the public key in FILE.jwks
    /// for authenticate.issuers.keys_file
    #[arg(long, value_name = "FILE", default_value = "dev.key")]
    key: PathBuf,
    /// Issuer (iss): the value of authenticate.issuers.issuer
    #[arg(long, value_name = "URL", default_value = "https://sconce.invalid/dev")]
    issuer: String,
    /// Audience (aud): one of authenticate.issuers.audiences
    #[arg(long, value_name = "NAME", default_value = "sconce")]
    audience: String,
    /// User name (sub)
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Display name (name) [default: the user name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Group of the user; repeat for several groups
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Team of the user, in the claim "teams"; repeat for several teams. Requires claims: { teams:
    /// teams } for the issuer in the configuration
    #[arg(long = "team", value_name = "NAME")]
    teams: Vec<String>,
    /// Lifetime, for example 30m or 12h
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = lifetime)]
    expires: Duration,
}

/// Creates and prints a token.
pub(super) fn run(args: &TokenArgs) -> ExitCode {
    match mint(args) {
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
        true => Err("write a duration from 1s to 8784h".to_owned()),
        false => Ok(life),
    }
}

/// Rejects names that sconce would not accept in a token.
fn check(args: &TokenArgs) -> Result<(), String> {
    let TokenArgs { user, name, groups, teams, .. } = args.clone();
    let claimed = RawIdentity { user, display_name: name, groups, teams };
    let checked = Identity::new(claimed, IdentitySource::Certificate, None);
    checked.map(drop).map_err(|error| format!("{error}: correct it"))
}

fn mint(args: &TokenArgs) -> Result<String, String> {
    check(args)?;
    let in_file = |what: String| format!("{}: {what}", args.key.display());
    let (KeyFile { pkcs8, is_readable_by_others: is_readable }, made) =
        load_or_create_key(&args.key).map_err(in_file)?;
    let pair = key_pair(&pkcs8).map_err(|()| in_file(NOT_OUR_KEY.to_owned()))?;
    if is_readable {
        let what = "other users can read the key and mint tokens: run chmod 600 on it";
        terminal::print_error(format_args!("sconce: {}: {what}", args.key.display()));
    }
    write_public_key(&args.key, &pair, made).map_err(in_file)?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key_id(&pair));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": args.issuer,
        "aud": args.audience,
        "sub": args.user,
        "name": args.name.as_ref().unwrap_or(&args.user),
        "groups": args.groups,
        "teams": args.teams,
        "iat": now.as_secs(),
        "exp": now.saturating_add(args.expires).as_secs(),
    });
    encode(&header, &claims, &EncodingKey::from_ec_der(&pkcs8)).map_err(|error| error.to_string())
}

/// The private key of a file, created if it does not exist, and whether it was created.
fn load_or_create_key(file: &Path) -> Result<(KeyFile, bool), String> {
    if let Some(key) = key_file::read(file)? {
        return Ok((key, false));
    }
    let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new());
    let pkcs8 = made.map_err(|_| "cannot generate a key".to_owned())?.as_ref().to_vec();
    key_file::write_private_key(file, &pkcs8)?;
    Ok((KeyFile { pkcs8, is_readable_by_others: false }, true))
}

/// Writes the public key next to the private key, unless it exists.
fn write_public_key(file: &Path, pair: &EcdsaKeyPair, made: bool) -> Result<(), String> {
    let public = file.with_added_extension("jwks");
    let in_file = |what: String| format!("{}: {what}", public.display());
    if !made && key_file::public_key_exists(&public).map_err(in_file)? {
        return Ok(());
    }
    key_file::write_public_key(&public, &format!("{:#}", jwks(pair))).map_err(in_file)?;
    let secret = if made {
        format!("{} (private key, keep it secret) and ", file.display())
    } else {
        "".into()
    };
    let public = public.display();
    terminal::print_error(format_args!(
        "sconce: created {secret}{public} (public key, for keys_file)"
    ));
    Ok(())
}

fn key_pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, ()> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| ())
}

/// The public key as a JSON Web Key Set (RFC 7517, 5).
fn jwks(pair: &EcdsaKeyPair) -> serde_json::Value {
    // An uncompressed point: one tag byte, then both coordinates (SEC 1, 2.3.3).
    let point = pair.public_key().as_ref();
    let coordinate =
        |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
    let (x, y) = (coordinate(1), coordinate(33));
    json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key_id(pair),
        "x": x, "y": y,
    }] })
}

/// Key ID: the first 12 bytes of the public key's SHA-256, in base64url.
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

    fn args(key: PathBuf, user: &str, team: &str) -> TokenArgs {
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
    fn an_invalid_name_is_rejected_before_a_key_is_created() {
        let place = tempfile::tempdir().unwrap();
        let args = |user, team| args(place.path().join("dev.key"), user, team);
        assert_eq!(mint(&args("", "ads")).unwrap_err(), "a user is empty: correct it");
        assert!(mint(&args("a\nb", "ads")).unwrap_err().contains("control or hidden character"));
        assert_eq!(mint(&args("ann", "")).unwrap_err(), "a team is empty: correct it");
        assert!(!place.path().join("dev.key").exists());
        assert!(mint(&args("ann", "ads")).is_ok());
    }

    #[test]
    fn a_missing_public_key_is_created_and_an_existing_one_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let args = args(place.path().join("dev.key"), "ann", "ads");
        let public = place.path().join("dev.key.jwks");
        mint(&args).unwrap();
        let first = fs::read_to_string(&public).unwrap();
        fs::remove_file(&public).unwrap();
        mint(&args).unwrap();
        assert_eq!(fs::read_to_string(&public).unwrap(), first);
        fs::write(&public, "with others").unwrap();
        mint(&args).unwrap();
        assert_eq!(fs::read_to_string(&public).unwrap(), "with others");
    }

    /// A file of another user: created if this process may change owners, otherwise an existing
    /// one.
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
    fn a_key_of_another_user_or_writable_by_others_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let theirs = somebody_else_s(place.path());
        let error = mint(&args(theirs.clone(), "ann", "ads")).unwrap_err();
        assert!(error.contains("belongs to another user"), "{error}");
        let link = place.path().join("link.key");
        symlink(&theirs, &link).unwrap();
        let error = mint(&args(link, "ann", "ads")).unwrap_err();
        assert!(error.contains("belongs to another user"), "{error}");
        let args = args(place.path().join("dev.key"), "ann", "ads");
        mint(&args).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&args.key, Permissions::from_mode(mode)).unwrap();
            let error = mint(&args).unwrap_err();
            assert!(error.contains("other users can write it"), "{mode:o}: {error}");
        }
        fs::set_permissions(&args.key, Permissions::from_mode(0o400)).unwrap();
        mint(&args).unwrap();
    }

    #[test]
    fn a_key_readable_by_others_is_reported() {
        let place = tempfile::tempdir().unwrap();
        let args = args(place.path().join("dev.key"), "ann", "ads");
        mint(&args).unwrap();
        for (mode, is_told) in [(0o600, false), (0o640, true), (0o604, true), (0o644, true)] {
            fs::set_permissions(&args.key, Permissions::from_mode(mode)).unwrap();
            let (key, is_new) = load_or_create_key(&args.key).unwrap();
            assert_eq!((is_new, key.is_readable_by_others), (false, is_told), "{mode:o}");
        }
    }

    #[test]
    fn the_public_key_is_not_written_through_a_symbolic_link() {
        let place = tempfile::tempdir().unwrap();
        let public = place.path().join("dev.key.jwks");
        let args = args(place.path().join("dev.key"), "ann", "ads");
        for victim in [None, Some("precious")] {
            let other = place.path().join("other");
            if let Some(text) = victim {
                fs::write(&other, text).unwrap();
            }
            symlink(&other, &public).unwrap();
            mint(&args).unwrap();
            assert_eq!(fs::read_to_string(&other).ok().as_deref(), victim);
            let found = fs::symlink_metadata(&public).unwrap();
            assert!(found.is_file(), "the link is still there");
            assert_eq!(found.permissions().mode() & 0o777, 0o644);
            assert!(fs::read_to_string(&public).unwrap().contains("\"kid\""));
            fs::remove_file(&public).unwrap();
            fs::remove_file(&args.key).unwrap();
        }
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|it| it.unwrap()).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_public_key_of_another_user_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let args = args(place.path().join("dev.key"), "ann", "ads");
        mint(&args).unwrap();
        let public = place.path().join("dev.key.jwks");
        fs::remove_file(&public).unwrap();
        symlink(somebody_else_s(place.path()), &public).unwrap();
        let error = mint(&args).unwrap_err();
        assert!(error.contains("dev.key.jwks: belongs to another user"), "{error}");
    }

    #[test]
    fn an_unusable_key_file_is_not_changed() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("dev.key");
        let in_file = |file: &Path| {
            let in_file = mint(&args(file.to_owned(), "ann", "ads")).unwrap_err();
            in_file.replace(&format!("{}/", place.path().display()), "")
        };
        for bytes in [&b"-----BEGIN PRIVATE KEY-----"[..], b"QUJD", b"\xff"] {
            fs::write(&file, bytes).unwrap();
            assert_eq!(in_file(&file), format!("dev.key: {NOT_OUR_KEY}"));
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
        let nowhere = in_file(&place.path().join("none/dev.key"));
        let expected = "none/dev.key: cannot be created: No such file or directory (os error 2); \
                        choose a file in a writable directory with --key";
        assert_eq!(nowhere, expected);
    }
}
