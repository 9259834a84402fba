"""The same uploads by real PySpark, to a real Spark Connect server.

Both are those of `tests/spark`: scripts/lib/rig.py installs and starts them.
"""

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rig import install, report
from rig.process import Process, Trouble

VERSION = "4.1.4"
CLIENT = Path(__file__).with_name("wan_client.py")
ARTIFACTS, FRAME = 40, 20
"""MB of each measurement, shared by the uploads that run side by side."""


def measure(arguments, binaries: Path, scratch: Path) -> list[dict]:
    """Every round-trip time, direct and through sconce in turn, with one server for all."""
    spark_rig = _load()
    python = spark_rig.environment(VERSION) / "bin" / "python"
    os.environ["SCONCE_BIN"] = str(binaries / "sconce")
    rows = []
    try:
        driver = spark_rig.Spark(VERSION, "wan-driver", scratch, memory="2g").ready()
        sconce = spark_rig.Sconce(scratch / "sconce", {"ads": driver.address}, default_team="ads")
        addresses = {"direct": driver.address, "sconce": sconce.address}
        for number in range(arguments.rounds):
            for rtt in arguments.rtt:
                for target in arguments.only:
                    print(f"wan: PySpark, {rtt} ms, {target}", file=sys.stderr)
                    place = {"round": number, "rtt": rtt, "target": target}
                    log = scratch / f"{number}-{rtt}-{target}"
                    told = _upload(arguments, binaries, python, log, addresses[target], rtt)
                    rows += [row | place for row in told]
    finally:
        spark_rig.stop_all()
    return rows


def _load():
    """The module of the tests, whose name is that of this package."""
    where = install.ROOT / "scripts" / "lib" / "rig.py"
    spec = importlib.util.spec_from_file_location("spark_rig", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _upload(
    arguments, binaries: Path, python: Path, log: Path, address: str, rtt: int
) -> list[dict]:
    with ExitStack() as stack:
        cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
        command = [str(binaries / "delay"), "--to", address, "--rtt-ms", str(rtt)]
        delay = Process("delay", command, cores, log)
        stack.callback(delay.end)
        url = f"sc://127.0.0.1:{delay.listening()}/"
        streams = ",".join(map(str, arguments.streams))
        command = [python, CLIENT, url, streams, arguments.times, ARTIFACTS, FRAME]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SPARK_")}
        done = subprocess.run(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
            env=clean,
            check=False,
        )
        if done.returncode != 0:
            raise Trouble(f"PySpark failed: {log.read_text(errors='replace')[-3000:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def table(rows: list[dict]) -> str:
    """Seconds and MB/s by what is uploaded, and the ratio to direct."""
    head = ["RTT, ms", "what", "uploads at a time", "target", "seconds", "MB/s", "times direct"]
    key = ("rtt", "what", "streams")
    places = list(dict.fromkeys(tuple(row[it] for it in key) for row in rows))
    lines = []
    for place in places:
        here = [row for row in rows if tuple(row[it] for it in key) == place]
        direct = [row["rate"] for row in here if row["target"] == "direct"]
        for target in dict.fromkeys(row["target"] for row in here):
            rates = [row["rate"] for row in here if row["target"] == target]
            seconds = median(row["seconds"] for row in here if row["target"] == target)
            ratio = f"{median(rates) / median(direct):.2f}" if direct else ""
            spread = f" ({min(rates):.1f}..{max(rates):.1f})"
            cells = [f"{seconds:.2f}", f"{median(rates):.1f}{spread}", ratio]
            lines.append([*map(str, place), target, *cells])
    lead = f"PySpark {VERSION}, addArtifacts of {ARTIFACTS} MB and createDataFrame of {FRAME} MB"
    return report.markdown(lead, head, lines)
