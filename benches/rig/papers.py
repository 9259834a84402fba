"""What a run needs of keys, made anew for each and gone with its directory: the identity provider's
key and the token that all calls carry, and the certificate of all servers with the authority that
signed it. All of it by the command `openssl`."""

import base64
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ISSUER = "https://login.example.com/oauth2/spark"
AUDIENCE = "api://spark"
USER = "ann.perkins@example.com"
DISPLAY_NAME = "Ann Perkins"
TEAM = "ads"
SERVER_NAME = "spark.example.com"
"""`SERVER_NAME` of src/target.rs."""
KID = "NqAi2aR9f0Jx6mXlV4b8"
HOURS = 24


@dataclass
class Papers:
    """Where they are."""

    token: Path
    keys: Path
    """The key set that verifies the token (RFC 7517)."""
    authority: Path
    certificate: Path
    """Its key is beside it, as `.key`."""


def make(directory: Path) -> Papers:
    """Makes them."""
    directory.mkdir(parents=True)
    papers = Papers(
        token=directory / "token",
        keys=directory / "keys.json",
        authority=directory / "authority.pem",
        certificate=directory / "server.pem",
    )
    _token(papers, directory / "provider.key")
    _certificate(papers, directory)
    return papers


def _token(papers: Papers, key: Path) -> None:
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    modulus = _openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().split("=")[1]
    public = {"n": _encoded(bytes.fromhex(modulus)), "e": "AQAB"}
    named = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": KID}
    papers.keys.write_text(json.dumps({"keys": [named | public]}))
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": USER,
        "name": DISPLAY_NAME,
        "teams": TEAM,
        "iat": now,
        "exp": now + HOURS * 3600,
    }
    head = {"alg": "RS256", "kid": KID}
    message = f"{_encoded(_json(head))}.{_encoded(_json(claims))}"
    signature = _openssl("dgst", "-sha256", "-sign", key, text=message.encode())
    papers.token.write_text(f"{message}.{_encoded(signature)}")


def _certificate(papers: Papers, directory: Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signer, request = f"{papers.authority}.key", directory / "server.request"
    to_authority = ["-keyout", signer, "-out", papers.authority, "-subj", "/CN=bench authority"]
    _openssl("req", "-x509", "-days", "2", *curve, *to_authority)
    to_request = ["-keyout", f"{papers.certificate}.key", "-out", request]
    _openssl("req", *curve, *to_request, "-subj", f"/CN={SERVER_NAME}")
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{SERVER_NAME}\nbasicConstraints=CA:FALSE\n")
    signed = ["-CA", papers.authority, "-CAkey", signer, "-CAcreateserial", "-days", "2"]
    to = ["-in", request, "-extfile", extensions, "-out", papers.certificate]
    _openssl("x509", "-req", *signed, *to)


def _openssl(*words, text: bytes = b"") -> bytes:
    command = ["openssl", *map(str, words)]
    return subprocess.run(command, input=text, check=True, capture_output=True).stdout


def _json(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
