"""Uploads over a long way: the delaying relay before the stub driver, and before a proxy before it."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rig import certs, report, targets
from rig.process import Process


def quick(arguments, binaries: Path, scratch: Path) -> list[dict]:
    """Every round-trip time and count of streams, direct and through the proxies in turn."""
    keys = certs.make(scratch / "certs")
    rows = []
    for number in range(arguments.rounds):
        for rtt in arguments.rtt:
            for streams in arguments.streams:
                for target in arguments.only:
                    place = {"round": number, "rtt": rtt, "streams": streams, "target": target}
                    label = "-".join(map(str, place.values()))
                    print(f"wan: {rtt} ms, {streams} at a time, {target}", file=sys.stderr)
                    row = _upload(arguments, binaries, scratch / label, keys, place)
                    rows.append(row | place)
    return rows


def _upload(arguments, binaries: Path, scratch: Path, keys: certs.Certs, place: dict) -> dict:
    cores = sorted(os.sched_getaffinity(0))
    scratch.mkdir()
    with ExitStack() as stack:

        def start(name: str, *words) -> Process:
            command = [str(binaries / name), *map(str, words)]
            started = Process(name, command, cores[-1], scratch / name)
            stack.callback(started.end)
            return started

        stamp = ["--stamp", f"{certs.USER},{certs.DISPLAY_NAME}"]
        proxied = place["target"] != "direct"
        stub = start("stub_driver", "--grow", *(stamp if place["target"] in targets.STAMP else []))
        port = stub.listening()
        if proxied:
            where = targets.Place(
                binaries=binaries,
                directory=scratch / "proxy",
                core=cores[0],
                stub=port,
                other=port,
                tls=False,
                certs=keys,
                wrap=[],
            )
            proxy, port = targets.start(place["target"], where)
            stack.callback(proxy.end)
        port = start("delay", "--to", f"127.0.0.1:{port}", "--rtt-ms", place["rtt"]).listening()
        each = round(arguments.upload * 1e6 / place["streams"])
        words = ["--target", f"127.0.0.1:{port}", "--workload", "W9", "--token", keys.token]
        words += ["--streams", place["streams"], "--times", arguments.times, "--upload", each]
        counts = json.loads(start("load", *words).line())
        megabytes = counts["octets"] / arguments.times / 1e6
        return {
            "first": megabytes / counts["times"][0]["last"],
            "later": [megabytes / time["last"] for time in counts["times"][1:]],
            "apart": max(time["last"] / time["first"] for time in counts["times"]),
        }


def table(rows: list[dict]) -> str:
    """MB/s by round-trip time and streams, and the ratio to direct of the same round."""
    head = ["RTT, ms", "uploads at a time", "target", "first, MB/s", "times direct"]
    head += ["later, MB/s", "times direct", "last to end, times the first"]
    places = list(dict.fromkeys((row["rtt"], row["streams"], row["target"]) for row in rows))
    lines = []
    for rtt, streams, target in places:
        of = {
            who: [row for row in rows if (row["rtt"], row["streams"], row["target"]) == who]
            for who in ((rtt, streams, target), (rtt, streams, "direct"))
        }
        ours, direct = of[rtt, streams, target], of[rtt, streams, "direct"]
        cells = [str(rtt), str(streams), target]
        for figure in (_first, _later):
            cells += [f"{median(map(figure, ours)):.1f}", _ratio(ours, direct, figure)]
        cells.append(f"{median(row['apart'] for row in ours):.2f}" if streams > 1 else "")
        lines.append(cells)
    lead = "Uploads over a long way: the first on a connection, and the median of later ones"
    return report.markdown(lead, head, lines)


def _first(row: dict) -> float:
    return row["first"]


def _later(row: dict) -> float:
    return median(row["later"] or [row["first"]])


def _ratio(ours: list[dict], direct: list[dict], figure) -> str:
    base = {row["round"]: figure(row) for row in direct}
    ratios = [figure(row) / base[row["round"]] for row in ours if row["round"] in base]
    return f"{median(ratios):.2f}" if ratios else ""
