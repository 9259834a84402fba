"""Processes of the rig: started pinned, measured as trees, ended by their ids."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

PATIENCE = 15.0
"""Seconds that a process has to start, and to end once it is asked to."""


class Trouble(Exception):
    """A run that is worth nothing, and why."""


def free_port() -> int:
    """A port of the loopback interface that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A child on a core of its own; its standard error goes to a file."""

    def __init__(self, name: str, command: list[str], core: int, log: Path):
        self.name, self.log = name, log
        # The kernel ends the child should the rig be killed without a chance to clean up.
        prefix = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core)]
        self.popen = subprocess.Popen(
            prefix + command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
        )

    def line(self) -> str:
        """The next line that the child prints."""
        line = self.popen.stdout.readline()
        if not line:
            self.popen.wait(PATIENCE)
            raise Trouble(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")
        return line.strip()

    def listening(self) -> int:
        """The port that one of the rig's own servers says it listens on."""
        found = re.fullmatch(r"listening .*:(\d+)", self.line())
        if not found:
            raise Trouble(f"{self.name} does not say where it listens")
        return int(found[1])

    def answer(self) -> None:
        """Lets a load that waits at a gate go on."""
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def wait_for(self, port: int) -> None:
        """Waits until the child takes connections."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.popen.poll() is not None:
                raise Trouble(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Trouble(f"{self.name} does not listen: {self.tail()}")

    def tail(self) -> str:
        """The end of what the child complained about."""
        return self.log.read_text(errors="replace")[-2000:].strip() or "(no message)"

    def tree(self) -> list[int]:
        """The child's id and those of all its descendants."""
        found = [self.popen.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in _read(task).split()]
        return found

    def end(self) -> None:
        """Ends the child and its descendants, politely first."""
        tree = self.tree()
        self.popen.terminate()
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in tree:
                _kill(pid)
            self.popen.wait(PATIENCE)
        for pipe in (self.popen.stdin, self.popen.stdout):
            pipe.close()


def cpu_ns(pids: list[int]) -> int:
    """Processor time of whole processes, user and system, threads that have ended included."""
    # The id of another process's CPU clock, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def memory_kib(pids: list[int], field: str) -> int:
    """VmRSS or VmHWM, summed over processes."""
    total = 0
    for pid in pids:
        found = re.search(rf"^{field}:\s+(\d+) kB", _read(Path(f"/proc/{pid}/status")), re.M)
        total += int(found[1]) if found else 0
    return total


def reset_peak(pids: list[int]) -> None:
    """Lets VmHWM begin anew."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
