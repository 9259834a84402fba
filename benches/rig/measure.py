"""One run: one workload through one target, between two readings of the proxy's clocks."""

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rig import fairness, process, storm, targets
from rig.certs import Certs
from rig.process import Process, Trouble
from rig.sets import FAIR, STORMS, TLS, Set


@dataclass
class Settings:
    """What is the same for every run."""

    binaries: Path
    scratch: Path
    certs: Certs
    out: Path
    proxy_core: int
    load_core: int
    warm: float
    measure: float
    idle: int
    perf: bool
    wrap: list[str]
    peers: Set

    def place(self, label: str, stub: int, other: int, tls: bool) -> targets.Place:
        """With what a target is started."""
        return targets.Place(
            binaries=self.binaries,
            directory=self.scratch / label,
            core=self.proxy_core,
            stub=stub,
            other=other,
            tls=tls,
            certs=self.certs,
            wrap=self.wrap,
        )


def can(target: str, workload: str) -> bool:
    """Whether the workload makes sense for the target."""
    if workload in FAIR:
        return target in fairness.TARGETS
    if workload in STORMS:
        return storm.can(target, workload)
    return workload not in TLS or target in targets.SPEAK_TLS


def run(settings: Settings, target: str, workload: str, label: str) -> dict:
    """Measures once. Raises Trouble if anything was not as it must be."""
    if workload in FAIR:
        return fairness.run(settings, target, workload, label)
    if workload in STORMS:
        return storm.run(settings, target, workload, label)
    with ExitStack() as stack:
        stub, port, proxy = _start(settings, target, workload, label, stack)
        load = _load(settings, port, workload, label)
        stack.callback(load.end)
        watched = proxy or stub
        if load.line() != "begin":
            raise Trouble("the load does not say that it begins")
        pids = watched.tree()
        process.reset_peak(pids)
        idle_kib = process.memory_kib(pids, "VmRSS")
        perf = _perf(settings, watched, target, workload) if settings.perf else None
        before = process.cpu_ns(pids)
        load.answer()
        word = load.line()
        after = process.cpu_ns(pids)
        if word != "end":
            raise Trouble("the load does not say that it has ended")
        memory = {
            "rss_before_kib": idle_kib,
            "rss_after_kib": process.memory_kib(pids, "VmRSS"),
            "peak_kib": process.memory_kib(pids, "VmHWM"),
        }
        if perf:
            perf.send_signal(signal.SIGINT)
            perf.wait(process.PATIENCE)
        load.answer()
        counts = json.loads(load.line())
        if proxy and proxy.popen.poll() is not None:
            raise Trouble(f"the proxy died: {proxy.tail()}")
        cpu = {"cpu_ns": after - before if proxy else None, "load_average": os.getloadavg()[0]}
        return counts | cpu | memory


def _start(
    settings: Settings, target: str, workload: str, label: str, stack: ExitStack
) -> tuple[Process, int, Process | None]:
    stub_log = settings.scratch / f"{label}.stub"
    command = settings.peers.driver(settings.binaries, target in targets.STAMP)
    stub = Process("stub_driver", command, settings.load_core, stub_log)
    stack.callback(stub.end)
    port = stub.listening()
    if target == "direct":
        return stub, port, None
    proxy, port = targets.start(target, settings.place(label, port, port, workload in TLS))
    stack.callback(proxy.end)
    return stub, port, proxy


def _load(settings: Settings, port: int, workload: str, label: str) -> Process:
    arguments = {
        "--target": f"127.0.0.1:{port}",
        "--workload": TLS.get(workload, workload),
        "--token": settings.certs.token,
        "--warm": settings.warm,
        "--measure": settings.measure,
        "--idle": settings.idle,
    }
    if workload in TLS:
        arguments["--authority"] = settings.certs.authority
    command = [*settings.peers.client(settings.binaries), "--gated"]
    command += [str(word) for pair in arguments.items() for word in pair]
    return Process("load", command, settings.load_core, settings.scratch / f"{label}.load")


def _perf(settings: Settings, proxy: Process, target: str, workload: str) -> subprocess.Popen:
    data = settings.out / f"perf-{target}-{workload}.data"
    pids = ",".join(str(pid) for pid in proxy.tree())
    command = ["taskset", "-c", str(settings.load_core), "perf", "record", "-q", "-g"]
    command += ["-F", "1999", "-p", pids, "-o", str(data)]
    perf = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        perf.wait(0.5)
    except subprocess.TimeoutExpired:
        return perf
    raise Trouble(f"perf ended at once with {perf.returncode}")
