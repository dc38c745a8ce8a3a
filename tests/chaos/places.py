"""The stores that chaos can be made on, each with a way to take it away for a while."""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from redis import Redis

from tests.actors.services import users_of
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.stores import postgres_raw


class Place(ABC):
    """Where a service's store is."""

    url: str

    @abstractmethod
    def vanish(self, seconds: float) -> None:
        """Take the store away at once, and give it back after so long."""

    @abstractmethod
    def connections(self) -> int:
        """How many others have to it."""


class PostgresPlace(Place):
    """Stopped with `-m immediate`, as by a crash of its machine, and started again."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url = server.database()

    def vanish(self, seconds: float) -> None:
        self._server.stop(immediate=True)
        time.sleep(seconds)
        self._server.start()

    def connections(self) -> int:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perdure'"
        ((found,),) = postgres_raw.ask(self.url, asked)
        return int(str(found))


class RedisPlace(Place):
    """Killed and started again."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.url = server.url

    def vanish(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def connections(self) -> int:
        with Redis.from_url(self.url) as client:
            return len(client.client_list()) - 1


class SqlitePlace(Place):
    """Cannot go away, but another program can hold its lock, in transactions one behind the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite:///{path}"

    def vanish(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as other:
            while True:
                other.execute("BEGIN IMMEDIATE")
                try:
                    time.sleep(min(0.2, max(0.0, end - time.monotonic())))
                finally:
                    other.execute("ROLLBACK")
                if time.monotonic() >= end:
                    return

    def connections(self) -> int:
        return len(users_of(self._path))


@contextmanager
def postgres(folder: Path) -> Iterator[Place]:
    with PostgresServer() as server:
        yield PostgresPlace(server)


@contextmanager
def redis(folder: Path) -> Iterator[Place]:
    with RedisServer() as server:
        yield RedisPlace(server)


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    yield SqlitePlace(folder / "chaos.db")


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "postgres": postgres,
    "redis": redis,
    "sqlite": sqlite,
}
