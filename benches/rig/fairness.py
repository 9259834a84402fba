"""An honest client beside others on one worker: beside an attack, and beside bulk transfers.

The same calls go straight to a stub driver at the same moment, which tells how long they take for
other reasons: all but the proxy share one core.
"""

import json
import time
from contextlib import ExitStack

from rig import targets
from rig.process import Process, Trouble

ATTACKS = {"F1a": "members", "F1b": "es256", "F1c": "es384"}
"""And the token of each, by its name in certs.py."""
BULK = {"F2d": "8-down", "F2u": "8-up"}
MEANING = {
    "F1a": "refused tokens with 350 members",
    "F1b": "bogus ES256 signatures",
    "F1c": "bogus ES384 signatures",
    "F2d": "8 downloads of others",
    "F2u": "8 uploads of others",
}
TARGETS = ["sconce", "envoy-equal", "haproxy"]
WITHOUT_TOKENS = {"haproxy"}
"""They take any token, and route by the team that a call names."""
HEAD_START = 0.3
"""Seconds that the others have before the measured part."""
LONG = 3600


def run(settings, target: str, workload: str, label: str) -> dict:
    """Measures once. Raises Trouble if anything was not as it must be."""
    with ExitStack() as stack:

        def start(name: str, command: list) -> Process:
            log = settings.scratch / f"{label}.{name}"
            started = Process(name, [str(word) for word in command], settings.load_core, log)
            stack.callback(started.end)
            return started

        stamped = target in targets.STAMP
        driver = settings.peers.driver(settings.binaries, stamped)
        stub, other = start("stub", driver).listening(), start("other", driver).listening()
        bare = start("bare", settings.peers.driver(settings.binaries, False)).listening()
        place = settings.place(label, stub, other, tls=False)
        proxy, port = targets.start(target, place)
        stack.callback(proxy.end)
        client = settings.peers.client(settings.binaries)
        times = ["--warm", settings.warm, "--measure", settings.measure]
        probe = [*client, "--gated", "--workload", "probe", *times]
        probe += ["--token", settings.certs.token, "--target"]
        probes = [start(f"probe-{to}", [*probe, f"127.0.0.1:{to}"]) for to in (port, bare)]
        _expect(probes, "begin")
        if workload in ATTACKS:
            token = getattr(settings.certs, ATTACKS[workload])
            flood = [settings.binaries / "flood", "--target", f"127.0.0.1:{port}"]
            others = start("flood", [*flood, "--token", token])
            _expect([others], "flooding")
        else:
            bulk = [*client, "--workload", BULK[workload], "--warm", 0, "--measure", LONG]
            named = target in WITHOUT_TOKENS
            who = ["--team", "growth"] if named else ["--token", settings.certs.growth]
            others = start("bulk", [*bulk, *who, "--target", f"127.0.0.1:{port}"])
        time.sleep(HEAD_START)
        for each in probes:
            each.answer()
        _expect(probes, "end")
        if others.popen.poll() is not None:
            raise Trouble(f"the others are gone: {others.tail()}")
        told = {}
        if workload in ATTACKS:
            others.answer()
            told["flood"] = json.loads(others.line())
        for each in probes:
            each.answer()
        through, control = (json.loads(each.line()) for each in probes)
        if proxy.popen.poll() is not None:
            raise Trouble(f"the proxy died: {proxy.tail()}")
        return through | {"control": control["latency"]} | told


def _expect(processes: list[Process], word: str) -> None:
    for each in processes:
        if each.line() != word:
            raise Trouble(f"{each.name} does not say {word}")
