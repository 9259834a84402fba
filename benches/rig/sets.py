"""Who loads the proxies, and who answers behind them: the sets of peers, defined in README.md."""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rig import certs, install

GRPC_LOAD = Path(__file__).with_name("grpc_load.py")
WINDOW = 4 << 20
TLS = {"W7": "W1", "W7d": "W2", "W7u": "W3", "W7c": "W5", "W7i": "W4"}
"""Workloads over TLS, and what each is in clear text."""
FAIR = ["F1a", "F1b", "F1c", "F2d", "F2u"]
"""An honest client beside others; see fairness.py."""

STORMS = ["C1", "C1s"]
"""Many connections at once, in clear text and over TLS; see storm.py."""


@dataclass(frozen=True)
class Set:
    """A load and a driver, and how TCP paces what is between them and the proxy."""

    name: str
    title: str
    congestion: str
    workloads: list[str]
    load: list[str] = field(default_factory=list)
    stub: list[str] = field(default_factory=list)
    real: bool = False
    """Both are the libraries that Spark and PySpark use."""

    def driver(self, binaries: Path, stamped: bool) -> list[str]:
        """The command of the driver. Our own one wants the stamp of who calls behind sconce."""
        if self.real:
            classes = f"{install.GRPC_JAVA}/stub-driver-1.jar:{install.GRPC_JAVA}/dependency/*"
            return ["java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", classes, "StubDriver"]
        stamp = ["--stamp", f"{certs.USER},{certs.DISPLAY_NAME}"] if stamped else []
        return [str(binaries / "stub_driver"), *self.stub, *stamp]

    def client(self, binaries: Path) -> list[str]:
        """The command of the load, without what differs between runs."""
        if self.real:
            return [str(install.GRPCIO / "bin" / "python"), str(GRPC_LOAD)]
        return [str(binaries / "load"), *self.load]


SETS = {
    it.name: it
    for it in (
        Set(
            "own",
            "Set `own`: the rig's load and stub driver, CUBIC",
            "cubic",
            ["W1", "W1b", "W2", "W2x4", "W2b", "W3", "W4", "W5", "W6", *TLS, "W8", *FAIR, *STORMS],
        ),
        Set(
            "h2",
            "Set `h2`: load and stub driver as the `h2` crate is by itself, BBR",
            "bbr",
            ["W1", "W1t", "W2", "W3m"],
            ["--plain"],
            ["--plain", "--window", str(WINDOW)],
        ),
        Set(
            "grpc",
            "Set `grpc`: gRPC C-core and grpc-java, BBR",
            "bbr",
            ["G1", "G2", "G3"],
            real=True,
        ),
    )
}
LOADS = list(dict.fromkeys(load for it in SETS.values() for load in it.workloads))


def available(name: str) -> bool:
    """Whether what it needs is there; says so if not."""
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    missing = [] if SETS[name].congestion in known else [SETS[name].congestion]
    if SETS[name].real:
        missing += [tool for tool in ("java", "javac", "mvn") if not shutil.which(tool)]
    if missing:
        print(f"bench: set {name} is left out: no {', '.join(missing)} here", file=sys.stderr)
    return not missing
