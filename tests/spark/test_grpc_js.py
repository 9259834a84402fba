"""grpc-js, a second implementation of gRPC: the same through sconce as directly. Needs Node and npm."""

import importlib
import json
import os
import pathlib
import pkgutil
import subprocess
import time

import npm
import pytest
from google.protobuf import descriptor_pb2

JS = pathlib.Path(__file__).resolve().with_name("grpc-js")
CANCELLED = 1
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def modules() -> pathlib.Path:
    return npm.modules(JS)


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory) -> pathlib.Path:
    """Spark's messages as PySpark carries them, each file after those that it needs."""
    import pyspark.sql.connect.proto as package

    found = descriptor_pb2.FileDescriptorSet()
    seen = set()

    def add(file) -> None:
        if file.name not in seen:
            seen.add(file.name)
            for needed in file.dependencies:
                add(needed)
            file.CopyToProto(found.file.add())

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            add(importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR)
    path = tmp_path_factory.mktemp("js") / "spark.binpb"
    path.write_bytes(found.SerializeToString())
    return path


def test_grpc_js_sees_the_same_as_directly(door, driver, modules, descriptors):
    def cases(address: str, *team: str) -> dict:
        command = ["node", JS / "cases.js", address, descriptors, *team]
        variables = {**os.environ, "NODE_PATH": str(modules)}
        run = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=150)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    directly, through = cases(driver), cases(door.address, "ads")
    assert through == directly
    assert through["config"] == {"value": "größe 🟢"}
    assert through["rows"]["rows"] == 5
    assert "größe 🟢" in through["error"]["details"]
    assert through["download"]["octets"] >= 50 * MEGABYTE
    assert through["cancel"]["code"] == CANCELLED
    assert through["after"]["rows"] == 1


def test_a_cancelled_call_is_counted_and_leaves_nothing_open(door):
    """After the case above: its cancelled stream is gone from sconce, too."""
    until = time.monotonic() + 10
    while any(not line.endswith(" 0") for line in door.metrics("sconce_calls_active")):
        assert time.monotonic() < until, door.metrics("sconce_calls_active")
        time.sleep(0.1)
