"""Much data in one go, deep plans, many threads, compressed messages: the same as without sconce."""

import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import connect, rows, sent
from pyspark.sql.connect import functions as f

MEGABYTE = 1024 * 1024


def test_a_plan_above_64_megabytes_is_planned(both):
    """One message on the wire: random octets, which plan compression cannot shrink, and no cache for local relations."""
    block = random.Random(1).randbytes(MEGABYTE)
    given = [(i, block[i:] + block[:i]) for i in range(72)]

    def case(spark):
        spark.conf.set("spark.sql.session.localRelationCacheThreshold", str(1 << 30))
        frame = spark.createDataFrame(given, "id long, octets binary")
        return rows(frame.agg(f.sum(f.length("octets")), f.max(f.md5("octets"))))

    greatest = max(hashlib.md5(octets).hexdigest() for _, octets in given)
    assert both.same(case)["value"] == [(72 * MEGABYTE, greatest)]


def test_a_large_sql_text_is_planned(both):
    text = hashlib.sha512(b"sconce").hexdigest() * 8192

    def case(spark):
        return rows(spark.sql(f"SELECT length('{text}'), md5('{text}')"))

    assert both.same(case)["value"] == [(len(text), hashlib.md5(text.encode()).hexdigest())]


@pytest.mark.quick
def test_a_result_of_200_megabytes_comes_whole(both):
    def case(spark):
        text = f.repeat(f.sha2(f.col("id").cast("string"), 256), 16 * 1024)
        table = spark.range(200).select("id", text.alias("text")).toArrow()
        whole = hashlib.sha256()
        for value in table.column("text"):
            whole.update(value.as_buffer())
        return table.num_rows, table.nbytes // MEGABYTE, whole.hexdigest()

    expected = hashlib.sha256()
    for i in range(200):
        expected.update(hashlib.sha256(str(i).encode()).hexdigest().encode() * (16 * 1024))
    assert both.same(case)["value"] == (200, 200, expected.hexdigest())


def test_an_artifact_of_50_megabytes_arrives_unharmed(both, tmp_path):
    content = os.urandom(50 * MEGABYTE)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    assert both.same(lambda spark: sent(spark, path))["value"] == [(hashlib.sha256(content).hexdigest(),)]


@pytest.mark.parametrize("depth", [30, 300])
def test_a_chain_of_columns_is_planned(both, depth):
    def case(spark):
        frame = spark.range(1)
        for i in range(depth):
            frame = frame.withColumn(f"c{i}", f.lit(i))
        return len(frame.columns), rows(frame.select(f"c{depth - 1}"))

    assert both.same(case)["value"] == (depth + 1, [(depth - 1,)])


@pytest.mark.parametrize("depth", [30, 500, 20_000])
def test_a_deeply_nested_expression_has_the_same_fate(both, depth):
    """As SQL text, since PySpark itself refuses such expressions. How deep is too deep is the server's affair alone."""

    def case(spark):
        return rows(spark.sql(f"SELECT {'(' * depth}1{' + 1)' * depth}"))

    told = both.same(case)
    assert depth > 30 or told["value"] == [(depth + 1,)]


@pytest.mark.quick
def test_compressed_messages_pass(both):
    """grpc-core with gzip for all that it sends: the prefix octet of each message is 1."""

    def case(spark):
        frame = spark.createDataFrame([(i, "text " * 50) for i in range(2000)], "id long, text string")
        return rows(frame.agg(f.sum("id"), f.sum(f.length("text"))))

    gzip = {"grpc.default_compression_algorithm": 2}
    assert both.same(case, options=gzip)["value"] == [(1_999_000, 500_000)]


@pytest.mark.every_client
def test_sixteen_threads_share_a_session(both):
    def case(spark):
        def ask(i):
            return rows(spark.sql(f"SELECT {i} AS i, count(*), sum(id) FROM range({i + 1} * 1000)"))[0]

        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(ask, range(32)))

    expected = [(i, (i + 1) * 1000, sum(range((i + 1) * 1000))) for i in range(32)]
    assert both.same(case)["value"] == expected


def test_sixteen_threads_with_a_session_each(both):
    def case(url):
        def ask(i):
            spark = connect(url)
            spark.conf.set("sconce.me", str(i))
            told = [(spark.conf.get("sconce.me"), rows(spark.range(i + 1).agg(f.sum("id")))) for _ in range(3)]
            spark.stop()
            return told

        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(ask, range(16)))

    assert both.same_at(case)["value"] == [[(str(i), [(sum(range(i + 1)),)])] * 3 for i in range(16)]
