"""The proxies that are compared: how each is configured and started.

A line of a configuration that begins with `@TLS@` is there only where the load speaks TLS, one with
`@CLEAR@` only where it does not; other names between at signs stand for what differs between runs.
"""

from dataclasses import dataclass
from pathlib import Path

from rig import certs, install
from rig.certs import Certs
from rig.process import Process, free_port

PEERS = Path(__file__).resolve().parents[1] / "peers"
NAMES = [
    "direct",
    "relay",
    "sconce",
    "envoy",
    "envoy-equal",
    "haproxy-tcp",
    "haproxy",
    "nginx",
    "nghttpx",
]
SPEAK_TLS = {"sconce", "envoy", "envoy-equal", "haproxy", "nginx", "nghttpx"}
STAMP = {"sconce"}
"""They write who calls into every message."""
MEANING = {
    "direct": "no proxy: the load dials the stub driver",
    "relay": "the rig's own TCP relay, the yardstick",
    "sconce": "`workers: 1`, `chain: [authenticate, team]`: token, stamp, team by claim",
    "envoy": "router only, one worker",
    "envoy-equal": "token, route by its team and by environment, edge limits, JSON access log",
    "haproxy-tcp": "`mode tcp` with splice",
    "haproxy": "`mode http`, HTTP/2 on both sides",
    "nginx": "`grpc_pass`, connections kept",
    "nghttpx": "HTTP/2 on both sides",
}


@dataclass
class Place:
    """What a target is started with."""

    binaries: Path
    directory: Path
    core: int
    stub: int
    """The port of the driver of team ads."""
    other: int
    """And of team growth."""
    tls: bool
    certs: Certs
    wrap: list[str]


def start(name: str, place: Place) -> tuple[Process, int]:
    """Starts a proxy in front of the stub driver; tells where it listens."""
    place.directory.mkdir(parents=True)
    log = place.directory / "log"
    if name == "relay":
        command = [str(place.binaries / "relay"), "--to", f"127.0.0.1:{place.stub}"]
        relay = Process(name, place.wrap + command, place.core, log)
        return relay, relay.listening()
    port = free_port()
    values = {
        "PORT": port,
        "STUB": place.stub,
        "OTHER": place.other,
        "ADMIN": free_port(),
        "DIR": place.directory,
        "ISSUER": certs.ISSUER,
        "AUDIENCE": certs.AUDIENCE,
        "KEYS": place.certs.keys,
        "CERTIFICATE": place.certs.certificate,
    }
    proxy = Process(name, place.wrap + _command(name, place, values), place.core, log)
    try:
        proxy.wait_for(port)
    except BaseException:
        proxy.end()
        raise
    return proxy, port


def _command(name: str, place: Place, values: dict) -> list[str]:
    def config(file: str) -> str:
        leave, take = ("@CLEAR@", "@TLS@") if place.tls else ("@TLS@", "@CLEAR@")
        lines = (PEERS / file).read_text().splitlines()
        lines = [line.removeprefix(take) for line in lines if not line.startswith(leave)]
        text = "\n".join(lines) + "\n"
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        filled = place.directory / file
        filled.parent.mkdir(exist_ok=True)
        filled.write_text(text)
        return str(filled)

    match name:
        case "sconce":
            for team in sorted((PEERS / "teams").glob("*.yaml")):
                config(f"teams/{team.name}")
            return [str(place.binaries / "sconce"), "serve", "--config", config("sconce.yaml")]
        case "envoy" | "envoy-equal":
            settings = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
            return [str(install.ENVOY_BINARY), "-c", config(f"{name}.yaml"), *settings]
        case "haproxy" | "haproxy-tcp":
            return [install.which("haproxy"), "-db", "-f", config(f"{name}.cfg")]
        case "nginx":
            return [install.which("nginx"), "-c", config("nginx.conf"), "-e", "stderr"]
        case "nghttpx":
            return [install.which("nghttpx"), f"--conf={config('nghttpx.conf')}"]
    raise ValueError(name)
