"""A wire on which everything that a client says takes its time, so that each operation does."""

from __future__ import annotations

import socket
import time
from collections import deque

from tests.stores.proxy import Proxy


class SlowProxy(Proxy):
    """Passes on what a client says `delay` seconds later; answers come back at once."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.delay = 0.0
        self._held: deque[tuple[float, socket.socket, bytes]] = deque()

    def _turn(self) -> float:
        while self._held and self._held[0][0] <= time.monotonic():
            _, client, data = self._held.popleft()
            if client in self._peers:
                self._send(self._peers[client], data)
        return 0.01 if self._held else 0.05

    def _pass_on(self, one: socket.socket) -> None:
        if one not in self._clients or not (self.delay or self._held):
            super()._pass_on(one)
            return
        try:
            data = one.recv(1 << 20)
        except OSError:
            data = b""
        if data:
            # What is held keeps its order, also when the delay becomes shorter.
            last = self._held[-1][0] if self._held else 0.0
            self._held.append((max(last, time.monotonic() + self.delay), one, data))
        else:
            self._hang_up(one)
