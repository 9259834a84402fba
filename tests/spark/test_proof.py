"""PySpark before a sconce that asks for proof: over TLS, with tokens; what people see, and what no one may do to another."""

import json
import os
import time
import uuid

import pytest
import rig
import test_everyday
import test_interrupt
from client import VERSION, Renewing, Running, Trusting, connect, outcome, rows, sent, until
from conftest import Both
from pyspark.sql.connect import functions as f
from raw import Caller
from test_door import app_name, slow

every_client = pytest.mark.every_client
SECONDS_AT_ONCE = 2  # an honest refusal ends a call; anything longer is a client that was made to retry
QUERY_SECONDS = int(os.environ.get("SCONCE_TEST_QUERY_SECONDS", "12"))  # of the query that outlives its token
EXPIRED = "the token has expired: call spark.stop(), then create a new session with a new token"
TEAMS = {"ann": "ads", "eve": "ads", "bob": "ml"}

# The everyday cases once more, by this file's `both`: what they compare is in their own files.
test_config_is_set_read_and_unset = every_client(test_everyday.test_config_is_set_read_and_unset)
test_sql_brings_values_of_every_type = test_everyday.test_sql_brings_values_of_every_type
test_ten_megabytes_go_up_as_a_local_relation = test_everyday.test_ten_megabytes_go_up_as_a_local_relation
test_a_python_udf_runs = every_client(test_everyday.test_a_python_udf_runs)
test_an_artifact_arrives_unharmed = every_client(test_everyday.test_an_artifact_arrives_unharmed)
test_errors_keep_class_state_and_message = every_client(test_everyday.test_errors_keep_class_state_and_message)
test_a_long_error_arrives_whole = every_client(test_everyday.test_a_long_error_arrives_whole)
test_interrupt_all_ends_what_runs = test_interrupt.test_interrupt_all_ends_what_runs
test_a_tag_ends_its_own_query_and_no_other = test_interrupt.test_a_tag_ends_its_own_query_and_no_other


def url(door, token: str | None, **more: str) -> str:
    """As people write it; for other hosts than localhost a token by itself makes the client use TLS."""
    said = {"token": token} if token else {}
    return door.url(use_ssl="true", **said, **{"x-sconce-env": "prod"}, **more)


@pytest.fixture
def both(proved, proof) -> Both:
    return Both(url(proved, proof.token("ann", "ads")))


@pytest.fixture
def own(proof, tmp_path):
    """Makes a proof whose files may be edited, and whose certificate all trust: `own(more=...)`."""
    return lambda **lines: proof.copy(tmp_path / "proof", **lines)


def answer(session) -> str:
    """The least that shows that a session is served."""
    return app_name(session)


def refusal(call) -> tuple[str, str]:
    """Class and words of an error; it must come at once."""
    since = time.monotonic()
    told = outcome(call)
    lasted = time.monotonic() - since
    assert "value" not in told, told
    assert lasted < SECONDS_AT_ONCE, f"refused after {lasted:.1f} s: the client was made to retry"
    return told["type"], told["message"]


@every_client
@pytest.mark.quick
def test_each_user_reaches_the_driver_of_the_team_that_the_token_names(proved, proof, driver, other_driver):
    told = {user: answer(connect(url(proved, proof.token(user, team)))) for user, team in TEAMS.items()}
    ads, ml = [answer(connect(f"sc://{address}/")) for address in (driver, other_driver)]
    assert told == {"ann": ads, "eve": ads, "bob": ml}


