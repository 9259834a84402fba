"""What is done to the drivers and to the files. Each fault says beforehand how calls may end because of it, does it,
mends it, and waits until the clusters work again on every connection; only then it takes its word back.

So a call that no fault concerns must be answered, and every other one must end as the fault said.
"""

import asyncio
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fixture import (
    ACK,
    CLUSTERS,
    DEADLINE_EXCEEDED,
    GUEST,
    NOBODY,
    NOT_FOUND,
    SILENCE,
    SPARE,
    UNAVAILABLE,
    Fixture,
)

FILES = "the files"


@dataclass
class Fault:
    """What is done, how often beside the others, and what it must have for itself."""

    do: Callable[[Fixture, str, random.Random], Awaitable[None]]
    weight: int
    needs: Callable[[str], set[str]]


async def kill(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    driver = fixture.placed[cluster]
    async with fixture.leave(cluster, UNAVAILABLE):
        driver.kill()
        await asyncio.sleep(dice.choice([0, dice.uniform(0, 0.2)]))
        driver.start()
        await fixture.settled(cluster, driver.ending)


async def retire(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """The driver leaves in good order, as for an update."""
    driver = fixture.placed[cluster]
    async with fixture.leave(cluster, UNAVAILABLE):
        await driver.leave()
        await asyncio.sleep(dice.uniform(0, 0.1))
        driver.start()
        await fixture.settled(cluster, driver.ending)


async def hold(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """The driver says nothing for longer than sconce waits."""
    driver = fixture.placed[cluster]
    async with fixture.leave(cluster, UNAVAILABLE, DEADLINE_EXCEEDED):
        driver.process.signal(signal.SIGSTOP)
        await asyncio.sleep(SILENCE + ACK + dice.uniform(0.3, 1.5))
        driver.process.signal(signal.SIGCONT)
        await fixture.settled(cluster, driver.ending)


async def nap(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """The driver says nothing for a while, as in a collection of garbage: no call may fail."""
    driver = fixture.placed[cluster]
    driver.process.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.05, 0.6 * SILENCE))
    driver.process.signal(signal.SIGCONT)
    await fixture.settled(cluster, driver.ending)


async def move(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """Another driver for a cluster, and back: no call may fail, and each goes where the files say."""
    home, other = fixture.placed[cluster], fixture.drivers[SPARE]
    for old, new in ((home, other), (other, home)):
        await fixture.client.order("allow", cluster, new.ending)
        fixture.placed[cluster] = new
        fixture.write(cluster.split("/")[0])
        await fixture.settled(cluster, new.ending)
        await fixture.client.order("forbid", cluster, old.ending)
        await asyncio.sleep(dice.uniform(0, 0.2))


async def misplace(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """The file names a port where nobody listens."""
    home = fixture.placed[cluster]
    async with fixture.leave(cluster, UNAVAILABLE):
        fixture.placed[cluster] = fixture.drivers[NOBODY]
        fixture.write(cluster.split("/")[0])
        await fixture.settled(cluster, UNAVAILABLE)
        await fixture.client.order("forbid", cluster, home.ending)
        await asyncio.sleep(dice.uniform(0, 0.2))
        await fixture.client.order("allow", cluster, home.ending)
        fixture.placed[cluster] = home
        fixture.write(cluster.split("/")[0])
        await fixture.settled(cluster, home.ending)


async def garble(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """An invalid team file: routes stay, and the error is reported."""
    team = cluster.split("/")[0]
    path = fixture.sconce.place / "teams" / f"{team}.yaml"
    good = path.read_text()
    wrong = ["", "team: [", "team: Ads!\n", good.replace("driver:", "drivr:"), good.replace("127.0.0.1:", ""), good[:-9]]
    path.write_text(dice.choice(wrong))
    await fixture.until("log", "a config error is reported", lambda: fixture.number("sconce_config_errors") > 0)
    await asyncio.sleep(dice.uniform(0, 0.2))
    fixture.write(team)
    await fixture.until("log", "the config error is cleared", lambda: fixture.number("sconce_config_errors") == 0)


async def banish(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """A team's file goes away and comes back."""
    team = cluster.split("/")[0]
    homes = [(name, fixture.placed[name].ending) for name in CLUSTERS if name.startswith(f"{team}/")]
    for name, _ in homes:
        await fixture.client.order("allow", name, NOT_FOUND)
    fixture.sconce.write_team(team, None)
    for name, ending in homes:
        await fixture.settled(name, NOT_FOUND)
        await fixture.client.order("forbid", name, ending)
    await asyncio.sleep(dice.uniform(0, 0.2))
    for name, ending in homes:
        await fixture.client.order("allow", name, ending)
    fixture.write(team)
    for name, ending in homes:
        await fixture.settled(name, ending)
        await fixture.client.order("forbid", name, NOT_FOUND)


async def invite(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """A new team comes and goes."""
    driver = fixture.drivers[SPARE]
    await fixture.client.order("allow", GUEST, driver.ending)
    fixture.sconce.write_team("guest", driver.address)
    await fixture.settled(GUEST, driver.ending)
    await fixture.client.order("forbid", GUEST, NOT_FOUND)
    await asyncio.sleep(dice.uniform(0, 0.2))
    await fixture.client.order("allow", GUEST, NOT_FOUND)
    fixture.sconce.write_team("guest", None)
    await fixture.settled(GUEST, NOT_FOUND)
    await fixture.client.order("forbid", GUEST, driver.ending)


async def touch(fixture: Fixture, cluster: str, dice: random.Random) -> None:
    """The main file is written again, once or in a burst, the same or with another limit."""
    for _ in range(dice.choice([1, 1, 5])):
        if dice.random() < 0.5:
            os.utime(fixture.sconce.config)
        else:
            fixture.sconce.config.write_text(f"{fixture.main_file}limits: {{ header_count: {dice.randint(100, 128)} }}\n")
        await asyncio.sleep(dice.uniform(0, 0.05))


FAULTS = [
    Fault(kill, 26, lambda cluster: {cluster}),
    Fault(retire, 14, lambda cluster: {cluster}),
    Fault(nap, 8, lambda cluster: {cluster}),
    Fault(hold, 4, lambda cluster: {cluster}),
    Fault(move, 12, lambda cluster: {cluster, FILES}),
    Fault(misplace, 5, lambda cluster: {cluster, FILES}),
    Fault(garble, 10, lambda _: {FILES}),
    Fault(banish, 6, lambda cluster: {FILES, *(name for name in CLUSTERS if name.split("/")[0] == cluster.split("/")[0])}),
    Fault(invite, 6, lambda _: {FILES}),
    Fault(touch, 9, lambda _: set()),
]


async def swap(fixture: Fixture, _: str, __: random.Random) -> None:
    """Leads one team to another's driver."""
    fixture.placed["ads/prod"] = fixture.placed["ml/prod"]
    fixture.write("ads")


async def murder(fixture: Fixture, cluster: str, _: random.Random) -> None:
    """Kills a driver without a word."""
    fixture.placed[cluster].kill()


async def freeze(fixture: Fixture, _: str, __: random.Random) -> None:
    """sconce stands still for longer than any call may take."""
    fixture.sconce.signal(signal.SIGSTOP)
    await asyncio.sleep(20)
    fixture.sconce.signal(signal.SIGCONT)


async def evict(fixture: Fixture, _: str, __: random.Random) -> None:
    """sconce says goodbye to its clients."""
    fixture.sconce.child.terminate()


async def squat(fixture: Fixture, _: str, __: random.Random) -> None:
    """Connections to sconce that are not the client's stay open."""
    host, port = fixture.sconce.address.rsplit(":", 1)
    fixture.squatters = [socket.create_connection((host, int(port))) for _ in range(3)]
    for client in fixture.squatters:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        client.recv(1 << 16)
        client.sendall(bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]))


SABOTAGE = {fault.__name__: fault for fault in (swap, murder, freeze, evict, squat)}
"""What must make the soak fail, for who doubts that it can."""
