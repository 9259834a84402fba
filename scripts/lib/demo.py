"""The demo: two teams, a real Spark driver each, one sconce that asks for proof, one query a team. See scripts/demo."""

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
TEAMS = {"ads": "ann", "ml": "bob"}  # and who is in them
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

    ticker = steps.Ticker("sconce, with a certificate and a key that signs tokens")
    proof = rig.Proof(place / "proof")
    door = rig.Sconce(place / "config", {team: driver.address for team, driver in drivers.items()}, proof=proof)
    ticker.done()

    tokens = {team: proof.token(user, team) for team, user in TEAMS.items()}
    for team, rows in ask(python, door, tokens).items():
        if drivers[team].name not in rows:
            raise steps.Failed(f"the query of {team} was answered by somebody else:\n{rows}")
        url = door.url(token=f"(the token of {TEAMS[team]})", **{"x-sconce-env": "prod"})
        print(f"\n{TEAMS[team]} of {team}: {url}\n{rows}", flush=True)
    refuse(python, door, tokens)
    tell(door, python, tokens["ads"])


def hello(python: pathlib.Path, door: rig.Sconce, **parameters: str) -> subprocess.CompletedProcess:
    """One PySpark query."""
    url = door.url(**{"x-sconce-env": "prod"}, **parameters)
    command = [python, pathlib.Path(__file__).with_name("hello.py"), url]
    environment = door.proof.environment()
    return subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, env=environment)


def ask(python: pathlib.Path, door: rig.Sconce, tokens: dict[str, str]) -> dict[str, str]:
    """What PySpark printed for each team, asked side by side."""
    ticker = steps.Ticker("one PySpark query for each team through sconce, over TLS and with a token")
    with ThreadPoolExecutor() as pool:
        asked = {team: pool.submit(hello, python, door, token=token) for team, token in tokens.items()}
        while not all(future.done() for future in asked.values()):
            time.sleep(0.2)
            ticker.tick()
    for team, future in asked.items():
        if future.result().returncode != 0:
            ticker.done("✗")
            raise steps.Failed(f"the query of {team} failed:\n{future.result().stderr[-3000:]}")
    ticker.done()
    return {team: future.result().stdout.rstrip() for team, future in asked.items()}


def refuse(python: pathlib.Path, door: rig.Sconce, tokens: dict[str, str]) -> None:
    """Shows what happens without a token, and with one that is good for another team."""
    cases = {
        "without a token": {},
        f"{TEAMS['ads']}, asking for ml": {"token": tokens["ads"], "x-sconce-team": "ml"},
    }
    ticker = steps.Ticker("the same without proof")
    with ThreadPoolExecutor() as pool:
        asked = {case: pool.submit(hello, python, door, **more) for case, more in cases.items()}
        while not all(future.done() for future in asked.values()):
            time.sleep(0.2)
            ticker.tick()
    ticker.done()
    for case, future in asked.items():
        if future.result().returncode == 0:
            raise steps.Failed(f"{case}: the query was answered")
        said = future.result().stderr.strip().splitlines()[-1]
        print(f"\n{case}:\n  {said.rpartition('Exception: ')[2]}", flush=True)


def tell(door: rig.Sconce, python: pathlib.Path, token: str) -> None:
    """The proof that the rows came through sconce, and how to go on."""
    counted = door.metrics("sconce_calls_total", method="ExecutePlan", code="OK")
    if not counted:
        raise steps.Failed("sconce counted no ExecutePlan: the query went another way")
    print(f"\nWhat sconce counted (http://{door.admin}/metrics):")
    print("\n".join(f"  {line}" for line in counted + door.metrics("sconce_refusals_total")))
    print("\nTry it, for an hour:")
    print(f"  export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={door.proof.certificate}")
    print(f"  {python.with_name('pyspark')} --remote '{door.url(token=token, **{'x-sconce-env': 'prod'})}'")
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