@every_client
@pytest.mark.quick
@pytest.mark.parametrize("stranger", ["eve", "bob"], ids=["of the same team", "of another team"])
def test_two_users_with_one_session_id_who_claim_to_be_each_other_never_meet(proved, proof, stranger, tmp_path):
    session = str(uuid.uuid4())

    def enter(user: str, claim: str):
        return connect(url(proved, proof.token(user, TEAMS[user]), user_id=claim, session_id=session))

    ann, other = enter("ann", stranger), enter(stranger, "ann")
    assert ann.session_id == other.session_id == session
    ann.range(3).createOrReplaceTempView("mine")
    ann.conf.set("sconce.word", "ann's")
    (tmp_path / "artifact.bin").write_bytes(b"ann's")
    assert len(sent(ann, tmp_path / "artifact.bin")) == 1
    assert "TABLE_OR_VIEW_NOT_FOUND" in outcome(lambda: rows(other.sql("SELECT * FROM mine")))["message"]
    assert other.conf.get("sconce.word", "nothing") == "nothing"
    assert (has_artifact(ann), has_artifact(other)) == (True, False)
    running = Running(work, ann, tmp_path / "running")
    until((tmp_path / "running").exists)
    assert (other.interruptAll(), other.interruptTag("mine")) == ([], [])
    other.stop()
    assert ann.conf.get("sconce.word") == "ann's"
    assert not running.done()
    assert len(ann.interruptTag("mine")) == 1
    assert "OPERATION_CANCELED" in outcome(running.result)["message"]
    assert rows(ann.sql("SELECT count(*) FROM mine")) == [(3,)]


def work(session, mark):
    """Tags belong to a thread."""
    session.addTag("mine")
    return slow(session, mark, 600)


def has_artifact(session) -> bool:
    """As a task of the cluster sees it."""

    def found(_):  # within: Spark's workers cannot import this file
        import os

        from pyspark import SparkFiles

        return os.path.exists(SparkFiles.get("artifact.bin"))

    return rows(session.range(1).select(f.udf(found, "boolean")("id"))) == [(True,)]


ONE = "SparkConnectGrpcException"
REFUSALS = {
    "no token": (lambda proof, _: None, "no token: add ;token=... to the sc:// URL"),
    "a word": (lambda proof, _: "nonsense", "neither a valid JWT nor a configured static token"),
    "a token that was cut": (lambda proof, _: proof.token("ann", "ads")[:-4], "the token's signature is invalid"),
    "a token of another key": (lambda _, other: other.token("ann", "ads"), "the token's signature is invalid"),
    "another issuer": (lambda proof, _: proof.token("ann", issuer="https://evil.example"), "issuer is not trusted here"),
    "another audience": (lambda proof, _: proof.token("ann", audience="mail"), "not issued for this service (aud)"),
    "no team": (lambda proof, _: proof.token("ann"), "you belong to no team here"),
    "two teams": (lambda proof, _: proof.token("ann", "ads", "ml"), "your teams: ads, ml"),
}


@every_client
@pytest.mark.quick
@pytest.mark.parametrize("mint, words", REFUSALS.values(), ids=REFUSALS.keys())
def test_who_proves_too_little_is_told_at_once_what_is_missing(proved, proof, tmp_path, mint, words):
    session = connect(url(proved, mint(proof, rig.Proof(tmp_path / "other"))))
    for call in (lambda: answer(session), lambda: rows(session.sql("SELECT 1"))):
        kind, said = refusal(call)
        assert kind == ONE
        assert words in said
        assert "_InactiveRpcError" not in said and "_MultiThreadedRendezvous" not in said


@every_client
@pytest.mark.quick
def test_a_client_without_tls_is_told_at_once_to_use_it(proved):
    plain = f"sc://localhost:{proved.address.rpartition(':')[2]}/;x-sconce-env=prod"
    _, said = refusal(lambda: rows(connect(plain).sql("SELECT 1")))
    assert "this address requires TLS: add ;use_ssl=true to the sc:// URL" in said


def test_another_s_team_is_no_more_there_than_one_that_does_not_exist(proved, proof):
    token = proof.token("ann", "ads")
    told = [refusal(lambda team=team: answer(connect(proved.url(team, use_ssl="true", token=token))))[1] for team in ("ml", "zz")]
    assert told[0].replace("'ml'", "'zz'") == told[1]
    assert "you do not belong to team 'ml'" in told[0]


