"""The load of the set `grpc`: gRPC C-core as a Python client has it, run in an environment of its own.

It speaks to the rig as src/bin/load.rs does: a line at each gate, and a line of JSON at the end.
Messages and octets are counted, not compared.
"""

import argparse
import json
import sys
import time
from collections import deque

import grpc

SERVICE = "/spark.connect.SparkConnectService/"
MEBI = 1 << 20
BULK = 64
"""Messages of 1 MiB in each download and upload."""
CHANNELS, OPEN = 4, 16
"""Connections of unary calls, and calls that are open on each."""
SETTLING = 0.05


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("target", "workload", "token", "warm", "measure", "idle"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--gated", action="store_true")
    arguments = parser.parse_args()
    token = open(arguments.token).read().strip()
    who = (("authorization", f"Bearer {token}"), ("x-sconce-env", "prod"))
    count = CHANNELS if arguments.workload == "G1" else 1
    channels = [channel(arguments.target) for _ in range(count)]
    work = {"G1": unary, "G2": download, "G3": upload}[arguments.workload]
    work(channels, who, time.monotonic() + float(arguments.warm))
    gate("begin")
    began = time.monotonic()
    calls, octets = work(channels, who, began + float(arguments.measure))
    seconds = time.monotonic() - began
    gate("end")
    told = {"workload": arguments.workload, "calls": calls, "octets": octets}
    print(json.dumps(told | {"seconds": seconds, "connections": count}), flush=True)


def channel(target: str) -> grpc.Channel:
    """A connection of its own, with messages as large as PySpark takes them."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    sizes = [(f"grpc.max_{way}_message_length", 128 * MEBI) for way in ("send", "receive")]
    return grpc.insecure_channel(target, options=own + sizes)


def gate(word: str) -> None:
    time.sleep(SETTLING)
    print(word, flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody measures any more")


def unary(channels: list, who: tuple, until: float) -> tuple[int, int]:
    calls = [it.unary_unary(f"{SERVICE}Config") for it in channels]
    request, open_calls, done, octets = config(), deque(), 0, 0

    def end() -> None:
        nonlocal done, octets
        octets += len(open_calls.popleft().result())
        done += 1

    while time.monotonic() < until:
        for call in calls:
            open_calls.append(call.future(request, metadata=who))
        if len(open_calls) >= OPEN * len(channels):
            end()
    while open_calls:
        end()
    return done, octets + done * len(request)


def download(channels: list, who: tuple, until: float) -> tuple[int, int]:
    call = channels[0].unary_stream(f"{SERVICE}ExecutePlan")
    wish = (*who, ("x-answer-messages", str(BULK)), ("x-answer-size", str(MEBI)))
    done = 0
    while time.monotonic() < until:
        sizes = [len(message) for message in call(execute(), metadata=wish)]
        if sizes != [MEBI] * BULK:
            sys.exit(f"messages of the answer: {len(sizes)} with {sum(sizes)} octets")
        done += 1
    return done, done * BULK * MEBI


def upload(channels: list, who: tuple, until: float) -> tuple[int, int]:
    call = channels[0].stream_unary(f"{SERVICE}AddArtifacts")
    message, done = artifact(bytes(MEBI)), 0
    while time.monotonic() < until:
        _, ended = call.with_call(iter([message] * BULK), metadata=who)
        received = dict(ended.trailing_metadata()).get("x-received-messages")
        if received != str(BULK):
            sys.exit(f"messages at the driver: {received}")
        done += 1
    return done, done * BULK * len(message)


def front() -> bytes:
    session = field(1, b"5f3c1d7e-2a64-4b0e-9f58-0c6d1e7a9b42")
    return session + field(2, field(1, b"jovyan"))


def config() -> bytes:
    return front() + field(3, field(2, field(1, b"spark.sql.session.timeZone")))


def execute() -> bytes:
    return front() + field(3, field(1, field(10, field(1, b"select 1"))))


def artifact(octets: bytes) -> bytes:
    return front() + field(3, field(1, field(1, b"files/a") + field(2, field(1, octets))))


def field(number: int, content: bytes) -> bytes:
    """A field that has a length, as protobuf writes it."""
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


if __name__ == "__main__":
    main()
