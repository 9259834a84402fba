"""Progress of long steps in short lines: the step, its duration, and its log if it fails.

Everything said to a person goes to stderr, so that scripts can read stdout. On a terminal a step's
line is rewritten in place; elsewhere (CI) one line is added every ten seconds. Must never swallow the reason of
a failure: the tail of the log is shown, with the path of the whole.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

TAIL_LINES = 25
QUIET_SECONDS = 10.0


class Failed(Exception):
    """A step failed; the text is for the user of the command."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def guarded(main, arguments) -> None:
    """Runs a script's main: a failure prints one message and exits with 1, without a traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda told, _: sys.exit(128 + told))
    try:
        main(arguments)
    except Failed as failure:
        say(f"error: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


class Ticker:
    """Reports a running step: in place on a terminal, rarely elsewhere."""

    def __init__(self, title: str):
        self.title = title
        self.since = time.monotonic()
        self.in_place = sys.stderr.isatty()
        self.told_at = self.since
        if not self.in_place:
            say(f"  {title} …")

    def tick(self, detail: str = "") -> None:
        now = time.monotonic()
        line = f"  {self.title} … {now - self.since:.0f} s"
        if self.in_place:
            room = max(0, os.get_terminal_size(sys.stderr.fileno()).columns - len(line) - 4)
            print(f"\r\033[K{line}  \033[2m{detail[:room]}\033[0m", end="", file=sys.stderr, flush=True)
        elif now - self.told_at >= QUIET_SECONDS:
            say(f"{line}  {detail[:100]}".rstrip())
            self.told_at = now

    def done(self, mark: str = "✓") -> None:
        seconds = time.monotonic() - self.since
        start = "\r\033[K" if self.in_place else ""
        say(f"{start}{mark} {self.title} ({seconds:.1f} s)")


def tail(log: pathlib.Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, or a note that it is empty."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(empty log)"


def run(title: str, command: list, log: pathlib.Path, polite: bool = False, **popen) -> None:
    """Runs a command to its end with its output in `log`; raises `Failed` with the log's tail."""
    if polite:
        command = ["nice", "-n", "5", *command]
    ticker = Ticker(title)
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=output, stdin=subprocess.DEVNULL, **popen
        )
        try:
            while child.poll() is None:
                time.sleep(0.2)
                ticker.tick(tail(log, 1).strip())
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if child.returncode != 0:
        ticker.done("✗")
        raise Failed(f"{title}: exit {child.returncode}\n{tail(log)}\nlog: {log}")
    ticker.done()