def test_a_token_that_ends_under_a_session_is_told_so_unless_there_is_a_grace(proof, own, door_to, driver):
    strict = door_to({"ads": driver}, proof=own(more="  skew: 0s\n"))
    lenient = door_to({"ads": driver}, proof=proof.copy(strict.place / "proof", more="  skew: 0s\n  grace: 5m\n"))
    token = proof.token("ann", "ads", expires="5s")
    ends, going_on = connect(url(strict, token)), connect(url(lenient, token))
    assert [len(rows(session.sql("SELECT 1"))) for session in (ends, going_on)] == [1, 1]
    until(lambda: "value" not in outcome(lambda: answer(ends)), 20)
    for session in (ends, connect(url(strict, token))):
        assert refusal(lambda session=session: rows(session.sql("SELECT 1"))) == (ONE, EXPIRED)
    assert rows(going_on.sql("SELECT 1")) == [(1,)]
    late = connect(url(lenient, token))
    assert refusal(lambda: rows(late.sql("SELECT 1"))) == (ONE, EXPIRED)
    assert rows(going_on.sql("SELECT 2")) == [(2,)]
    # What the refusal says helps: the session is released by its expired token, and a new one begins.
    ends.stop()
    assert rows(connect(url(strict, proof.token("ann", "ads"))).sql("SELECT 3")) == [(3,)]
    assert strict.metrics("sconce_calls_total", method="ReleaseSession", code="OK")


@every_client
@pytest.mark.parametrize("renewed", [True, False], ids=["a new one", "the old one"])
def test_a_query_whose_token_ends_is_taken_up_with(own, door_to, driver, tmp_path, renewed):
    mine, life = own(more="  skew: 0s\n"), QUERY_SECONDS // 2
    sconce = door_to({"ads": driver}, proof=mine)
    old, new = mine.token("ann", "ads", expires=f"{life}s"), mine.token("ann", "ads")
    soon = time.monotonic() + life - 2  # when a careful client shows the new one
    token = lambda: new if renewed and time.monotonic() > soon else old  # noqa: E731
    session = connect(Renewing(url(sconce, None), mine.certificate.read_bytes(), token))
    query = lambda: slow(session, tmp_path / "running", QUERY_SECONDS)  # noqa: E731
    if renewed:
        assert query() == [(sum(range(2 * QUERY_SECONDS)),)]
        taken_up = sconce.metrics("sconce_calls_total", method="ReattachExecute", code="OK")
        assert taken_up, "the stream was not ended with its token"
    else:
        told = outcome(query)
        assert (told["type"], told["message"]) == (ONE, EXPIRED)


@pytest.mark.skipif(VERSION < (4, 0), reason="Spark 4.0 brought the variable")
@every_client
def test_a_token_in_the_environment_is_as_good_as_one_in_the_url(proved, proof, monkeypatch):
    monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", proof.token("ann", "ads"))
    assert answer(connect(url(proved, None))) == answer(connect(url(proved, proof.token("ann", "ads"))))


@pytest.mark.quick
def test_a_key_that_is_taken_away_ends_its_tokens_and_one_that_comes_back_restores_them(own, door_to, driver, tmp_path):
    mine = own()
    session = connect(url(door_to({"ads": driver}, proof=mine), mine.token("ann", "ads")))
    assert rows(session.sql("SELECT 1")) == [(1,)]
    published = mine.place / "dev.key.jwks"
    other, before = (rig.Proof(tmp_path / "other").place / "dev.key.jwks").read_text(), published.read_text()
    published.write_text(other)
    until(lambda: "value" not in outcome(lambda: answer(session)), 10)
    assert "its key is unknown" in refusal(lambda: rows(session.sql("SELECT 1")))[1]
    both_keys = {"keys": [*json.loads(other)["keys"], *json.loads(before)["keys"]]}
    published.write_text(json.dumps(both_keys))
    until(lambda: "value" in outcome(lambda: answer(session)), 10)
    assert rows(session.sql("SELECT 1")) == [(1,)]


@pytest.mark.quick
def test_a_certificate_is_replaced_under_a_session_that_goes_on(own, door_to, driver, tmp_path):
    mine = own()
    sconce, token, mark = door_to({"ads": driver}, proof=mine), mine.token("ann", "ads"), tmp_path / "running"
    old = mine.certificate.read_bytes()
    session = connect(url(sconce, token))
    running = Running(lambda: slow(session, mark))
    until(mark.exists)
    mine.renew()
    new = mine.certificate.read_bytes()
    until(lambda: "value" in outcome(lambda: hello(sconce, new, token)), 10)
    assert outcome(lambda: hello(sconce, old, token))["type"] == "_InactiveRpcError"
    assert rows(connect(Trusting(url(sconce, token), new)).sql("SELECT 1")) == [(1,)]
    assert len(running.result()) == 1
    assert rows(session.sql("SELECT 1")) == [(1,)]


