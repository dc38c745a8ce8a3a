"""A wire between a client and a server on which a test counts, listens and cuts."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Self


class Proxy:
    """Passes bytes between whoever connects to `port` and the server at `target`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.trips = 0
        """How often a client spoke after the server had: its round trips."""
        self.said = b""
        """All that clients said."""
        self.cut_answers = False
        """Close each connection as soon as the server answers on it: no client learns what became of its call."""
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._answered: set[socket.socket] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for one in (*self._peers, self._listener):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(self._turn()):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._listener:
                    self._accept()
                elif one in self._peers:
                    self._pass_on(one)

    def _turn(self) -> float:
        """Seconds to wait for something to be said."""
        return 0.05

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()  # the server is down, and so is the wire
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ)
        self._peers.update({client: server, server: client})
        self._clients.add(client)

    def _pass_on(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 20)
        except OSError:
            data = b""
        from_client = one in self._clients
        if not data or (self.cut_answers and not from_client):
            self._hang_up(one)
            return
        client = one if from_client else self._peers[one]
        if from_client:
            self.said += data
            # A long message comes in pieces: only the first after an answer counts.
            self.trips += client in self._answered
            self._answered.discard(client)
        else:
            self._answered.add(client)
        self._send(self._peers[one], data)

    def _send(self, one: socket.socket, data: bytes) -> None:
        try:
            one.sendall(data)
        except OSError:
            self._hang_up(one)  # it has ended meanwhile

    def _hang_up(self, one: socket.socket) -> None:
        other = self._peers.pop(one)
        self._peers.pop(other)
        for each in (one, other):
            self._selector.unregister(each)
            self._clients.discard(each)
            self._answered.discard(each)
            each.close()
