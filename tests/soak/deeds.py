"""What is done to the drivers and to the files. Each deed says beforehand how calls may end because of it, does it,
mends it, and waits until the clusters work again on every connection; only then it takes its word back.

So a call that no deed concerns must be answered, and every other one must end as the deed said.
"""

import asyncio
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from house import (
    ACK,
    CLUSTERS,
    DEADLINE_EXCEEDED,
    GUEST,
    NOBODY,
    NOT_FOUND,
    SILENCE,
    SPARE,
    UNAVAILABLE,
    House,
)

FILES = "the files"


@dataclass
class Deed:
    """What is done, how often beside the others, and what it must have for itself."""

    do: Callable[[House, str, random.Random], Awaitable[None]]
    weight: int
    needs: Callable[[str], set[str]]


async def kill(house: House, cluster: str, dice: random.Random) -> None:
    driver = house.placed[cluster]
    async with house.leave(cluster, UNAVAILABLE):
        driver.kill()
        await asyncio.sleep(dice.choice([0, dice.uniform(0, 0.2)]))
        driver.start()
        await house.settled(cluster, driver.ending)


async def retire(house: House, cluster: str, dice: random.Random) -> None:
    """The driver leaves in good order, as for an update."""
    driver = house.placed[cluster]
    async with house.leave(cluster, UNAVAILABLE):
        await driver.leave()
        await asyncio.sleep(dice.uniform(0, 0.1))
        driver.start()
        await house.settled(cluster, driver.ending)


async def hold(house: House, cluster: str, dice: random.Random) -> None:
    """The driver says nothing for longer than sconce waits."""
    driver = house.placed[cluster]
    async with house.leave(cluster, UNAVAILABLE, DEADLINE_EXCEEDED):
        driver.process.signal(signal.SIGSTOP)
        await asyncio.sleep(SILENCE + ACK + dice.uniform(0.3, 1.5))
        driver.process.signal(signal.SIGCONT)
        await house.settled(cluster, driver.ending)


async def nap(house: House, cluster: str, dice: random.Random) -> None:
    """The driver says nothing for a while, as in a collection of garbage: no call may fail."""
    driver = house.placed[cluster]
    driver.process.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.05, 0.6 * SILENCE))
    driver.process.signal(signal.SIGCONT)
    await house.settled(cluster, driver.ending)


async def move(house: House, cluster: str, dice: random.Random) -> None:
    """Another driver for a cluster, and back: no call may fail, and each goes where the files say."""
    home, other = house.placed[cluster], house.drivers[SPARE]
    for old, new in ((home, other), (other, home)):
        await house.client.order("allow", cluster, new.ending)
        house.placed[cluster] = new
        house.write(cluster.split("/")[0])
        await house.settled(cluster, new.ending)
        await house.client.order("forbid", cluster, old.ending)
        await asyncio.sleep(dice.uniform(0, 0.2))


async def misplace(house: House, cluster: str, dice: random.Random) -> None:
    """The file names a port where nobody listens."""
    home = house.placed[cluster]
    async with house.leave(cluster, UNAVAILABLE):
        house.placed[cluster] = house.drivers[NOBODY]
        house.write(cluster.split("/")[0])
        await house.settled(cluster, UNAVAILABLE)
        await house.client.order("forbid", cluster, home.ending)
        await asyncio.sleep(dice.uniform(0, 0.2))
        await house.client.order("allow", cluster, home.ending)
        house.placed[cluster] = home
        house.write(cluster.split("/")[0])
        await house.settled(cluster, home.ending)


async def garble(house: House, cluster: str, dice: random.Random) -> None:
    """A file that makes no sense: nothing changes, and it is told."""
    team = cluster.split("/")[0]
    path = house.sconce.place / "teams" / f"{team}.yaml"
    good = path.read_text()
    wrong = ["", "team: [", "team: Ads!\n", good.replace("driver:", "drivr:"), good.replace("127.0.0.1:", ""), good[:-9]]
    path.write_text(dice.choice(wrong))
    await house.until("log", "a complaint is told", lambda: house.number("sconce_config_errors") > 0)
    await asyncio.sleep(dice.uniform(0, 0.2))
    house.write(team)
    await house.until("log", "the complaint is taken back", lambda: house.number("sconce_config_errors") == 0)


