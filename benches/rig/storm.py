"""Many connections at once: how long each waits for the server's SETTINGS."""

import json
from contextlib import ExitStack

from rig import targets
from rig.process import Process

CONNECTIONS = 3000
TARGETS = ["relay", "sconce", "envoy-equal", "haproxy", "nginx", "nghttpx"]


def can(target: str, workload: str) -> bool:
    """Whether the target is measured."""
    return target in TARGETS and (workload == "C1" or target in targets.SPEAK_TLS)


def run(settings, target: str, workload: str, label: str) -> dict:
    """Measures once."""
    tls = workload == "C1s"
    with ExitStack() as stack:

        def start(name: str, command: list[str]) -> Process:
            log = settings.scratch / f"{label}.{name}"
            started = Process(name, command, settings.load_core, log)
            stack.callback(started.end)
            return started

        stamped = target in targets.STAMP
        port = start("stub", settings.peers.driver(settings.binaries, stamped)).listening()
        proxy, port = targets.start(target, settings.place(label, port, port, tls))
        stack.callback(proxy.end)
        command = [str(settings.binaries / "connect_storm"), "--target", f"127.0.0.1:{port}"]
        command += ["--connections", str(CONNECTIONS)]
        if tls:
            command += ["--authority", str(settings.certs.authority)]
        return {"storm": json.loads(start("storm", command).line())}
