"""sconce and a real identity provider: discovery, keys that rotate, a provider that is down; and false ones that lie.

The provider is `oidc-provider`, certified for OpenID Connect, with service applications that ask for their own
tokens. Needs Node and npm.
"""

import base64
import http.server
import json
import pathlib
import shutil
import socket
import threading
import time
import urllib.parse
import urllib.request
import uuid

import grpc
import npm
import pytest
import rig
from client import Running, connect, outcome, rows, until
from raw import Caller, request
from test_door import app_name

HERE = pathlib.Path(__file__).resolve().with_name("oidc")
AUDIENCE = "urn:sconce"
LOOPBACK = "  allow_insecure_loopback: true\n"
FLOOR = 10  # seconds between two attempts to fetch keys, and the longest wait for a first one
MEMBERS = {"ads": "{ groups: [spark-ads] }", "ml": "{ groups: [spark-ml] }"}


def issuer(port: int, audience: str = AUDIENCE) -> str:
    return f"    - {{ issuer: 'http://localhost:{port}', audiences: ['{audience}'], refresh: 30s }}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Provider:
    """The real one, on one port for its whole life; `publish` starts it anew with other keys."""

    def __init__(self, place: pathlib.Path):
        self.place, self.port, self.process = place, free_port(), None
        self.modules = npm.modules(HERE)
        place.mkdir()

    def publish(self, *keys: str) -> None:
        """Signs by the first key."""
        self.stop()
        log = self.place / f"{time.monotonic_ns()}.log"
        command = [shutil.which("node"), HERE / "provider.mjs", self.modules, self.port, self.place, *keys]
        self.process = rig.Process("oidc-provider", command, log)
        self.process.wait_for(r"^ready|\nready", 30)

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def token(self, client: str) -> str:
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "resource": AUDIENCE}).encode()
        asked = urllib.request.Request(f"http://localhost:{self.port}/token", form)
        asked.add_header("authorization", "Basic " + base64.b64encode(f"{client}:{client}-secret".encode()).decode())
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)["access_token"]


@pytest.fixture
def provider(tmp_path):
    made = Provider(tmp_path / "provider")
    made.publish("one")
    yield made
    made.stop()


@pytest.fixture
def gate(provider, proof, tmp_path, door_to, driver, other_driver):
    """Makes a sconce that trusts the provider."""

    def make() -> rig.Sconce:
        mine = proof.copy(tmp_path / f"proof-{uuid.uuid4()}", issuers=issuer(provider.port), more=LOOPBACK)
        return door_to({"ads": driver, "ml": other_driver}, proof=mine, members=MEMBERS)

    return make


def session(sconce: rig.Sconce, token: str):
    return connect(sconce.url(use_ssl="true", token=token, **{"x-sconce-env": "prod"}))


def ask(sconce: rig.Sconce, token: str) -> tuple[str, str]:
    """One call without PySpark's retries: its code and its words."""
    port = sconce.address.rpartition(":")[2]
    caller = Caller(f"localhost:{port}", sconce.proof.certificate.read_bytes(), token)
    try:
        caller("Config", request("Config", str(uuid.uuid4())))
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def of_unknown_key(token: str) -> str:
    """The same token with the name of a key that nobody has."""
    header, claims, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(header + "=="))
    named = json.dumps({**said, "kid": str(uuid.uuid4())}).encode()
    return ".".join([base64.urlsafe_b64encode(named).decode().rstrip("="), claims, signature])


@pytest.mark.quick
def test_a_token_of_a_real_provider_opens_the_session_of_the_team_by_its_group(gate, provider, driver, other_driver):
    sconce = gate()
    told = {client: app_name(session(sconce, provider.token(client))) for client in ("svc-ads", "svc-ml")}
    directly = {"svc-ads": app_name(connect(f"sc://{driver}/")), "svc-ml": app_name(connect(f"sc://{other_driver}/"))}
    assert told == directly
    assert ask(sconce, provider.token("svc-none"))[0] == "PERMISSION_DENIED"


def test_keys_rotate_under_sessions_and_a_provider_that_dies_ends_nothing(gate, provider):
    sconce = gate()
    first = provider.token("svc-ads")
    old = session(sconce, first)
    assert rows(old.sql("SELECT 1")) == [(1,)]

    provider.publish("two", "one")
    second = provider.token("svc-ads")
    until(lambda: ask(sconce, second)[0] == "OK", FLOOR + 3)
    new = session(sconce, second)
    assert (rows(new.sql("SELECT 1")), rows(old.sql("SELECT 1"))) == ([(1,)], [(1,)])

    provider.publish("two")
    # A call with an unknown key makes sconce look, once the floor has passed.
    until(lambda: ask(sconce, of_unknown_key(second)) and ask(sconce, first)[0] != "OK", FLOOR + 3)
    told = outcome(lambda: rows(old.sql("SELECT 1")))
    assert (told["type"], "its key is unknown" in told["message"]) == ("SparkConnectGrpcException", True)
    assert rows(new.sql("SELECT 1")) == [(1,)]

    provider.stop()
    before = fetched(sconce, "failure")
    until(lambda: ask(sconce, of_unknown_key(second)) and fetched(sconce, "failure") > before, FLOOR + 3)
    assert (rows(new.sql("SELECT 1")), ask(sconce, second)[0]) == ([(1,)], "OK")
    assert sconce.get("/readyz")[0] == 200


