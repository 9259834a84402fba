"""The test command: runs all groups of tests and sums their results. See scripts/test.

A runner is a command whose output ends with the numbers of passed and failed tests. A runner that crashes, hangs or
prints no numbers counts as a failure.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import steps  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / "target" / "tests"


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass
class Runner:
    """A command, its time limit, and the parser of its output."""

    title: str
    command: list[str]
    minutes_max: int
    count: Callable[[str], Counts]
    hint: str
    short: tuple[str, ...] = ()  # further arguments if all groups run


def cargo_counts(log: str) -> Counts:
    """The sum over every `test result:` line; `cargo test` writes one for each binary."""
    lines = re.findall(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored", log, re.MULTILINE)
    return sum((Counts(*map(int, line)) for line in lines), Counts())


def closing_counts(log: str) -> Counts:
    """The last line with numbers of tests, as printed by pytest and our own runners."""
    lines = [line for line in log.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    words = re.findall(r"(\d+) (passed|failed|errors?|skipped)", lines[-1]) if lines else []
    of = {word.rstrip("s"): int(number) for number, word in words}
    return Counts(of.get("passed", 0), of.get("failed", 0) + of.get("error", 0), of.get("skipped", 0))


def fuzz_counts(log: str) -> Counts:
    """One for each started target; the last one failed unless the run completed."""
    started = len(re.findall(r"^fuzz: \S+ for \d+ s", log, re.MULTILINE))
    found = 0 if re.search(r"^fuzz: nothing found in ", log, re.MULTILINE) else 1
    return Counts(max(0, started - found), found)


RUNNERS = {
    "rust": Runner(
        "Rust tests",
        ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", "--color", "never"],
        25,
        cargo_counts,
        "install Rust with rustup, which reads rust-toolchain.toml",
    ),
    "spark": Runner("PySpark through sconce", ["tests/spark/run"], 30, closing_counts, "see tests/spark/"),
    "clients": Runner(
        "JVM and Go clients through sconce",
        ["tests/clients/run"],
        20,
        closing_counts,
        "see tests/clients/",
        short=("--quick",),
    ),
    "alerts": Runner(
        "each alert of docs/alerts.yaml fires", ["tests/alerts/run"], 15, cargo_counts, "see tests/alerts/"
    ),
    "soak": Runner(
        "driver failures and file changes under load", ["tests/soak/run", "60"], 15, closing_counts, "see tests/soak/"
    ),
    "fuzz": Runner("a short run of each fuzz target", ["fuzz/run"], 25, fuzz_counts, "see fuzz/"),
}


def main(arguments: list[str]) -> None:
    chosen = arguments or list(RUNNERS)
    unknown = [name for name in chosen if name not in RUNNERS]
    if unknown:
        raise steps.Failed(f"unknown tests: {', '.join(unknown)}; groups: {', '.join(RUNNERS)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    if not arguments:
        for runner in RUNNERS.values():
            runner.command = [*runner.command, *runner.short]
    total = sum((run(name, RUNNERS[name]) for name in chosen), Counts())
    print(total, flush=True)
    if total.failed or not total.passed:
        sys.exit(1)


def run(name: str, runner: Runner) -> Counts:
    """Runs one runner and returns its counts; its output is in a log."""
    log = LOGS / f"{name}.log"
    ticker = steps.Ticker(runner.title)
    try:
        error = execute(runner, log, ticker)
    except FileNotFoundError:
        error, hint = f"{runner.command[0]} not found", f"; {runner.hint}"
        ticker.done("✗")
        steps.say(f"{error}{hint}")
        return Counts(failed=1)
    counts = runner.count(log.read_text(errors="replace"))
    if not error and not counts.passed:
        error = "no test results"
    if error and not counts.failed:
        counts.failed = 1
    ticker.done("✗" if counts.failed else "✓")
    if counts.failed:
        steps.say(f"{runner.title}: {error or 'failed'}\n{blamed(log)}\nlog: {log}")
    steps.say(f"  {counts}")
    return counts


def execute(runner: Runner, log: pathlib.Path, ticker: steps.Ticker) -> str:
    """The error of the command itself, or an empty text."""
    until = time.monotonic() + runner.minutes_max * 60
    command = [str(ROOT / runner.command[0]) if "/" in runner.command[0] else runner.command[0], *runner.command[1:]]
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
        )
        try:
            while child.poll() is None:
                if time.monotonic() > until:
                    return f"did not end within {runner.minutes_max} minutes"
                time.sleep(0.2)
                ticker.tick(steps.tail(log, 1).strip())
        finally:
            end(child)
    return f"exit {child.returncode}" if child.returncode else ""


def end(child: subprocess.Popen) -> None:
    """Stops the process group if it still runs: SIGTERM, then SIGKILL."""
    for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def blamed(log: pathlib.Path) -> str:
    """The names of failed tests, then the end of the log."""
    text = log.read_text(errors="replace")
    named = re.findall(r"^(?:test (\S.*) \.\.\. FAILED|(?:FAILED|ERROR) (\S.*))$", text, re.MULTILINE)
    names = "".join(f"  failed: {rust or spark}\n" for rust, spark in named)
    return f"{names}{steps.tail(log)}"


if __name__ == "__main__":
    steps.guarded(main, sys.argv[1:])
