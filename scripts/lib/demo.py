"""The demo: two teams with a Spark driver each, one sconce with authentication, one query for each team."""

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
TEAMS = {"ads": "ann", "ml": "bob"}  # team: member
QUERY_SECONDS = 180


def main(arguments: list[str]) -> None:
    if arguments not in ([], ["--once"]):
        raise steps.Failed("usage: scripts/demo [--once]")
    place = pathlib.Path(tempfile.mkdtemp(prefix="sconce-demo-"))
    kept = "logs"
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
    proxy = rig.Sconce(place / "config", {team: driver.address for team, driver in drivers.items()}, proof=proof)
    ticker.done()

    tokens = {team: proof.token(user, team) for team, user in TEAMS.items()}
    for team, rows in ask(python, proxy, tokens).items():
        if drivers[team].name not in rows:
            raise steps.Failed(f"another driver answered the query of {team}:\n{rows}")
        url = proxy.url(token=f"(the token of {TEAMS[team]})", **{"x-sconce-env": "prod"})
        print(f"\n{TEAMS[team]} of {team}: {url}\n{rows}", flush=True)
    refuse(python, proxy, tokens)
    show_metrics(proxy, python, tokens["ads"])


def hello(python: pathlib.Path, proxy: rig.Sconce, **parameters: str) -> subprocess.CompletedProcess:
    """One PySpark query."""
    url = proxy.url(**{"x-sconce-env": "prod"}, **parameters)
    command = [python, pathlib.Path(__file__).with_name("hello.py"), url]
    environment = proxy.proof.environment()
    return subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, env=environment)


def ask(python: pathlib.Path, proxy: rig.Sconce, tokens: dict[str, str]) -> dict[str, str]:
    """Runs the queries of all teams concurrently; returns the output of PySpark for each team."""
    ticker = steps.Ticker("one PySpark query for each team through sconce, over TLS and with a token")
    with ThreadPoolExecutor() as pool:
        running = {team: pool.submit(hello, python, proxy, token=token) for team, token in tokens.items()}
        while not all(future.done() for future in running.values()):
            time.sleep(0.2)
            ticker.tick()
    for team, future in running.items():
        if future.result().returncode != 0:
            ticker.done("✗")
            raise steps.Failed(f"the query of {team} failed:\n{future.result().stderr[-3000:]}")
    ticker.done()
    return {team: future.result().stdout.rstrip() for team, future in running.items()}


def refuse(python: pathlib.Path, proxy: rig.Sconce, tokens: dict[str, str]) -> None:
    """Shows a call without a token, and one with the token of another team."""
    cases = {
        "without a token": {},
        f"{TEAMS['ads']} of ads, for team ml": {"token": tokens["ads"], "x-sconce-team": "ml"},
    }
    ticker = steps.Ticker("calls that are refused")
    with ThreadPoolExecutor() as pool:
        running = {case: pool.submit(hello, python, proxy, **more) for case, more in cases.items()}
        while not all(future.done() for future in running.values()):
            time.sleep(0.2)
            ticker.tick()
    ticker.done()
    for case, future in running.items():
        if future.result().returncode == 0:
            raise steps.Failed(f"{case}: the query succeeded")
        message = future.result().stderr.strip().splitlines()[-1]
        print(f"\n{case}:\n  {message.rpartition('Exception: ')[2]}", flush=True)


def show_metrics(proxy: rig.Sconce, python: pathlib.Path, token: str) -> None:
    """Shows that the rows came through sconce, and how to continue."""
    counted = proxy.metrics("sconce_calls_total", method="ExecutePlan", code="OK")
    if not counted:
        raise steps.Failed("sconce counted no ExecutePlan: the query did not pass through it")
    print(f"\nMetrics of sconce (http://{proxy.admin}/metrics):")
    print("\n".join(f"  {line}" for line in counted + proxy.metrics("sconce_refusals_total")))
    print("\nTry it (the token is valid for 1 hour):")
    print(f"  export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={proxy.proof.certificate}")
    print(f"  {python.with_name('pyspark')} --remote '{proxy.url(token=token, **{'x-sconce-env': 'prod'})}'")
    print(f"Team files: {proxy.place}/teams/*.yaml; sconce reloads them when they change.", flush=True)


def stay() -> None:
    """Waits for Ctrl-C, or until a started process ends."""
    print("\nCtrl-C stops everything.", flush=True)
    while True:
        for process in rig.STARTED:
            if not process.alive():
                raise process.failed(f"ended with {process.child.returncode}")
        time.sleep(0.5)


if __name__ == "__main__":
    steps.guarded(main, sys.argv[1:])
