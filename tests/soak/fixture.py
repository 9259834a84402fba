"""What is soaked: sconce and its files, stub drivers that can be killed and come back, and the client that judges.

A driver keeps its port while it is dead: the port is held by a socket that is bound and never listens.
"""

import asyncio
import contextlib
import json
import pathlib
import re
import signal
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "scripts" / "lib"))
import rig  # noqa: E402
import steps  # noqa: E402

CLUSTERS = ["ads/prod", "ads/dev", "ml/prod", "ml/dev"]
GUEST = "guest/prod"  # a team that comes and goes
SPARE = "spare"  # a driver that environments move to
NOBODY = "nobody"  # a port where nobody ever listens
NOT_FOUND, UNAVAILABLE, DEADLINE_EXCEEDED = "status=5", "status=14", "status=4"
SILENCE, ACK, GRACE = 1.0, 1.0, 5.0
SETTINGS = (
    "  removal_delay: 0s\n"  # below `teams:`; what is removed is refused at once, which the claims hold sconce to
    "workers: 2\n"
    f"timeouts: {{ connect: 1s, driver_keepalive: {SILENCE:.0f}s, driver_keepalive_ack: {ACK:.0f}s }}\n"
    f"drain: {{ grace: {GRACE:.0f}s }}\n"
)
LEAVE_SECONDS = 8.0
APPLY_SECONDS = 12.0
ORDER_SECONDS = 60.0


class Wrong(Exception):
    """A claim that does not hold, and why."""

    def __init__(self, claim: str, why: str):
        super().__init__(why)
        self.claim = claim


class Driver:
    """A stub driver with a name, which its answers tell, and a port that stays its own."""

    def __init__(self, name: str, place: pathlib.Path):
        self.name = name
        self.ending = f"driver={name}"
        self.log = place / f"{name}.log"
        self.held = socket.socket()
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.held.getsockname()[1]}"

    def start(self) -> None:
        stub = rig.target() / "release" / "stub_driver"
        self.process = rig.Process(self.name, [stub, "--listen", self.address, "--name", self.name], self.log)

    def kill(self) -> None:
        if self.process.alive():
            self.process.kill()
        if self.process in rig.STARTED:
            rig.STARTED.remove(self.process)  # its id is the system's again

    async def leave(self) -> None:
        """SIGTERM: it finishes its calls."""
        self.process.child.terminate()
        for _ in range(int(LEAVE_SECONDS * 100)):
            if not self.process.alive():
                break
            await asyncio.sleep(0.01)
        self.kill()


class Client:
    """The load: takes orders, tells what is wrong."""

    def __init__(self) -> None:
        self.numbers = 0
        self.waiting: dict[int, asyncio.Future] = {}
        self.wrong: list[dict] = []

    async def start(self, target: str, seed: int, log: pathlib.Path) -> None:
        command = [rig.target() / "release" / "soak", "--target", target, "--seed", seed]
        for cluster in [*CLUSTERS, GUEST]:
            command += ["--cluster", cluster]
        self.process = await asyncio.create_subprocess_exec(
            *rig.dies_with_us(),
            *map(str, command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log.open("ab"),
        )
        self.reader = asyncio.create_task(self.read())

    async def read(self) -> None:
        while line := (await self.process.stdout.readline()).decode():
            word, _, rest = line.strip().partition(" ")
            if word == "wrong":
                self.wrong.append(json.loads(rest))
            else:
                number, _, told = rest.partition(" ")
                self.finish(int(number), told)
        for number in list(self.waiting):
            self.finish(number, None)

    def finish(self, number: int, told: str | None) -> None:
        """An order was carried out, or never will be. Whoever gave it may have gone."""
        done = self.waiting.pop(number)
        if done.done():
            return
        if told is None:
            done.set_exception(steps.Failed("the client ended, see its log"))
        else:
            done.set_result(told)

    async def order(self, *words) -> str:
        """Gives an order and waits until it is carried out."""
        self.numbers += 1
        done = self.waiting[self.numbers] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(f"{self.numbers} {' '.join(map(str, words))}\n".encode())
        try:
            return await asyncio.wait_for(done, ORDER_SECONDS)
        except asyncio.TimeoutError:
            raise Wrong("hangs", f"the client is not done with: {' '.join(map(str, words))}") from None

    async def stop(self) -> None:
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self.reader


class Fixture:
    """All of it, and the words in which disturbances are written."""

    def __init__(self, place: pathlib.Path):
        names = [cluster.replace("/", "-") for cluster in CLUSTERS]
        self.drivers = {name: Driver(name, place) for name in [*names, SPARE, NOBODY]}
        self.placed = {cluster: self.drivers[name] for cluster, name in zip(CLUSTERS, names)}
        for driver in self.drivers.values():
            if driver.name != NOBODY:
                driver.start()
        self.client = Client()
        self.files = asyncio.Lock()  # one edit at a time: an error in one file would delay another
        self.sconce = rig.Sconce(place, {team: self.drivers_of(team) for team in ("ads", "ml")}, settings=SETTINGS)
        self.main_file = self.sconce.config.read_text()

    def drivers_of(self, team: str) -> dict[str, str]:
        told = (cluster.split("/") for cluster in CLUSTERS)
        return {name: self.placed[f"{of}/{name}"].address for of, name in told if of == team}

    @contextlib.asynccontextmanager
    async def leave(self, cluster: str, *endings: str):
        """Allows endings before something is done, and forbids them when it is over."""
        for ending in endings:
            await self.client.order("allow", cluster, ending)
        yield
        for ending in endings:
            await self.client.order("forbid", cluster, ending)

    async def settled(self, cluster: str, ending: str) -> None:
        """Until a call on every connection has ended so."""
        await self.client.order("settle", cluster, ending)

    def write(self, team: str) -> None:
        """The team's file, as its clusters are placed now."""
        self.sconce.write_team(team, self.drivers_of(team))

    def number(self, name: str, **labels: str) -> float:
        """The sum over a metric's lines with these labels."""
        try:
            lines = self.sconce.metrics(name, **labels)
        except OSError as fault:
            raise Wrong("gauges", f"the admin port does not answer: {fault}") from None
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def until(self, claim: str, what: str, holds) -> None:
        for _ in range(int(APPLY_SECONDS / 0.05)):
            if holds():
                return
            await asyncio.sleep(0.05)
        raise Wrong(claim, f"not so after {APPLY_SECONDS:.0f} s: {what}")

    def descriptors(self) -> int:
        return len(list(pathlib.Path(f"/proc/{self.sconce.pid}/fd").iterdir()))

    def memory_kib(self) -> int:
        status = pathlib.Path(f"/proc/{self.sconce.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])

    def stop_drivers(self) -> None:
        """Also those that sleep, and never by a name."""
        for driver in self.drivers.values():
            if driver.name != NOBODY and driver.process.alive():
                driver.process.signal(signal.SIGKILL)
