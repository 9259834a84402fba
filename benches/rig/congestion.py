"""How TCP paces what is measured.

BBR paces by timers. On the loopback device, where a round trip takes microseconds, those timers cost
more than what is measured, and their cost depends on the rhythm of each target more than on its work.
So the runs use a congestion control without timers, where the machine lets them.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

KEY = Path("/proc/sys/net/ipv4/tcp_congestion_control")
PLAIN = "cubic"


@contextlib.contextmanager
def plain() -> Iterator[str]:
    """Sets the plain one for as long as the runs take, and tells which one they have."""
    before = KEY.read_text().strip()
    if before == PLAIN:
        yield before
        return
    try:
        KEY.write_text(PLAIN)
    except OSError:
        print(
            f"bench: TCP congestion control is {before} and cannot be changed here (as root:"
            f" sysctl net.ipv4.tcp_congestion_control={PLAIN}): bulk figures will be noisy",
            file=sys.stderr,
        )
        yield before
        return
    try:
        yield PLAIN
    finally:
        KEY.write_text(before)
