"""What sconce itself says and does, as PySpark sees it: refusals, reloads, drains, dead drivers."""

import os
import signal
import threading
import time

import grpc
import pytest
import rig
from client import Running, connect, outcome, rows, until
from cutter import Cutter
from pyspark.sql.connect import functions as f
from pyspark.sql.types import LongType

SECONDS = 6  # how long `slow` runs, whatever the machine


def slow(spark, mark, seconds: int = SECONDS) -> list[tuple]:
    """A query that takes a time of its own, not one of the processor's; it makes the file `mark` when it runs."""
    path = str(mark)

    def wait(number):
        open(path, "a").close()
        time.sleep(1)
        return number

    return rows(spark.range(0, 2 * seconds, 1, 2).select(f.udf(wait, LongType())("id").alias("n")).agg(f.sum("n")))


SUM = [(sum(range(2 * SECONDS)),)]


def app_name(spark) -> str:
    """Which driver answers: each is started under a name of its own."""
    return spark.conf.get("spark.app.name")


@pytest.mark.quick
@pytest.mark.every_client
def test_each_team_reaches_its_own_driver(door, driver, other_driver):
    told = {team: app_name(connect(door.url(team))) for team in ("ads", "ml")}
    directly = {"ads": app_name(connect(f"sc://{driver}/")), "ml": app_name(connect(f"sc://{other_driver}/"))}
    assert told == directly


@pytest.mark.quick
@pytest.mark.every_client
@pytest.mark.parametrize("team, words", [(None, ["x-sconce-team"]), ("sales", ["sales"])], ids=["missing", "unknown"])
def test_a_team_that_is_missing_or_unknown_is_refused_in_plain_words(door, team, words):
    since = time.monotonic()
    told = outcome(lambda: rows(connect(door.url(team)).sql("SELECT 1")))
    assert time.monotonic() - since < 10, "the client was made to retry"
    assert "value" not in told
    assert all(word in told["message"] for word in words)
    assert "_InactiveRpcError" not in told["message"] and "_MultiThreadedRendezvous" not in told["message"]


@pytest.mark.quick
@pytest.mark.every_client
def test_a_space_that_was_pasted_into_the_url_is_refused_in_plain_words(door):
    since = time.monotonic()
    told = outcome(lambda: rows(connect(door.url("ads%20")).sql("SELECT 1")))
    assert time.monotonic() - since < 10, "the client was made to retry"
    assert "the value of x-sconce-team ends with a space: remove it" in told["message"]


@pytest.mark.quick
@pytest.mark.every_client
def test_a_connection_to_a_driver_goes_from_one_client_to_the_next(door_to, driver):
    sconce = door_to({"ads": driver})
    for number in range(6):
        spark = connect(sconce.url("ads"))
        unset = spark.conf.get("spark.sql.session.timeZone")
        spark.conf.set("spark.sql.session.timeZone", "Pacific/Chatham")
        assert unset != "Pacific/Chatham"
        assert rows(spark.range(number).select(f.sum("id"))) == [(sum(range(number)) if number else None,)]
        time.sleep(0.3)  # the client releases what it has read, beside everything else
        until(lambda: all(line.endswith(" 0") for line in sconce.metrics("sconce_calls_active")))
        spark.client._channel.close()  # stop() would wait for what other tests left to doors that are gone
        until(lambda: sconce.metrics("sconce_downstream_connections_active")[0].endswith(" 0"))
    assert not sconce.metrics("sconce_upstream_connections_reused_total")[0].endswith(" 0")


@pytest.mark.quick
def test_a_reload_neither_loses_nor_moves_a_running_query(door_to, driver, other_driver, tmp_path):
    sconce = door_to({"ads": driver})
    spark = connect(sconce.url("ads"))
    assert rows(spark.sql("SELECT 1")) == [(1,)]
    running = Running(lambda: slow(spark, tmp_path / "running"))
    until((tmp_path / "running").exists)
    sconce.write_team("ml", other_driver)
    until(lambda: "value" in outcome(lambda: app_name(connect(sconce.url("ml")))))
    assert app_name(connect(sconce.url("ml"))) == app_name(connect(f"sc://{other_driver}/"))
    assert running.result() == SUM


