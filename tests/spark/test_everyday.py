"""What everybody does every day, by every client version: the same rows and the same errors as without sconce."""

import datetime
import decimal
import hashlib
import os

import pytest
from client import VERSION, connect, outcome, rows, sent, steady
from pyspark.sql.connect import functions as f

pytestmark = pytest.mark.every_client

MEGABYTE = 1024 * 1024


@pytest.mark.quick
def test_config_is_set_read_and_unset(both):
    def case(spark):
        spark.conf.set("spark.sql.shuffle.partitions", "7")
        spark.conf.set("sconce.überall", "grün 🟢")
        told = [spark.conf.get("spark.sql.shuffle.partitions"), spark.conf.get("sconce.überall")]
        spark.conf.unset("sconce.überall")
        told.append(spark.conf.get("sconce.überall", "nothing"))
        told.append(spark.conf.isModifiable("spark.sql.shuffle.partitions"))
        return told

    assert both.same(case) == {"value": ["7", "grün 🟢", "nothing", True]}


@pytest.mark.quick
def test_sql_brings_values_of_every_type(both):
    query = """
        SELECT 1 AS i, CAST(2 AS BIGINT) AS l, 1.5D AS d, CAST('3.14' AS DECIMAL(10, 2)) AS money, 'żółć' AS `größe`,
               NULL AS nothing, DATE'2024-02-29' AS day, TIMESTAMP_NTZ'2024-02-29 12:00:00.123456' AS moment,
               array(1, 2) AS a, map('k', 1) AS m, named_struct('x', 1) AS s, X'00FF' AS octets, true AS yes"""

    def case(spark):
        frame = spark.sql(query)
        row = frame.collect()[0]
        return frame.columns, [row[name] for name in frame.columns if name != "s"], tuple(row["s"])

    columns, values, struct = both.same(case)["value"]
    assert columns[4] == "größe"
    assert values[3:5] == [decimal.Decimal("3.14"), "żółć"]
    assert values[7] == datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
    assert values[-2:] == [bytearray(b"\x00\xff"), True]
    assert struct == (1,)


@pytest.mark.quick
def test_a_shuffle_gives_the_same_groups(both):
    def case(spark):
        groups = spark.range(100_000).groupBy((f.col("id") % 5).alias("k")).agg(f.sum("id"), f.count("*"))
        return rows(groups.orderBy("k"))

    assert both.same(case)["value"][0] == (0, 999_950_000, 20_000)


def test_a_schema_and_a_plan_can_be_asked_for(both):
    def case(spark):
        frame = spark.range(3).withColumn("x", f.col("id") * 2)
        return frame.schema.json(), steady(frame._explain_string())

    assert '"name":"x"' in both.same(case)["value"][0]


def test_ten_megabytes_go_up_as_a_local_relation(both):
    text = [hashlib.sha256(str(i).encode()).hexdigest() * 16 for i in range(10_240)]
    given = list(enumerate(text))

    def case(spark):
        frame = spark.createDataFrame(given, "id long, text string")
        return rows(frame.agg(f.sum(f.length("text")), f.sum("id"), f.max(f.md5("text"))))

    total, ids, _ = both.same(case)["value"][0]
    assert (total, ids) == (10 * MEGABYTE, sum(range(10_240)))


def test_a_python_udf_runs(both):
    def case(spark):
        double = f.udf(lambda number: f"{number * 2} ✓", "string")
        return rows(spark.range(4).select(double("id")))

    assert both.same(case)["value"] == [("0 ✓",), ("2 ✓",), ("4 ✓",), ("6 ✓",)]


def test_an_artifact_arrives_unharmed(both, tmp_path):
    content = os.urandom(3 * MEGABYTE + 7)
    path = tmp_path / "artifact.bin"
    path.write_bytes(content)
    assert both.same(lambda spark: sent(spark, path))["value"] == [(hashlib.sha256(content).hexdigest(),)]


WRONG = {
    "an unknown column": ("SELECT `größenwahn` FROM (SELECT 1)", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
    "a column that must be quoted": ("SELECT größe FROM range(1)", "INVALID_IDENTIFIER"),
    "an unknown table": ("SELECT * FROM `нет.такой`", "TABLE_OR_VIEW_NOT_FOUND"),
    "bad syntax": ("SELEC 1", "PARSE_SYNTAX_ERROR"),
    "a division by zero": ("SELECT 1 / (id - id) FROM range(3)", "DIVIDE_BY_ZERO"),
    "a bad cast": ("SELECT CAST('zwölf' AS INT)", "CAST_INVALID_INPUT"),
    "a raised error": ("SELECT raise_error('Größe 🟢 100 %')", "USER_RAISED_EXCEPTION"),
}


@pytest.mark.quick
@pytest.mark.parametrize("query, condition", WRONG.values(), ids=WRONG.keys())
def test_errors_keep_class_state_and_message(both, query, condition):
    def case(spark):
        spark.conf.set("spark.sql.ansi.enabled", "true")
        return rows(spark.sql(query))

    told = both.same(case)
    assert "value" not in told
    assert condition in (told["condition"] or "") + told["message"]
    if VERSION >= (4, 0):
        assert told["condition"] == condition
        assert told["sqlstate"] not in (None, "None", "")


def test_a_long_error_arrives_whole(both):
    """Percent-encoded and in its details, it fills most of the 8 KiB of trailers that grpc-core takes for sure."""

    def case(spark):
        return rows(spark.sql(f"SELECT raise_error('{'ß' * 600}')"))

    assert "ß" * 600 in both.same(case)["message"]


def test_an_error_that_ends_with_a_space_arrives_whole(both):
    """HTTP/2 calls such a value malformed: sconce percent-encodes the space, and loses nothing."""

    def case(spark):
        source = spark.read.format("jdbc").option("url", "jdbc:postgresql://db.example/x").option("dbtable", "t")
        return source.option("driver", "org.postgresql.Driver ").load().schema

    assert "org.postgresql.Driver" in both.same(case)["message"]


def test_an_error_longer_than_the_client_takes_ends_the_call_and_no_more(both):
    """The server resets the stream, since its trailers would exceed the client's MAX_HEADER_LIST_SIZE."""

    def case(spark):
        told = outcome(lambda: rows(spark.sql(f"SELECT raise_error('{'ß' * 5000}')")))
        return told["type"], rows(spark.sql("SELECT 'still here'"))

    assert both.same(case)["value"] == ("SparkConnectGrpcException", [("still here",)])


def test_two_sessions_do_not_see_each_other(both):
    def case(url):
        one, two = connect(url), connect(url)
        one.range(3).createOrReplaceTempView("mine")
        one.conf.set("spark.sql.shuffle.partitions", "3")
        told = [rows(one.sql("SELECT count(*) FROM mine")), two.conf.get("spark.sql.shuffle.partitions")]
        told.append(outcome(lambda: rows(two.sql("SELECT * FROM mine")))["type"])
        one.stop()
        two.stop()
        return told

    assert both.same_at(case)["value"] == [[(3,)], "2", "AnalysisException"]
