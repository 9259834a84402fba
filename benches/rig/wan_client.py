"""A PySpark client that uploads, run by wan.py in an environment of PySpark: artifacts, and data frames
made of local data. Prints one line of JSON for each measurement."""

import json
import os
import sys
import tempfile
import threading
import time

import pandas
from pyspark.sql.connect.session import SparkSession

MEGA = 1_000_000
ROW = 10_000
"""Octets of each row: few rows, so that it is the upload which takes time."""


def main(url: str, streams: list[int], times: int, artifacts: int, frame: int) -> None:
    spark = SparkSession.builder.remote(url).create()
    spark.range(1).count()
    for count in streams:
        for number in range(times):
            files = [scratch(artifacts // count) for _ in range(count)]
            took = abreast([lambda it=it: spark.addArtifacts(it.name, file=True) for it in files])
            tell("addArtifacts", count, number, artifacts / took, took)
            # Never the same data twice: Spark keeps what it has seen.
            rows = frame * MEGA // count // ROW
            frames = [local(rows) for _ in range(count)]
            took = abreast([lambda it=it: spark.createDataFrame(it).count() for it in frames])
            tell("createDataFrame", count, number, frame / took, took)
    spark.stop()


def local(rows: int) -> pandas.DataFrame:
    return pandas.DataFrame({"octets": [os.urandom(ROW) for _ in range(rows)]})


def scratch(megabytes: int):
    file = tempfile.NamedTemporaryFile(suffix=".bin")
    file.write(os.urandom(megabytes * MEGA))
    file.flush()
    return file


def abreast(calls: list) -> float:
    """Seconds until all have ended; one that fails fails all."""
    failures = []

    def run(call) -> None:
        try:
            call()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - began


def tell(what: str, streams: int, number: int, rate: float, seconds: float) -> None:
    row = {"what": what, "streams": streams, "number": number, "rate": rate, "seconds": seconds}
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], [int(it) for it in words[1].split(",")], *map(int, words[2:]))