async def banish(house: House, cluster: str, dice: random.Random) -> None:
    """A team's file goes away and comes back."""
    team = cluster.split("/")[0]
    homes = [(name, house.placed[name].ending) for name in CLUSTERS if name.startswith(f"{team}/")]
    for name, _ in homes:
        await house.client.order("allow", name, NOT_FOUND)
    house.sconce.write_team(team, None)
    for name, ending in homes:
        await house.settled(name, NOT_FOUND)
        await house.client.order("forbid", name, ending)
    await asyncio.sleep(dice.uniform(0, 0.2))
    for name, ending in homes:
        await house.client.order("allow", name, ending)
    house.write(team)
    for name, ending in homes:
        await house.settled(name, ending)
        await house.client.order("forbid", name, NOT_FOUND)


async def invite(house: House, cluster: str, dice: random.Random) -> None:
    """A new team comes and goes."""
    driver = house.drivers[SPARE]
    await house.client.order("allow", GUEST, driver.ending)
    house.sconce.write_team("guest", driver.address)
    await house.settled(GUEST, driver.ending)
    await house.client.order("forbid", GUEST, NOT_FOUND)
    await asyncio.sleep(dice.uniform(0, 0.2))
    await house.client.order("allow", GUEST, NOT_FOUND)
    house.sconce.write_team("guest", None)
    await house.settled(GUEST, NOT_FOUND)
    await house.client.order("forbid", GUEST, driver.ending)


async def touch(house: House, cluster: str, dice: random.Random) -> None:
    """The main file is written again, once or in a burst, the same or with another limit."""
    for _ in range(dice.choice([1, 1, 5])):
        if dice.random() < 0.5:
            os.utime(house.sconce.config)
        else:
            house.sconce.config.write_text(f"{house.main_file}limits: {{ header_count: {dice.randint(100, 128)} }}\n")
        await asyncio.sleep(dice.uniform(0, 0.05))


DEEDS = [
    Deed(kill, 26, lambda cluster: {cluster}),
    Deed(retire, 14, lambda cluster: {cluster}),
    Deed(nap, 8, lambda cluster: {cluster}),
    Deed(hold, 4, lambda cluster: {cluster}),
    Deed(move, 12, lambda cluster: {cluster, FILES}),
    Deed(misplace, 5, lambda cluster: {cluster, FILES}),
    Deed(garble, 10, lambda _: {FILES}),
    Deed(banish, 6, lambda cluster: {FILES, *(name for name in CLUSTERS if name.split("/")[0] == cluster.split("/")[0])}),
    Deed(invite, 6, lambda _: {FILES}),
    Deed(touch, 9, lambda _: set()),
]


async def swap(house: House, _: str, __: random.Random) -> None:
    """Leads one team to another's driver."""
    house.placed["ads/prod"] = house.placed["ml/prod"]
    house.write("ads")


async def murder(house: House, cluster: str, _: random.Random) -> None:
    """Kills a driver without a word."""
    house.placed[cluster].kill()


async def freeze(house: House, _: str, __: random.Random) -> None:
    """sconce stands still for longer than any call may take."""
    house.sconce.signal(signal.SIGSTOP)
    await asyncio.sleep(20)
    house.sconce.signal(signal.SIGCONT)


async def evict(house: House, _: str, __: random.Random) -> None:
    """sconce says goodbye to its clients."""
    house.sconce.child.terminate()


async def squat(house: House, _: str, __: random.Random) -> None:
    """Connections to sconce that are not the client's stay open."""
    host, port = house.sconce.address.rsplit(":", 1)
    house.squatters = [socket.create_connection((host, int(port))) for _ in range(3)]
    for client in house.squatters:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        client.recv(1 << 16)
        client.sendall(bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]))


SABOTAGE = {deed.__name__: deed for deed in (swap, murder, freeze, evict, squat)}
"""What must make the soak fail, for who doubts that it can."""
