"""How TCP paces what is measured.

BBR paces by timers, and on the loopback device, where a round trip takes microseconds, those timers
cost as much as other work does; CUBIC has none. Each set of peers is measured under one of them,
where the machine lets the rig choose.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

KEY = Path("/proc/sys/net/ipv4/tcp_congestion_control")


@contextlib.contextmanager
def control(wanted: str) -> Iterator[str]:
    """Sets it for as long as the runs take, and tells which one they have."""
    before = KEY.read_text().strip()
    if before == wanted:
        yield before
        return
    try:
        KEY.write_text(wanted)
    except OSError:
        print(
            f"bench: TCP congestion control is {before} and cannot be changed here (as root:"
            f" sysctl net.ipv4.tcp_congestion_control={wanted}): bulk figures will differ",
            file=sys.stderr,
        )
        yield before
        return
    try:
        yield wanted
    finally:
        KEY.write_text(before)
