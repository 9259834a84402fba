"""What sconce holds while much passes through: next to nothing, whatever the size of a message.

Measured by the kernel: the peak of resident memory since it was reset (VmHWM), against what is resident when idle. Only
a release build is bound by the figure.
"""

import hashlib
import pathlib
import random

import pytest
from client import connect, rows
from pyspark.sql.connect import functions as f

MEGABYTE = 1024 * 1024
GROWTH_MAX = 4 * MEGABYTE


class Resident:
    """Resident memory of a process."""

    def __init__(self, pid: int):
        self.proc = pathlib.Path(f"/proc/{pid}")
        self.idle = self.field("VmRSS")
        (self.proc / "clear_refs").write_text("5")  # the peak starts anew

    def field(self, name: str) -> int:
        line = next(line for line in (self.proc / "status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def growth(self) -> int:
        return self.field("VmHWM") - self.idle


@pytest.mark.quick
def test_a_result_of_200_megabytes_is_not_held(door_to, driver):
    sconce = door_to({"ads": driver})
    spark = connect(sconce.url("ads"))
    assert rows(spark.sql("SELECT 1")) == [(1,)]
    resident = Resident(sconce.pid)
    text = f.repeat(f.sha2(f.col("id").cast("string"), 256), 16 * 1024)
    table = spark.range(200).select(text.alias("text")).toArrow()
    assert table.nbytes >= 200 * MEGABYTE
    assert resident.growth() <= GROWTH_MAX
    spark.stop()


@pytest.mark.quick
def test_a_plan_of_100_megabytes_is_not_held(door_to, driver):
    sconce = door_to({"ads": driver})
    spark = connect(sconce.url("ads"))
    spark.conf.set("spark.sql.session.localRelationCacheThreshold", str(1 << 30))
    block = random.Random(2).randbytes(MEGABYTE)
    given = [(i, block[i:] + block[:i]) for i in range(100)]
    resident = Resident(sconce.pid)
    frame = spark.createDataFrame(given, "id long, octets binary")
    greatest = max(hashlib.md5(octets).hexdigest() for _, octets in given)
    assert rows(frame.agg(f.sum(f.length("octets")), f.max(f.md5("octets")))) == [(100 * MEGABYTE, greatest)]
    assert resident.growth() <= GROWTH_MAX
    spark.stop()
