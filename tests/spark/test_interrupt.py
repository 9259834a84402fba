"""Calls that are ended by their caller: the driver stops working, and says so as it does without sconce."""

import threading

import pytest
from client import Running, outcome, rows

pytestmark = pytest.mark.quick

# Minutes of work if nobody ends it.
LONG = "SELECT count(*) FROM range(0, 100000000000L) WHERE id % 7 = rand()"


def tagged(spark, tag: str | None, query: str) -> list:
    """Tags belong to a thread: call it in the one that is to carry the tag."""
    if tag:
        spark.addTag(tag)
    return rows(spark.sql(query))


class Started:
    """A query in a thread of its own, of which Spark has told that its tasks are running.

    An interrupt that comes while Spark still plans is told as done, but can leave the job running.
    """

    def __init__(self, spark, query: str, tag: str | None = None):
        self.operation, self.known = None, threading.Event()

        def progress(*, inflight_tasks, operation_id, **_):
            if inflight_tasks > 0 and self.operation is None:
                self.operation = operation_id
                self.known.set()

        spark.registerProgressHandler(progress)
        self.running = Running(tagged, spark, tag, query)
        assert self.known.wait(60), "no task of it ever ran"

    def outcome(self) -> dict:
        return outcome(self.running.result)


def test_interrupt_all_ends_what_runs(both):
    def case(spark):
        started = Started(spark, LONG)
        interrupted = spark.interruptAll()
        return interrupted == [started.operation], started.outcome(), rows(spark.sql("SELECT 'still here'"))

    itself, told, after = both.same(case)["value"]
    assert itself
    assert "OPERATION_CANCELED" in told["message"]
    assert after == [("still here",)]


def test_a_tag_ends_its_own_query_and_no_other(both):
    def case(spark):
        doomed = Started(spark, LONG, "doomed")  # holds both cores, so the other one waits for it
        spared = Running(tagged, spark, "spared", "SELECT sum(id) FROM range(1000)")
        interrupted = spark.interruptTag("doomed")
        return interrupted == [doomed.operation], doomed.outcome(), spared.result()

    itself, told, spared = both.same(case)["value"]
    assert itself
    assert "OPERATION_CANCELED" in told["message"]
    assert spared == [(499_500,)]


def test_one_operation_ends_by_its_id(both):
    def case(spark):
        started = Started(spark, LONG)
        interrupted = spark.interruptOperation(started.operation)
        return interrupted == [started.operation], started.outcome()

    itself, told = both.same(case)["value"]
    assert itself
    assert "OPERATION_CANCELED" in told["message"]
