"""How a test speaks PySpark: sessions, and what came of a call in a form that can be compared.

Runs with every client version from 3.5 on, so it uses nothing that only some of them have. Must never turn an
error into text too early: type, condition, SQLSTATE, parameters and message are compared one by one.
"""

import os
import re
import threading
import time

os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # what builder.remote() sets: pyspark.sql.functions follow it

import grpc  # noqa: E402
import pyspark  # noqa: E402
from pyspark.sql.connect import functions  # noqa: E402
from pyspark.sql.connect.client import core  # noqa: E402
from pyspark.sql.connect.session import SparkSession  # noqa: E402

VERSION = tuple(int(part) for part in pyspark.__version__.split(".")[:2])
Builder = core.DefaultChannelBuilder if hasattr(core, "DefaultChannelBuilder") else core.ChannelBuilder

# A session that the garbage collector ends within the client's own release threads deadlocks the 4.1 client.
KEPT: list[SparkSession] = []


class Trusting(Builder):
    """Trusts this certificate alone, and shows one of its own if given: so one process can trust several."""

    def __init__(self, url: str, roots: bytes, key: bytes | None = None, chain: bytes | None = None):
        super().__init__(url)
        self.pem = (roots, key, chain)

    def toChannel(self):  # noqa: N802  PySpark's name
        credentials = grpc.ssl_channel_credentials(*self.pem)
        said = self._params if hasattr(self, "_params") else self.params
        if "token" in said:
            by_token = grpc.access_token_call_credentials(said["token"])
            credentials = grpc.composite_channel_credentials(credentials, by_token)
        return grpc.secure_channel(self.endpoint, credentials, options=self._channel_options)


class Renewing(Builder):
    """Shows the token of the moment with every call, as a client does whose tokens are fetched anew."""

    def __init__(self, url: str, roots: bytes, token):
        super().__init__(url)
        self.roots, self.current = roots, token

    def toChannel(self):  # noqa: N802  PySpark's name
        def authorize(_, tell) -> None:
            tell((("authorization", f"Bearer {self.current()}"),), None)

        by_token = grpc.metadata_call_credentials(authorize)
        credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(self.roots), by_token)
        return grpc.secure_channel(self.endpoint, credentials, options=self._channel_options)


def connect(url: str | Builder, options: dict | None = None) -> SparkSession:
    """A new session of its own, with channel options of grpc-core if given."""
    builder = Builder(url, list((options or {}).items())) if isinstance(url, str) else url
    session = SparkSession.Builder().channelBuilder(builder).create()
    KEPT.append(session)
    patient(session)
    SparkSession._default_session = session  # PySpark asks the active session things when a UDF is made,
    SparkSession._active_session.session = session  # and keeps the first one, which may lead to a dead door
    return session


def patient(session: SparkSession) -> None:
    """Half a minute of retries instead of more than ten: a client whose sconce is gone would wait for them at exit."""
    if VERSION < (4, 0):
        session.client._retry_policy.update(max_retries=18, max_backoff=2000)
        return
    from pyspark.sql.connect.client.retries import DefaultPolicy

    session.client.set_retry_policies([DefaultPolicy(max_retries=18, max_backoff=2000)])


def outcome(call) -> dict:
    """What a call came to: its value, or everything a person can learn from its error."""
    try:
        return {"value": call()}
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the test compares
        return described(error)


def described(error: Exception) -> dict:
    """An error, without what differs from one run to the next."""
    told = {"type": type(error).__name__, "message": steady(str(error))}
    for key, names in {
        "condition": ("getCondition", "getErrorClass"),
        "sqlstate": ("getSqlState",),
        "parameters": ("getMessageParameters",),
    }.items():
        asked = next((getattr(error, name) for name in names if hasattr(error, name)), None)
        told[key] = steady(str(asked())) if asked else None
    return told


def steady(text: str) -> str:
    """Without the server's stack, and with ids and addresses that differ from run to run made equal."""
    text = text.split("\nJVM stacktrace:")[0]
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>", text)
    text = re.sub(r"#\d+L?", "#n", text)
    text = re.sub(r"(ipv[46]:|127\.0\.0\.1:)[\w.%:]+", "<address>", text)
    return re.sub(r"(created_time|grpc_status|tid|plan_id)[:=]\S+", r"\1", text)


def rows(frame) -> list[tuple]:
    return [tuple(row) for row in frame.collect()]


class Running:
    """A call in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, call, *arguments):
        self.value, self.error = None, None

        def work():
            try:
                self.value = call(*arguments)
            except BaseException as error:  # noqa: BLE001  handed to whoever asks for the result
                self.error = error

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def done(self) -> bool:
        return not self.thread.is_alive()

    def result(self, seconds: float = 120.0):
        self.thread.join(seconds)
        assert self.done(), f"still running after {seconds} s"
        if self.error is not None:
            raise self.error
        return self.value


def sent(spark: SparkSession, path) -> list:
    """Sends a file as an artifact; a digest of what arrived, as a task of the cluster reads it."""
    name = path.name
    spark.addArtifacts(str(path), file=True)

    def digest(_):
        import hashlib

        from pyspark import SparkFiles

        with open(SparkFiles.get(name), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    return rows(spark.range(1).select(functions.udf(digest, "string")("id")))


def until(holds, seconds: float = 60.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.1)
