"""A process's pool of connections to one Redis server, whose connections take places of the node's (`node_slots`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any

from redis import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection

from .node_slots import NodeSlots, Slot

_IDLE = 5.0
"""Seconds after which a connection that nobody uses is closed."""
_LOOK = 0.25
"""Seconds between two looks for such."""


class _Placed:
    """A connection that is open only while it holds a place. To be put before one of the driver's classes."""

    def __init__(self, *, slots: NodeSlots, patience: float, **kwargs: Any) -> None:
        self._slots = slots
        self._patience = patience
        self.slot: Slot | None = None
        self.used = time.monotonic()
        super().__init__(**kwargs)

    def _connect(self) -> Any:
        if self.slot is None:
            self.slot = self._slots.take(self._patience)
        try:
            return super()._connect()  # type: ignore[misc] # of the driver's class that comes after this one
        except BaseException:
            self._leave()
            raise

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().disconnect(*args, **kwargs)  # type: ignore[misc] # as above
        finally:
            self._leave()

    def outstayed(self) -> bool:
        """Whether it should be closed: nobody has used it for long, or others on this node wait for its place."""
        if self.slot is None:
            return False
        return time.monotonic() - self.used > _IDLE or self._slots.wanted(self.slot)

    def _leave(self) -> None:
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()


class _PlacedConnection(_Placed, Connection):
    pass


class _PlacedSSLConnection(_Placed, SSLConnection):
    pass


class _PlacedUnixConnection(_Placed, UnixDomainSocketConnection):
    pass


_PLACED: dict[type, type] = {
    Connection: _PlacedConnection,
    SSLConnection: _PlacedSSLConnection,
    UnixDomainSocketConnection: _PlacedUnixConnection,
}


class PlacedPool(BlockingConnectionPool):
    """The driver's pool of at most `max_connections`, waited for `timeout` seconds; its connections take places."""

    def __init__(self, *, places: int, connection_class: type = Connection, timeout: float, **kwargs: Any) -> None:
        server = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        super().__init__(  # type: ignore[no-untyped-call] # the driver's
            connection_class=_PLACED[connection_class],
            timeout=timeout,
            slots=NodeSlots(f"redis {server}", places),
            patience=timeout,
            **kwargs,
        )

    def release(self, connection: Any) -> None:
        connection.used = time.monotonic()
        if connection.outstayed():
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call] # the driver's

    def close_idle(self) -> None:
        """Close the connections in the pool that outstayed."""
        self._close_free(lambda connection: bool(connection.outstayed()))

    def disconnect_free_connections(self, moving_address_src: str | None = None) -> None:
        """Close the connections in the pool, as the driver does after a node of a Cluster has failed: its own way of
        doing so also closes one that somebody takes out meanwhile."""
        # The address is of use only where servers announce that they move, which these connections do not ask for.
        self._close_free(lambda connection: True)

    def _close_free(self, chosen: Callable[[Any], bool]) -> None:
        taken = []
        while True:
            try:
                taken.append(self.pool.get_nowait())
            except Empty:
                break
        # The pool hands out first what came last: in again in the same order, or the idle ones would be used in turn.
        for connection in reversed(taken):
            try:
                if connection is not None and chosen(connection):
                    connection.disconnect()
            finally:
                self.pool.put_nowait(connection)


class IdleCloser:
    """Closes idle connections in the background: who does not use them would not notice that others wait."""

    def __init__(self, pools: Callable[[], Iterable[PlacedPool]]) -> None:
        self._pools = pools
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure-redis-idle", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it end soon."""
        self._stopped.set()

    def stop(self) -> None:
        """Return when it has ended."""
        self.end()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK):
            for pool in self._pools():
                pool.close_idle()
