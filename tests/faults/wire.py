"""A wire that is cut once: before what a client says reaches the server, after it, or when the server has done it."""

from __future__ import annotations

import socket

from tests.stores.proxy import Proxy

HOWS = ("before", "during", "after")


class CuttingProxy(Proxy):
    """Passes bytes on; cuts the connection of the client that speaks for the n-th time. A client speaks once until it
    is answered, in how many pieces ever."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.spoken = 0
        self.cuts = 0
        self._number = 0
        self._how = ""
        self._speaking: set[socket.socket] = set()
        self._doomed: set[socket.socket] = set()

    def arm(self, number: int, how: str) -> None:
        """Count from 1 again and cut at this number; 0 for never."""
        self.spoken = self.cuts = 0
        self._number, self._how = number, how

    def _pass_on(self, one: socket.socket) -> None:
        if one not in self._clients:
            client = self._peers[one]
            if client in self._doomed:
                self._cut(client)
                return
            self._speaking.discard(client)
        elif one not in self._speaking and _says(one):
            self._speaking.add(one)
            self.spoken += 1
            if self.spoken == self._number:
                if self._how == "after":
                    self._doomed.add(one)
                else:
                    if self._how == "during":
                        super()._pass_on(one)
                    self._cut(one)
                    return
        super()._pass_on(one)

    def _cut(self, client: socket.socket) -> None:
        self.cuts += 1
        self._hang_up(client)

    def _hang_up(self, one: socket.socket) -> None:
        client = one if one in self._clients else self._peers[one]
        self._speaking.discard(client)
        self._doomed.discard(client)
        super()._hang_up(one)


def _says(client: socket.socket) -> bool:
    """Whether there is something to read, and not only the connection's end."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
