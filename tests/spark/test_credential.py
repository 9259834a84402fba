"""A real driver that wants a token of its own: only sconce has it, and no client is told."""

import uuid

import pytest
import rig
from client import VERSION as CLIENT
from client import connect, outcome, rows, until
from raw import Caller, request
from test_proof import ONE, refusal, url

VERSION = "4.1.4"
TOKEN, STORE = "token-of-the-driver", "secret-of-the-store"
OWN, HIDDEN = "spark.connect.authenticate.token", "spark.hadoop.fs.s3a.secret.key"


@pytest.fixture(scope="module")
def shut(tmp_path_factory) -> rig.Spark:
    """A driver that takes calls with its token alone, and tells it to whoever asks, as some releases of 4.0 to 4.2 do."""
    conf = {OWN: TOKEN, HIDDEN: STORE, "spark.hadoop.told": "yes", "spark.redaction.regex": "(?!)"}
    spark = rig.Spark(VERSION, "shut-driver", tmp_path_factory.mktemp("shut"), conf=conf).ready()
    yield spark
    spark.stop()


@pytest.fixture
def before(shut, proof, door_to, tmp_path):
    """Makes a sconce before that driver, whose file holds this token: `before(token)`, and the file."""
    file = tmp_path / "ads.token"

    def make(token: str) -> rig.Sconce:
        file.write_text(f"{token}\n")
        lines = f'driver_token_file: "{file}"\nhidden_configurations: [{HIDDEN}]\n'
        return door_to({"ads": shut.address}, proof=proof, lines={"ads": lines})

    return make, file


def masked(value: str) -> str:
    return "*" * len(value)


def configuration(caller: Caller, **operation) -> dict:
    """The pairs of an answer to Config; None for a key without a value."""
    asked = request("Config", str(uuid.uuid4()))
    asked.operation.Clear()
    for name, value in operation.items():
        if name == "get_all":
            asked.operation.get_all.prefix = value
        elif name == "get_with_default":
            asked.operation.get_with_default.pairs.add(key=value, value="else")
        else:
            getattr(asked.operation, name).keys.append(value)
    [answer] = caller("Config", asked)
    return {pair.key: pair.value if pair.HasField("value") else None for pair in answer.pairs}


WAYS = [
    ("get", OWN),
    ("get", HIDDEN),
    ("get_option", OWN),
    ("get_with_default", HIDDEN),
    ("get_all", ""),
    ("get_all", "spark."),
    ("get_all", "spark.connect.authenticate.tok"),
    ("get_all", OWN),
    ("get_all", "spark.hadoop."),
]


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_its_configuration_is_told_but_for_what_is_hidden(before, shut, proof, gzip):
    make, _ = before
    sconce = make(TOKEN)
    port, roots = sconce.address.rpartition(":")[2], proof.certificate.read_bytes()
    through = Caller(f"localhost:{port}", roots, proof.token("ann", "ads"), gzip)
    direct = Caller(shut.address, token=TOKEN)
    shown = set()
    for name, key in WAYS:
        real, told = configuration(direct, **{name: key}), configuration(through, **{name: key})
        secret = {key: masked(value) for key, value in real.items() if value in (TOKEN, STORE)}
        shown |= {real[key] for key in secret}
        changing = {key for key in real if key.endswith("startTime")}
        assert told == {**real, **secret, **{key: told[key] for key in changing}}
    assert shown == {TOKEN, STORE}, "the driver hides them itself: this shows nothing"


@pytest.mark.every_client
def test_people_read_and_write_the_configuration_as_without_sconce(before, shut, proof):
    make, _ = before

    def case(session) -> dict:
        conf, told = session.conf, {}
        for key in ("token", "authenticate.token", "secret.key"):
            told[f"default of {key}"] = conf.get(key, "nothing")
            conf.set(key, "mine")
            told[key] = conf.get(key), conf.get(key, "nothing"), conf.isModifiable(key)
            conf.unset(key)
            told[f"no {key}"] = conf.get(key, "nothing"), outcome(lambda key=key: conf.get(key))
        for key in (OWN, HIDDEN):
            told[key] = conf.get(key), conf.get(key, "nothing"), conf.get(key, None)
            told[f"change of {key}"] = conf.isModifiable(key)
        if CLIENT >= (4, 0):
            told["all"] = {key: value for key, value in conf.getAll.items() if not key.endswith("startTime")}
        return told

    direct = case(connect(f"sc://{shut.address}/;authorization=Bearer%20{TOKEN}"))
    assert direct[OWN] == (TOKEN,) * 3 and direct[HIDDEN] == (STORE,) * 3, "the driver hides them itself"
    for key, secret in ((OWN, TOKEN), (HIDDEN, STORE)):
        direct[key] = (masked(secret),) * 3
        if CLIENT >= (4, 0):
            direct["all"][key] = masked(secret)
    assert case(connect(url(make(TOKEN), proof.token("ann", "ads")))) == direct


def test_people_work_without_knowing_it(before, shut, proof):
    make, _ = before
    session = connect(url(make(TOKEN), proof.token("ann", "ads")))
    assert rows(session.sql("SELECT 1")) == [(1,)]
    assert session.conf.get(OWN) == masked(TOKEN)
    assert session.conf.get("spark.hadoop.told") == "yes"
    session.conf.set("spark.sql.shuffle.partitions", "3")
    assert session.conf.get("spark.sql.shuffle.partitions") == "3"
    assert "Invalid authentication token" in str(outcome(lambda: Caller(shut.address, token="x").identity("a", "b")))


def test_a_token_that_is_wrong_is_told_to_be_sconce_s_and_one_that_is_put_right_works_at_once(before, proof):
    make, file = before
    session = connect(url(make("wrong"), proof.token("ann", "ads")))
    kind, said = refusal(lambda: rows(session.sql("SELECT 1")))
    assert kind == ONE
    assert "the driver of cluster ads/prod" in said and "rejected the token that sconce has for it" in said
    file.write_text(TOKEN)
    until(lambda: "value" in outcome(lambda: rows(session.sql("SELECT 1"))), 10)


def test_a_token_may_be_in_the_environment_of_sconce(shut, proof, door_to, monkeypatch):
    monkeypatch.setenv("ADS_TOKEN", TOKEN)
    sconce = door_to({"ads": shut.address}, proof=proof, lines={"ads": "driver_token_variable: ADS_TOKEN\n"})
    assert rows(connect(url(sconce, proof.token("ann", "ads"))).sql("SELECT 1")) == [(1,)]
