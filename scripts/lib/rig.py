"""Starts and stops processes on loopback: Spark Connect servers, and sconce in front of them.

Shared by the demo and the tests. Standard library only: it runs before any environment exists. Must never leave a
process behind or use a fixed port: every process has its own process group, and ports are read from its log.
"""

import atexit
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import steps  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPARK_START_SECONDS = 180.0  # a loaded CI machine; 8 s on an idle one
SCONCE_START_SECONDS = 20.0
STOP_SECONDS = 10.0


STARTED: list["Process"] = []


@atexit.register
def stop_all() -> None:
    """Stops all running processes, the latest first; also called at exit."""
    while STARTED:
        STARTED.pop().stop()


class Process:
    """A child process with its own process group and log."""

    def __init__(self, name: str, command: list, log: pathlib.Path, **popen):
        self.name = name
        self.log = log
        if not pathlib.Path(command[0]).exists():
            raise steps.Failed(f"{name} cannot start: there is no {command[0]}")
        with open(log, "ab") as output:
            self.child = subprocess.Popen(
                [*dies_with_us(), *(str(word) for word in command)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **popen,
            )
        STARTED.append(self)

    @property
    def pid(self) -> int:
        return self.child.pid

    def alive(self) -> bool:
        return self.child.poll() is None

    def wait_for(self, pattern: str, seconds: float, ticker: steps.Ticker | None = None) -> re.Match:
        """The first match of `pattern` in the log; `Failed` if the process ends or takes too long."""
        until = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.log.read_text(errors="replace"))
            if found:
                return found
            if not self.alive():
                raise self.failed(f"ended with {self.child.returncode} while it started")
            if time.monotonic() > until:
                raise self.failed(f"is not ready after {seconds:.0f} s")
            if ticker:
                ticker.tick()
            time.sleep(0.05)

    def failed(self, what: str) -> steps.Failed:
        return steps.Failed(f"{self.name} {what}\n{steps.tail(self.log)}\nthe whole log: {self.log}")

    def signal(self, number: int) -> None:
        """Sends a signal to the whole group: a Spark server has Python workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.child.wait()

    def stop(self) -> int:
        """Terminates, waits, then kills; returns the exit code."""
        if self.alive():
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(STOP_SECONDS)
        self.signal(signal.SIGKILL)
        return self.child.wait()


def dies_with_us() -> list[str]:
    """A command prefix that kills a child when its parent is killed; needs `setpriv`."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


class Spark(Process):
    """A Spark Connect server of one PySpark version, on loopback, on a free port unless one is given."""

    def __init__(self, version: str, name: str, place: pathlib.Path, memory: str = "600m", port: int = 0, conf=()):
        self.version = version
        self.place = place / name
        self.place.mkdir(parents=True, exist_ok=True)
        env = environment(version)
        pyspark = next(env.glob("lib/python3*/site-packages/pyspark"))
        settings = {
            "spark.app.name": name,
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": port,
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",  # short-lived: start fast
            "spark.ui.enabled": "false",
            "spark.local.dir": self.place / "local",
            "spark.sql.warehouse.dir": self.place / "warehouse",
            "spark.sql.shuffle.partitions": "2",
            **dict(conf),
        }
        command = [pyspark / "bin" / "spark-submit", "--master", "local[2]", "--driver-memory", memory]
        command += ["--name", name]
        command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
        for key, value in settings.items():
            command += ["--conf", f"{key}={value}"]
        super().__init__(
            name,
            [*command, "spark-internal"],
            self.place / "server.log",
            cwd=self.place,
            env=server_variables(env, pyspark),
        )

    def ready(self, ticker: steps.Ticker | None = None) -> "Spark":
        """Waits until the server accepts calls."""
        found = self.wait_for(r"Spark Connect server started at: \S+:(\d+)\n", SPARK_START_SECONDS, ticker)
        self.port = int(found.group(1))
        self.address = f"127.0.0.1:{self.port}"
        return self

    def stop(self) -> int:
        """Kills the server: its own shutdown takes seconds."""
        self.kill()
        return self.child.returncode