def fetched(sconce: rig.Sconce, outcome: str) -> int:
    return sum(int(line.rpartition(" ")[2]) for line in sconce.metrics("sconce_jwks_fetches_total", outcome=outcome))


def test_a_start_without_the_provider_is_not_ready_and_takes_calls_once_it_is_back(gate, provider):
    token = provider.token("svc-ads")
    provider.stop()
    since = time.monotonic()
    sconce = gate()
    assert time.monotonic() - since < FLOOR + 3
    status, said = sconce.get("/readyz")
    assert (status, f"issuer http://localhost:{provider.port}" in said) == (503, True)
    code, words = ask(sconce, token)
    assert (code, "keys of the token's identity provider" in words) == ("UNAVAILABLE", True)
    patient = Running(lambda: rows(session(sconce, token).sql("SELECT 1")))  # PySpark tries again by itself
    provider.publish("one")
    assert patient.result(30) == [(1,)]
    until(lambda: sconce.get("/readyz")[0] == 200)


class FalseProvider:
    """A fake: it tells the truth, with keys that are given, until it is told to lie."""

    def __init__(self, lie: str, keys: str):
        self.lie, self.lies, self.asked = lie, False, 0
        false = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802  the base class's name
                document = self.path.endswith("openid-configuration")
                false.answer(self, document, keys)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler, document: bool, keys: str) -> None:
        own = f"http://localhost:{self.port}"
        body = json.dumps({"issuer": own, "jwks_uri": f"{own}/keys"}) if document else keys
        if self.lies:
            self.asked += 1
            if self.lie == "never answers":
                threading.Event().wait(60)
            elif self.lie == "is another" and document:
                body = json.dumps({"issuer": "http://localhost:1", "jwks_uri": f"{own}/keys"})
            elif self.lie == "speaks HTML":
                body = "<html>we are being maintained</html>"
            elif self.lie == "has no keys" and not document:
                body = '{"keys": []}'
            elif self.lie == "never ends" and not document:
                body = keys + " " * (10 * 1024 * 1024)
        handler.send_response(200)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        try:
            handler.wfile.write(body.encode())
        except OSError:
            pass  # nobody listens so long


def test_providers_that_lie_or_never_answer_change_nothing_about_the_keys_there_are(door_to, proof, driver, tmp_path):
    published = (proof.place / "dev.key.jwks").read_text()
    lies = ("never answers", "is another", "speaks HTML", "has no keys", "never ends")
    false = [FalseProvider(lie, published) for lie in lies]
    issuers = "".join(issuer(one.port, "sconce") for one in false)
    mine = proof.copy(tmp_path / "proof", issuers=issuers, more=f"{LOOPBACK}  shared_users: true\n")
    sconce = door_to({"ads": driver}, proof=mine, members={"ads": "{ users: [ann] }"})
    tokens = [proof.token("ann", issuer=f"http://localhost:{one.port}") for one in false]
    assert [ask(sconce, token)[0] for token in tokens] == ["OK"] * 5
    living = session(sconce, tokens[0])
    assert rows(living.sql("SELECT 1")) == [(1,)]
    for one in false:
        one.lies = True
    waiting: list[Running] = []

    def all_asked() -> bool:
        """Each is asked again once the floor has passed and a call has met an unknown key; that call waits."""
        for one, token in zip(false, tokens, strict=True):
            if not one.asked:
                waiting.append(Running(ask, sconce, of_unknown_key(token)))
        time.sleep(0.5)
        return all(one.asked for one in false)

    until(all_asked, FLOOR + 5)
    since = time.monotonic()
    assert [ask(sconce, token)[0] for token in tokens] == ["OK"] * 5
    assert rows(living.sql("SELECT 1")) == [(1,)]
    assert time.monotonic() - since < FLOOR / 2, "calls with known keys waited for the one that never answers"
    # Before anybody was asked the keys there are decide; who could not be asked says nothing about a token.
    told = {one.result(2 * FLOOR)[0] for one in waiting}
    assert "UNAVAILABLE" in told and told <= {"UNAUTHENTICATED", "UNAVAILABLE"}
    until(lambda: fetched(sconce, "failure") >= 5, FLOOR + 5)
    assert [ask(sconce, token)[0] for token in tokens] == ["OK"] * 5
    assert sconce.get("/readyz")[0] == 200
