"""Connections that break while a result comes down: the client reattaches, and every row arrives once.

The client's windows are held at their first size. By default grpc-core grows them to many megabytes, and what is in
flight then can exceed the 10 MB that a Spark server keeps for a reattach, with or without anybody in between.
"""

import hashlib

import pytest
from client import connect, rows, until
from pyspark.sql.connect import functions as f

pytestmark = [pytest.mark.every_client, pytest.mark.quick]

STEADY_WINDOWS = {"grpc.http2.bdp_probe": 0}
MEGABYTE = 1024 * 1024


def download(spark) -> str:
    """24 MB in some dozens of messages; a digest of all rows in order."""
    text = f.repeat(f.sha2(f.col("id").cast("string"), 256), 1024)
    whole = hashlib.sha256()
    for row in spark.range(0, 384, 1, 24).select("id", text.alias("text")).toLocalIterator():
        whole.update(f"{row[0]} {row[1]}".encode())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def expected() -> str:
    whole = hashlib.sha256()
    for i in range(384):
        whole.update(f"{i} {hashlib.sha256(str(i).encode()).hexdigest() * 1024}".encode())
    return whole.hexdigest()


def test_a_cut_between_client_and_sconce_is_survived(door, cutter_to, expected):
    cutter = cutter_to(door.address)
    spark = connect(door.url("ads").replace(door.address, cutter.address), STEADY_WINDOWS)
    assert rows(spark.sql("SELECT 1")) == [(1,)]
    cutter.downloaded, cutter.cut_after = 0, 6 * MEGABYTE
    assert download(spark) == expected
    assert cutter.cuts == 1
    assert cutter.accepted >= 2
    spark.stop()


def test_a_cut_between_sconce_and_driver_is_survived(door_to, driver, cutter_to, expected):
    cutter = cutter_to(driver)
    sconce = door_to({"ads": cutter.address})
    spark = connect(sconce.url("ads"), STEADY_WINDOWS)
    assert rows(spark.sql("SELECT 1")) == [(1,)]
    cutter.downloaded, cutter.cut_after = 0, 6 * MEGABYTE
    assert download(spark) == expected
    assert cutter.cuts == 1
    until(lambda: sconce.metrics("sconce_calls_total", method="ReattachExecute"), 10)  # counted when it has ended
    spark.stop()


def test_a_cut_while_nothing_is_under_way_goes_unnoticed(door_to, driver, cutter_to):
    cutter = cutter_to(driver)
    spark = connect(door_to({"ads": cutter.address}).url("ads"))
    spark.conf.set("sconce.kept", "yes")
    for _ in range(3):
        cutter.cut()
        assert spark.conf.get("sconce.kept") == "yes"
        assert rows(spark.sql("SELECT 1")) == [(1,)]
    spark.stop()
