"""The databases that are measured: each fresh for what is measured, and what it then takes on its disk."""

from __future__ import annotations

import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from tests.servers.postgres import PostgresDatabases, PostgresServer
from tests.servers.redis import RedisDatabase, RedisServer

REWRITE_SECONDS = 60.0

_TABLES = sql.SQL(
    "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')"
)
_TOTAL = sql.SQL(
    "SELECT coalesce(sum(pg_total_relation_size(format('%I.%I', nspname, relname)::regclass)), 0)::bigint::text "
    "FROM ({}) tables"
).format(_TABLES)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on the disk."""

    left: int
    """As the program left them: free pages, dead rows and indexes included; of SQLite without its log."""
    packed: int
    """After the database was asked to give back what it does not need."""
    log: int
    """What the database wrote to its log meanwhile: SQLite's as it lies there, Postgres' in all, Redis' before it is
    rewritten."""


class Backend(ABC):
    """One kind of database."""

    name: str
    title: str
    savers: Sequence[str] = ()
    """LangGraph's own, the faster first, as `steps` measures them; none where LangGraph has none that runs here."""

    @abstractmethod
    def fresh(self) -> str:
        """The URL of an empty database."""

    @abstractmethod
    def sizes(self, url: str) -> Sizes:
        """What it takes. Changes it: not to be asked twice."""

    @abstractmethod
    def drop(self, url: str) -> None:
        """Remove it."""


class Sqlite(Backend):
    """Files in a folder."""

    name, title, savers = "sqlite", "SQLite", ("sqlite",)

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / f"measured-{number}.db" for number in count(1))

    def fresh(self) -> str:
        return f"sqlite:///{next(self._paths)}"

    def sizes(self, url: str) -> Sizes:
        path = Path(url.removeprefix("sqlite:///"))
        wal = path.with_name(path.name + "-wal")
        log = wal.stat().st_size if wal.exists() else 0
        with closing(sqlite3.connect(path)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise RuntimeError(f"{path}: the log could not be emptied, somebody reads")
            left = path.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Sizes(left, path.stat().st_size, log)

    def drop(self, url: str) -> None:
        path = Path(url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


class Postgres(Backend):
    """Databases of one server: Postgres 18 from a wheel, or the one that PERDURE_TEST_POSTGRES names."""

    name, title, savers = "postgres", "Postgres", ("postgres", "postgres-pipeline")

    def __init__(self, server: PostgresDatabases) -> None:
        self._server = server
        self._starts: dict[str, str] = {}

    def fresh(self) -> str:
        url = self._server.database()
        with psycopg.connect(url) as connection:
            # Each starts after a checkpoint: what others wrote is not to be flushed on its time.
            connection.execute("CHECKPOINT")
            self._starts[url] = _one(connection, sql.SQL("SELECT pg_current_wal_lsn()::text"))
        return url

    def sizes(self, url: str) -> Sizes:
        with psycopg.connect(url, autocommit=True) as connection:
            log = sql.SQL("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), {})::text").format(self._starts[url])
            written, left = int(_one(connection, log)), int(_one(connection, _TOTAL))
            for schema, table in connection.execute(_TABLES).fetchall():
                connection.execute(sql.SQL("VACUUM FULL {}").format(sql.Identifier(schema, table)))
            return Sizes(left, int(_one(connection, _TOTAL)), written)

    def drop(self, url: str) -> None:
        self._server.drop(url)


class Redis(Backend):
    """One Redis 6.2 from a wheel, each store with a prefix of its own. It has no RedisJSON, which LangGraph's saver for
    Redis needs."""

    name, title = "redis", "Redis"

    def __init__(self, server: RedisDatabase) -> None:
        self._server = server
        self._prefixes = (f"b{number}" for number in count(1))
        self._starts: dict[str, int] = {}

    def fresh(self) -> str:
        url = f"{self._server.url}?prefix={next(self._prefixes)}"
        with redis.Redis.from_url(self._server.url) as client:
            self._starts[url] = self._rewritten(client)
        return url

    def sizes(self, url: str) -> Sizes:
        """Of the append-only file, which is a log: Redis rewrites it by itself when it has doubled, and what it then
        has is the data."""
        with redis.Redis.from_url(self._server.url) as client:
            log = client.info("persistence")["aof_current_size"] - self._starts[url]
            data = self._rewritten(client) - self._starts[url]
            return Sizes(data, data, log)

    def drop(self, url: str) -> None:
        with redis.Redis.from_url(self._server.url) as client:
            for key in client.scan_iter(f"{url.partition('=')[2]}:*", count=1000):
                client.unlink(key)

    def _rewritten(self, client: redis.Redis) -> int:
        """The file's size once it holds nothing but what there is."""
        client.bgrewriteaof()
        deadline = time.monotonic() + REWRITE_SECONDS
        while (facts := client.info("persistence"))["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"]:
            if time.monotonic() > deadline:
                raise TimeoutError("Redis does not finish rewriting its append-only file")
            time.sleep(0.01)
        return int(facts["aof_current_size"])


@contextmanager
def backends(names: Sequence[str], folder: Path) -> Iterator[list[Backend]]:
    """Those of these names, with their servers, for the block."""
    with ExitStack() as stack:
        found: list[Backend] = []
        for name in names:
            if name == "sqlite":
                found.append(Sqlite(folder))
            elif name == "postgres":
                found.append(Postgres(stack.enter_context(_postgres())))
            else:
                found.append(Redis(stack.enter_context(RedisServer())))
        yield found


@contextmanager
def _postgres() -> Iterator[PostgresDatabases]:
    other = os.environ.get("PERDURE_TEST_POSTGRES")
    if other:
        yield PostgresDatabases(other)
        return
    with PostgresServer(settings={"shared_buffers": "256MB"}) as server:
        yield server


def _one(connection: psycopg.Connection, question: sql.SQL | sql.Composed) -> str:
    row = connection.execute(question).fetchone()
    if row is None:
        raise RuntimeError("Postgres answered nothing")
    return str(row[0])
