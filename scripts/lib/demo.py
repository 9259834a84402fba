"""The demo: two teams, a real Spark driver each, one sconce, one query a team. See scripts/demo."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rig  # noqa: E402
import steps  # noqa: E402

VERSION = "4.1.4"
TEAMS = ("ads", "ml")
QUERY_SECONDS = 180


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["--once"]):
        raise steps.Failed("usage: scripts/demo [--once]")
    place = pathlib.Path(tempfile.mkdtemp(prefix="sconce-demo-"))
    kept = "these logs are kept"
    try:
        show(place)
        if not arguments:
            stay()
        kept = ""
    except KeyboardInterrupt:
        kept = ""
        steps.say("")
    finally:
        rig.stop_all()
        if kept:
            steps.say(f"{kept}: {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
            steps.say("stopped: sconce and both Spark servers")


def show(place: pathlib.Path) -> None:
    """Starts everything and runs one query for each team."""
    rig.build(place / "cargo.log")
    python = rig.environment(VERSION) / "bin" / "python"
    ticker = steps.Ticker(f"two Spark Connect servers {VERSION}, one for each team")
    drivers = {}
    for team in TEAMS:
        drivers[team] = rig.Spark(VERSION, f"driver-of-{team}", place)
    for driver in drivers.values():
        driver.ready(ticker)
    ticker.done()

    ticker = steps.Ticker("sconce")
    door = rig.Sconce(place / "config", {team: driver.address for team, driver in drivers.items()})
    ticker.done()

    for team, rows in ask(python, door).items():
        if drivers[team].name not in rows:
            raise steps.Failed(f"the query of {team} was answered by somebody else:\n{rows}")
        print(f"\n{team}: sc://{door.address}/;x-sconce-team={team};x-sconce-env=prod\n{rows}", flush=True)
    tell(door, python)


def ask(python: pathlib.Path, door: rig.Sconce) -> dict[str, str]:
    """What PySpark printed for each team, asked side by side."""
    ticker = steps.Ticker("one PySpark query for each team through sconce")
    hello = pathlib.Path(__file__).with_name("hello.py")

    def query(team: str) -> subprocess.CompletedProcess:
        command = [python, hello, door.url(team)]
        return subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS)

    with ThreadPoolExecutor() as pool:
        asked = {team: pool.submit(query, team) for team in TEAMS}
        while not all(future.done() for future in asked.values()):
            time.sleep(0.2)
            ticker.tick()
    for team, future in asked.items():
        if future.result().returncode != 0:
            ticker.done("✗")
            raise steps.Failed(f"the query of {team} failed:\n{future.result().stderr[-3000:]}")
    ticker.done()
    return {team: future.result().stdout.rstrip() for team, future in asked.items()}


def tell(door: rig.Sconce, python: pathlib.Path) -> None:
    """The proof that the rows came through sconce, and how to go on."""
    proof = door.metrics("sconce_calls_total", method="ExecutePlan")
    if not proof:
        raise steps.Failed("sconce counted no ExecutePlan: the query went another way")
    print(f"\nWhat sconce counted (http://{door.admin}/metrics):")
    print("\n".join(f"  {line}" for line in proof))
    print(f"\nTry it:\n  {python.with_name('pyspark')} --remote '{door.url(TEAMS[0])}'")
    print(f"Teams live in {door.place}/teams/*.yaml, and are read again when they change.", flush=True)


def stay() -> None:
    """Until Ctrl-C, or until something that was started dies."""
    print("\nCtrl-C stops everything.", flush=True)
    while True:
        for process in rig.STARTED:
            if not process.alive():
                raise process.failed(f"ended with {process.child.returncode}")
        time.sleep(0.5)


if __name__ == "__main__":
    steps.guarded(main, sys.argv[1:])
