"""A TCP relay that breaks on command: the bad network between two processes on one machine.

Its own buffers are kept small, so that little is lost in flight beyond what the real peers hold.
"""

import contextlib
import socket
import struct
import threading

CHUNK = 64 * 1024
BUFFER = 256 * 1024


class Cutter:
    """Relays connections to `upstream`; can cut all of them, or each after so many octets towards the client."""

    def __init__(self, upstream: str):
        self.upstream = upstream
        self.cut_after: int | None = None
        self.downloaded = 0
        self.accepted = 0
        self.cuts = 0
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.accepted += 1
                threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        host, port = self.upstream.rsplit(":", 1)
        try:
            server = socket.socket()
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            server.connect((host, int(port)))
        except OSError:
            reset(client)
            return
        with self.lock:
            self.pairs.append((client, server))
        threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
        self.pump(server, client, True)

    def pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(CHUNK):
                sink.sendall(octets)
                if down and self.full(len(octets)):
                    self.cut()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def full(self, octets: int) -> bool:
        self.downloaded += octets
        if self.cut_after is None or self.downloaded < self.cut_after:
            return False
        self.cut_after = None
        return True

    def cut(self) -> None:
        """Ends every connection with RST towards both sides."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        self.cuts += 1
        for pair in pairs:
            for end in pair:
                reset(end)

    def close(self) -> None:
        # A blocked accept() keeps a closed listener alive; shutdown wakes it.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


def reset(end: socket.socket) -> None:
    """RST now, not FIN in good order; shutdown wakes the thread that reads it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RD)
    end.close()
