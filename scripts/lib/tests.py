"""The test command: runs every runner there is and sums what they say. See scripts/test.

A runner is a command that ends by itself and tells in its output how many tests passed and failed. One that breaks,
hangs or says nothing counts as a failure: silence must never look like success.
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
    """What is run, how long it may take at most, and how its output is read."""

    title: str
    command: list[str]
    minutes_max: int
    count: Callable[[str], Counts]
    hint: str
    short: tuple[str, ...] = ()  # further arguments where all runners run


def cargo_counts(log: str) -> Counts:
    """The sum over every `test result:` line; `cargo test` writes one for each binary."""
    lines = re.findall(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored", log, re.MULTILINE)
    return sum((Counts(*map(int, line)) for line in lines), Counts())


def closing_counts(log: str) -> Counts:
    """The last line that tells of passed or failed tests, as pytest and our own runners close with."""
    told = [line for line in log.splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
    words = re.findall(r"(\d+) (passed|failed|errors?|skipped)", told[-1]) if told else []
    of = {word.rstrip("s"): int(number) for number, word in words}
    return Counts(of.get("passed", 0), of.get("failed", 0) + of.get("error", 0), of.get("skipped", 0))


def fuzz_counts(log: str) -> Counts:
    """One for each target that was begun; the last of them failed unless the run came to its end."""
    begun = len(re.findall(r"^fuzz: \S+ for \d+ s", log, re.MULTILINE))
    found = 0 if re.search(r"^fuzz: nothing found in ", log, re.MULTILINE) else 1
    return Counts(max(0, begun - found), found)


RUNNERS = {
    "rust": Runner(
        "Rust tests",
        ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", "--color", "never"],
        25,
        cargo_counts,
        "install Rust: rustup reads rust-toolchain.toml",
    ),
    "spark": Runner("real PySpark through sconce", ["tests/spark/run"], 30, closing_counts, "see tests/spark/"),
    "clients": Runner(
        "JVM and Go clients through sconce",
        ["tests/clients/run"],
        20,
        closing_counts,
        "see tests/clients/",
        short=("--quick",),
    ),
    "alerts": Runner(
        "each alert fires when sconce is broken in its way", ["tests/alerts/run"], 15, cargo_counts, "see tests/alerts/"
    ),
    "soak": Runner(
        "drivers die and files change under load", ["tests/soak/run", "60"], 15, closing_counts, "see tests/soak/"
    ),
    "fuzz": Runner("a short run of each fuzz target", ["fuzz/run"], 25, fuzz_counts, "see fuzz/"),
}


def main(arguments: list[str]) -> None:
    chosen = arguments or list(RUNNERS)
    unknown = [name for name in chosen if name not in RUNNERS]
    if unknown:
        raise steps.Failed(f"no tests called {', '.join(unknown)}; there are: {', '.join(RUNNERS)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    if not arguments:
        for runner in RUNNERS.values():
            runner.command = [*runner.command, *runner.short]
    total = sum((run(name, RUNNERS[name]) for name in chosen), Counts())
    print(total, flush=True)
    if total.failed or not total.passed:
        sys.exit(1)


def run(name: str, runner: Runner) -> Counts:
    """Runs one runner to its end and tells what it said; its whole output stays in a log."""
    log = LOGS / f"{name}.log"
    ticker = steps.Ticker(runner.title)
    try:
        fault = carry_out(runner, log, ticker)
    except FileNotFoundError:
        fault, hint = f"no {runner.command[0]} here", f"; {runner.hint}"
        ticker.done("✗")
        steps.say(f"{fault}{hint}")
        return Counts(failed=1)
    counts = runner.count(log.read_text(errors="replace"))
    if not fault and not counts.passed:
        fault = "told of no test"
    if fault and not counts.failed:
        counts.failed = 1
    ticker.done("✗" if counts.failed else "✓")
    if counts.failed:
        steps.say(f"{runner.title}: {fault or 'failed'}\n{blamed(log)}\nthe whole log: {log}")
    steps.say(f"  {counts}")
    return counts


def carry_out(runner: Runner, log: pathlib.Path, ticker: steps.Ticker) -> str:
    """What went wrong with the command itself, empty if nothing did."""
    until = time.monotonic() + runner.minutes_max * 60
    command = [str(ROOT / runner.command[0]) if "/" in runner.command[0] else runner.command[0], *runner.command[1:]]
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
        )
        try:
            while child.poll() is None:
                if time.monotonic() > until:
                    return f"was not done after {runner.minutes_max} minutes"
                time.sleep(0.2)
                ticker.tick(steps.tail(log, 1).strip())
        finally:
            end(child)
    return f"exit {child.returncode}" if child.returncode else ""


def end(child: subprocess.Popen) -> None:
    """Ends the whole process group if it still runs, first by asking."""
    for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def blamed(log: pathlib.Path) -> str:
    """The names of what failed, then the end of the log."""
    text = log.read_text(errors="replace")
    named = re.findall(r"^(?:test (\S.*) \.\.\. FAILED|(?:FAILED|ERROR) (\S.*))$", text, re.MULTILINE)
    names = "".join(f"  failed: {rust or spark}\n" for rust, spark in named)
    return f"{names}{steps.tail(log)}"


if __name__ == "__main__":
    steps.guarded(main, sys.argv[1:])
