"""What a run needs of keys, made anew for each and gone with its directory: the identity provider's
key and the token that all calls carry, and the certificate of all servers with the authority that
signed it. All of it by the command `openssl`."""

import base64
import json
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ISSUER = "https://login.example.com/oauth2/spark"
AUDIENCE = "api://spark"
USER = "ann.perkins@example.com"
DISPLAY_NAME = "Ann Perkins"
TEAM = "ads"
OTHER_TEAM = "growth"
SERVER_NAME = "spark.example.com"
"""`SERVER_NAME` of src/target.rs."""
KID = "NqAi2aR9f0Jx6mXlV4b8"
HOURS = 24
MEMBERS = 350
"""Of the token that is dear to read. It still fits into a table of HPACK."""


CURVES = {"P-256": "prime256v1", "P-384": "secp384r1"}


@dataclass
class Certs:
    """Where they are."""

    token: Path
    growth: Path
    """A token of the same user for another team."""
    members: Path
    """A token of an unknown issuer with many members, which is refused."""
    es256: Path
    """One with a bogus signature, of a key and all else that are right."""
    es384: Path
    keys: Path
    """The key set that verifies the token (RFC 7517)."""
    authority: Path
    certificate: Path
    """Its key is beside it, as `.key`."""


def make(directory: Path) -> Certs:
    """Makes them."""
    directory.mkdir(parents=True)
    certs = Certs(
        token=directory / "token",
        growth=directory / "growth.token",
        members=directory / "members.token",
        es256=directory / "es256.token",
        es384=directory / "es384.token",
        keys=directory / "keys.json",
        authority=directory / "authority.pem",
        certificate=directory / "server.pem",
    )
    _tokens(certs, directory)
    _certificate(certs, directory)
    return certs


def _tokens(certs: Certs, directory: Path) -> None:
    key = directory / "provider.key"
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    modulus = _openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().split("=")[1]
    public = {"n": _encoded(bytes.fromhex(modulus)), "e": "AQAB"}
    keys = [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": KID} | public]
    head = {"alg": "RS256", "kid": KID}
    for file, team in ((certs.token, TEAM), (certs.growth, OTHER_TEAM)):
        message = _message(head, _claims(team))
        signature = _openssl("dgst", "-sha256", "-sign", key, text=message.encode())
        file.write_text(f"{message}.{_encoded(signature)}")
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    members = dict.fromkeys([a + b for a in letters for b in letters][:MEMBERS], 0)
    message = _message({"alg": "RS256"}, {"iss": "https://nobody.example"} | members)
    certs.members.write_text(f"{message}.{_encoded(secrets.token_bytes(32))}")
    for file, name, curve, size in (
        (certs.es256, "ES256", "P-256", 32),
        (certs.es384, "ES384", "P-384", 48),
    ):
        keys.append(_curve_key(directory / f"{name}.key", name, curve, size))
        message = _message({"alg": name, "kid": name}, _claims(TEAM))
        file.write_text(f"{message}.{_encoded(secrets.token_bytes(2 * size))}")
    certs.keys.write_text(json.dumps({"keys": keys}))


def _claims(team: str) -> dict:
    now = int(time.time())
    who = {"iss": ISSUER, "aud": AUDIENCE, "sub": USER, "name": DISPLAY_NAME, "teams": team}
    return who | {"iat": now, "exp": now + HOURS * 3600}


def _message(head: dict, claims: dict) -> str:
    return f"{_encoded(_json(head))}.{_encoded(_json(claims))}"


def _curve_key(key: Path, name: str, curve: str, size: int) -> dict:
    _openssl("ecparam", "-name", CURVES[curve], "-genkey", "-noout", "-out", key)
    point = _openssl("ec", "-in", key, "-pubout", "-outform", "DER")[-2 * size :]
    place = {"crv": curve, "x": _encoded(point[:size]), "y": _encoded(point[size:])}
    return {"kty": "EC", "alg": name, "use": "sig", "kid": name} | place


def _certificate(certs: Certs, directory: Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signer, request = f"{certs.authority}.key", directory / "server.request"
    to_authority = ["-keyout", signer, "-out", certs.authority, "-subj", "/CN=bench authority"]
    _openssl("req", "-x509", "-days", "2", *curve, *to_authority)
    to_request = ["-keyout", f"{certs.certificate}.key", "-out", request]
    _openssl("req", *curve, *to_request, "-subj", f"/CN={SERVER_NAME}")
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{SERVER_NAME}\nbasicConstraints=CA:FALSE\n")
    signed = ["-CA", certs.authority, "-CAkey", signer, "-CAcreateserial", "-days", "2"]
    to = ["-in", request, "-extfile", extensions, "-out", certs.certificate]
    _openssl("x509", "-req", *signed, *to)


def _openssl(*words, text: bytes = b"") -> bytes:
    command = ["openssl", *map(str, words)]
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout


def _json(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