def test_a_bad_edit_keeps_the_last_good_plan(door_to, driver):
    sconce = door_to({"ads": driver})
    (sconce.place / "teams" / "ads.yaml").write_text("team: ads\nenvironmentz: {}\n")
    until(lambda: any(not line.endswith(" 0") for line in sconce.metrics("sconce_config_errors")))
    assert rows(connect(sconce.url("ads")).sql("SELECT 1")) == [(1,)]
    assert sconce.get("/readyz")[0] == 200


@pytest.mark.quick
def test_a_drain_lets_a_running_query_finish(door_to, driver, cutter_to, tmp_path):
    """Its stream ends where it began; what the client asks afterwards goes to the next sconce."""
    old, new = door_to({"ads": driver}), door_to({"ads": driver})
    running = drained(old, new, cutter_to(old.address), tmp_path / "running")
    assert running.result() == SUM
    assert old.child.wait(40) == 0
    assert not new.metrics("sconce_calls_total", method="ReattachExecute")


def test_a_drain_whose_grace_is_short_hands_the_query_to_the_next_sconce(door_to, driver, cutter_to, tmp_path):
    """The stream is ended at a message boundary; the client reattaches through whoever takes its connection then."""
    old = door_to({"ads": driver}, settings="drain: { grace: 1s }\n")
    new = door_to({"ads": driver})
    running = drained(old, new, cutter_to(old.address), tmp_path / "running")
    assert old.child.wait(30) == 0
    assert not running.done(), "the query was over before the grace was"
    assert running.result() == SUM
    until(lambda: new.metrics("sconce_calls_total", method="ReattachExecute"), 10)  # counted when it has ended


def drained(old: rig.Sconce, new: rig.Sconce, balancer: Cutter, mark) -> Running:
    """A slow query that runs through `old`, which was told to drain; whoever connects from now on reaches `new`."""
    spark = connect(old.url("ads").replace(old.address, balancer.address))
    assert rows(spark.sql("SELECT 1")) == [(1,)]
    running = Running(lambda: slow(spark, mark))
    until(mark.exists)
    balancer.upstream = new.address
    os.kill(old.pid, signal.SIGTERM)
    return running


def test_a_driver_that_is_not_there_is_told_by_its_team(door_to, cutter_to, driver):
    """One call without PySpark's retries: at once, UNAVAILABLE, and no address in the text."""
    gone = cutter_to(driver)
    gone.close()
    sconce = door_to({"ads": gone.address})
    call = grpc.insecure_channel(sconce.address).unary_unary("/spark.connect.SparkConnectService/Config")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=[("x-sconce-team", "ads"), ("x-sconce-env", "prod")], timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "ads" in refused.value.details()
    assert gone.address not in refused.value.details()


def test_a_driver_killed_under_a_query_and_started_again(door_to, tmp_path):
    """What the client makes of it is the same as without sconce to the last word, and the next session works.

    The word depends on whether the client has heard of its query before, so both have when the driver is killed.
    """
    version = os.environ["SCONCE_TEST_SERVER"]
    first = rig.Spark(version, "mortal", tmp_path).ready()
    sconce = door_to({"ads": first.address})
    sessions = [connect(f"sc://{first.address}/"), connect(sconce.url("ads"))]
    assert [rows(spark.sql("SELECT 1")) for spark in sessions] == [[(1,)]] * 2
    heard = [threading.Event() for _ in sessions]
    for spark, event in zip(sessions, heard, strict=True):
        spark.registerProgressHandler(lambda event=event, **_: event.set())
    running = [Running(lambda spark=spark: slow(spark, tmp_path / "running", 600)) for spark in sessions]
    assert all(event.wait(60) for event in heard)
    first.kill()
    second = rig.Spark(version, "mortal-again", tmp_path, port=first.port).ready()
    directly, through = [outcome(lambda one=one: one.result(150)) for one in running]
    assert "value" not in directly
    assert through == directly
    assert rows(connect(sconce.url("ads")).sql("SELECT 2")) == [(2,)]
    second.stop()