def hello(sconce, roots: bytes, token: str) -> str:
    """One call without PySpark's retries."""
    return Caller(f"localhost:{sconce.address.rpartition(':')[2]}", roots, token).identity(str(uuid.uuid4()), "x")


@pytest.mark.quick
def test_a_team_s_file_that_is_broken_harms_nobody_and_one_that_is_gone_only_its_members(
    proved, proof, door_to, driver, other_driver
):
    sconce = door_to({"ads": driver, "ml": other_driver}, proof=proof)
    tokens = {user: proof.token(user, TEAMS[user]) for user in ("ann", "bob")}
    ann, bob = [connect(url(sconce, token)) for token in tokens.values()]
    ads, ml = answer(ann), answer(bob)
    whole = (sconce.place / "teams" / "ads.yaml").read_text()
    (sconce.place / "teams" / "ads.yaml").write_text(whole + "nonsense: {}\n")
    until(lambda: any(not line.endswith(" 0") for line in sconce.metrics("sconce_config_errors")))
    assert (answer(ann), answer(bob)) == (ads, ml)
    assert answer(connect(url(sconce, tokens["ann"]))) == ads
    sconce.write_team("ads", None)
    until(lambda: "value" not in outcome(lambda: answer(ann)), 10)
    for session in (ann, connect(url(sconce, tokens["ann"]))):
        kind, said = refusal(lambda session=session: rows(session.sql("SELECT 1")))
        assert (kind, "is not served here any more" in said) == (ONE, True)
    assert (answer(bob), answer(connect(url(sconce, tokens["bob"])))) == (ml, ml)


@every_client
def test_a_query_that_runs_when_its_team_is_removed_brings_its_rows_and_its_session_ends_later(
    proof, door_to, driver, other_driver, tmp_path
):
    sconce = door_to({"ads": driver, "ml": other_driver}, proof=proof, settings="  removal_delay: 20s\n")
    token, mark = proof.token("ann", "ads"), tmp_path / "running"
    session = connect(url(sconce, token))
    query = Running(slow, session, mark, 8)
    until(mark.exists, 30)
    sconce.write_team("ads", None)
    until(lambda: "is not served here any more" in str(outcome(lambda: answer(connect(url(sconce, token))))), 10)
    assert query.result() == [(sum(range(16)),)]
    assert rows(session.sql("SELECT 1")) == [(1,)]
    until(lambda: "value" not in outcome(lambda: answer(session)), 30)
    assert "ads/prod was removed" not in refusal(lambda: answer(session))[1], "its time is over"
    assert '"a team was removed"' in sconce.log.read_text()


@every_client
def test_a_client_certificate_proves_its_owner_where_there_is_no_token(own, door_to, driver, tmp_path):
    clients = tmp_path / "clients"
    lines = "  certificates: { user: uri, prefix: spiffe://example.com/ }\n"
    mine = own(listen=f'    client_authorities: "{clients / "ca.crt"}"\n', more=lines)
    clients.mkdir()
    mine.openssl("-subj", "/CN=clients", "-keyout", clients / "ca.key", "-out", clients / "ca.crt")
    signed = ["-CA", clients / "ca.crt", "-CAkey", clients / "ca.key"]
    names = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=URI:spiffe://example.com/ann"]
    mine.openssl("-subj", "/CN=x", *names, *signed, "-keyout", clients / "ann.key", "-out", clients / "ann.crt")
    sconce = door_to({"ads": driver}, proof=mine, members={"ads": "{ users: [ann] }"})
    roots, shown = mine.certificate.read_bytes(), [(clients / name).read_bytes() for name in ("ann.key", "ann.crt")]
    session = connect(Trusting(url(sconce, None, user_id="eve"), roots, *shown))
    session.conf.set("sconce.word", "ann's")

    def seen_as(user: str) -> str:
        return connect(f"sc://{driver}/;user_id={user};session_id={session.session_id}").conf.get("sconce.word", "no")

    assert (seen_as("ann"), seen_as("eve")) == ("ann's", "no")
    assert "no token" in refusal(lambda: answer(connect(url(sconce, None))))[1]
    eve = mine.token("eve", "ads")
    assert answer(connect(Trusting(url(sconce, eve), roots, *shown))) == answer(session)