def server_variables(env: pathlib.Path, pyspark: pathlib.Path) -> dict:
    """The environment variables of a server, without those of other Spark installations."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_", "PYTHON"))}
    python = str(env / "bin" / "python")
    return {**clean, "SPARK_HOME": str(pyspark), "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}


def environment(version: str) -> pathlib.Path:
    """The Python environment of a PySpark version, created if necessary."""
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "lib" / "spark-env", version], stdout=subprocess.PIPE, text=True
    )
    if made.returncode != 0:
        raise steps.Failed(f"there is no environment for PySpark {version}, see above")
    return pathlib.Path(made.stdout.strip())


class Proof:
    """Material for authentication: a certificate for localhost, and a key that signs tokens."""

    ISSUER = "https://sconce.invalid/dev"

    def __init__(self, place: pathlib.Path, listen: str = "", issuers: str = "", more: str = ""):
        """Uses existing files of the directory. Configuration lines may be given: below `listen.tls:`, instead of the
        default issuer, and below `authenticate:`."""
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.lines = {"listen": listen, "issuers": issuers, "more": more}
        self.certificate = place / "server.crt"
        if not self.certificate.exists():
            self.renew()
            self.token("nobody")  # makes the key

    def copy(self, place: pathlib.Path, **lines: str) -> "Proof":
        """A copy with the same certificate and key, and other configuration lines."""
        shutil.copytree(self.place, place)
        return Proof(place, **lines)

    def renew(self) -> None:
        """Writes a new self-signed certificate with a new key."""
        key, names = self.place / "server.key", "subjectAltName=DNS:localhost,IP:127.0.0.1"
        self.openssl("-subj", "/CN=localhost", "-addext", names, "-keyout", key, "-out", self.certificate)

    def openssl(self, *more) -> None:
        """Creates a key and its certificate."""
        if not shutil.which("openssl"):
            raise steps.Failed("openssl not found; it creates the certificate (Debian: apt-get install openssl)")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subprocess.run([*command, "-days", "30", *more], check=True, stderr=subprocess.DEVNULL)

    def token(self, user: str, *teams: str, groups: tuple = (), expires: str = "1h", **more: str) -> str:
        """A token for a user, signed with the key."""
        command = [binary(), "token", "--key", self.place / "dev.key", "--user", user, "--expires", expires]
        for flag, values in (("--team", teams), ("--group", groups)):
            for value in values:
                command += [flag, value]
        for flag, value in more.items():
            command += [f"--{flag}", value]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def environment(self) -> dict:
        """The environment variables of a client that trusts the certificate."""
        return {**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self.certificate)}

    def listen(self) -> str:
        """Configuration lines below `listen:`."""
        pair = f'{{ certificate: "{self.certificate}", key: "{self.place / "server.key"}" }}'
        return f"  tls:\n    certificates: [{pair}]\n{self.lines['listen']}"

    def authenticate(self) -> str:
        """The section `authenticate`."""
        ours = (
            f"    - issuer: {self.ISSUER}\n      audiences: [sconce]\n"
            f'      keys_file: "{self.place / "dev.key.jwks"}"\n      claims: {{ teams: teams }}\n'
        )
        issuers = self.lines["issuers"] or ours
        return f"chain: [authenticate, team]\nauthenticate:\n  issuers:\n{issuers}{self.lines['more']}"


class Sconce(Process):
    """sconce with a generated configuration, in a directory that can be edited while it runs."""

    def __init__(
        self,
        place: pathlib.Path,
        teams: dict,
        default_team: str | None = None,
        settings: str = "",
        proof: Proof | None = None,
        members: dict[str, str] | None = None,
        lines: dict[str, str] | None = None,
    ):
        """Members in YAML by team, and further lines of team files."""
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.proof = proof
        self.config = place / "sconce.yaml"
        (place / "teams").mkdir(exist_ok=True)
        default = f"  default_team: {default_team}\n  default_environment: prod\n" if default_team else ""
        self.config.write_text(
            'listen:\n  address: "127.0.0.1:0"\n'
            f"{proof.listen() if proof else ''}"
            'admin:\n  address: "127.0.0.1:0"\n'
            "log: { format: json, level: info }\n"
            f"{proof.authenticate() if proof else ''}"
            f"teams:\n  directory: teams\n{default}{settings}"
        )
        for team, driver in teams.items():
            self.write_team(team, driver, (members or {}).get(team, ""), (lines or {}).get(team, ""))
        super().__init__("sconce", [binary(), "serve", "--config", self.config], place / "sconce.log")
        self.wait_for(r"listening", SCONCE_START_SECONDS)
        ready = next(line for line in self.log.read_text().splitlines() if "listening" in line)
        self.address = self.field(ready, "address")
        self.admin = self.field(ready, "admin")

    @staticmethod
    def field(line: str, name: str) -> str:
        """A field of a log line, JSON or pretty."""
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            return str(event.get(name) or event.get("fields", {})[name])
        return re.search(rf'\b{name}="?([^\s",]+)', line).group(1)

    def write_team(
        self, team: str, driver: str | dict[str, str] | None, members: str = "", more: str = ""
    ) -> None:
        """Writes a team's file atomically, or removes it. A single driver is that of `prod`.

        Members are YAML: `{ groups: [spark] }`; `more` are further lines.
        """
        path = self.place / "teams" / f"{team}.yaml"
        if driver is None:
            path.unlink()
            return
        draft = path.with_suffix(".draft")
        drivers = driver if isinstance(driver, dict) else {"prod": driver}
        places = "".join(f'  {environment}:\n    driver: "{where}"\n' for environment, where in drivers.items())
        who = f"members: {members}\n" if members else ""
        draft.write_text(f"team: {team}\n{who}{more}environments:\n{places}")
        draft.replace(path)

    def url(self, team: str | None = None, **parameters: str) -> str:
        """The URL that a client dials for a team."""
        said = {**({"x-sconce-team": team, "x-sconce-env": "prod"} if team else {}), **parameters}
        host = self.address
        if self.proof:
            # The certificate is for this name, for which alone a client that has a token does not insist on TLS.
            host = f"localhost:{self.address.rpartition(':')[2]}"
            said["use_ssl"] = "true"
        return f"sc://{host}/;" + ";".join(f"{key}={value}" for key, value in said.items())

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the admin port."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def metrics(self, name: str, **labels: str) -> list[str]:
        """The lines of a metric that carry all these labels."""
        page = self.get("/metrics")[1].splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return [line for line in page if line.startswith(name) and all(label in line for label in wanted)]


def binary() -> pathlib.Path:
    """The sconce to run: SCONCE_BIN, or what `build` makes."""
    given = os.environ.get("SCONCE_BIN")
    return pathlib.Path(given) if given else target() / "release" / "sconce"


def target() -> pathlib.Path:
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def build(log: pathlib.Path) -> None:
    """Builds sconce for release, unless SCONCE_BIN names one that is there."""
    if os.environ.get("SCONCE_BIN"):
        if not binary().exists():
            raise steps.Failed(f"SCONCE_BIN says {binary()}, and there is nothing")
        return
    try:
        steps.run(
            "sconce, release build (about two minutes the first time)",
            ["cargo", "build", "--release", "--locked", "--bin", "sconce"],
            log,
            cwd=ROOT,
        )
    except FileNotFoundError:
        raise steps.Failed("no cargo here: install Rust (rustup reads rust-toolchain.toml)") from None
