"""Servers whose disk a test can fill and empty again; where this user may not mount one, what looks the same from
outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.actors.disks import SmallDisk, small_disk
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON perdure.segments EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE INSERT ON perdure.messages EXECUTE FUNCTION refuse();
"""
ACCEPT = "DROP FUNCTION refuse CASCADE"


@dataclass(frozen=True, slots=True)
class PostgresDisk:
    """The disk that a database's tables lie on."""

    url: str
    disk: SmallDisk

    def fill(self) -> None:
        self._change(REFUSE)

    def free(self) -> None:
        self._change(ACCEPT)

    def _change(self, otherwise: str) -> None:
        if not self.disk.mounted:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(otherwise.encode())
        elif otherwise == REFUSE:
            self.disk.fill(())
        else:
            self.disk.free()


@contextmanager
def tables_on_a_small_disk(server: PostgresServer) -> Iterator[PostgresDisk]:
    """An empty database of the server, whose tables will lie on a disk of their own."""
    url = server.database()
    with _disk_of(server, "tables") as disk:
        if disk.mounted:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'".encode())
                name = connection.info.dbname
                connection.execute(f'ALTER DATABASE "{name}" SET default_tablespace = small'.encode())
        try:
            yield PostgresDisk(url, disk)
        finally:
            server.stop()


@dataclass(frozen=True, slots=True)
class LogDisk:
    """The disk that a server's write-ahead log lies on."""

    server: PostgresServer
    disk: SmallDisk

    def fill(self) -> None:
        """Until the server has given up."""
        if not self.disk.mounted:
            self.server.kill()
            return
        self.disk.fill(())
        try:
            with psycopg.connect(self.server.url, autocommit=True) as connection:
                while True:
                    connection.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
        except psycopg.OperationalError:
            self.server.stop()  # what is left of it, which only tries to write again

    def free(self) -> None:
        """And start the server, as whoever has made room would."""
        self.disk.free()
        self.server.start()


@contextmanager
def log_on_a_small_disk() -> Iterator[LogDisk]:
    """A server whose log lies on a disk of its own."""
    with PostgresServer(settings={"max_wal_size": "32MB", "min_wal_size": "32MB"}) as server:
        server.stop(immediate=False)
        with _disk_of(server, "log", size=40_000_000) as disk:
            if disk.mounted:
                wal = server.data / "pg_wal"
                inside = disk.path / "pg_wal"
                shutil.copytree(wal, inside)
                for path in (inside, *inside.rglob("*")):
                    os.chown(path, server.folder.stat().st_uid, -1)
                shutil.rmtree(wal)
                wal.symlink_to(inside)
            server.start()
            try:
                yield LogDisk(server, disk)
            finally:
                server.stop()


@contextmanager
def _disk_of(server: PostgresServer, name: str, **options: int) -> Iterator[SmallDisk]:
    """Below the server's folder, where its user gets at it."""
    place = server.folder / name
    place.mkdir()
    with small_disk(place, **options) as disk:
        if disk.mounted:
            os.chown(place, server.folder.stat().st_uid, -1)
        yield disk


@dataclass(frozen=True, slots=True)
class RedisDisk:
    """The disk that a Redis has its file on."""

    server: RedisServer
    disk: SmallDisk
    exits: bool
    """Whether the server ends when it cannot write: one that syncs always cannot take back what it has done."""

    def fill(self) -> None:
        if self.disk.mounted:
            self.disk.fill(())
        elif self.exits:
            self.server.kill()
        else:
            self._limit(1)

    def free(self) -> None:
        """And start the server if it has ended, as whoever has made room would."""
        self.disk.free()
        self.server.start()
        self._limit(0)

    def _limit(self, size: int) -> None:
        with redis.Redis(port=self.server.port) as client:
            client.config_set("maxmemory", size)


@contextmanager
def redis_on_a_small_disk(place: Path, *, sync: str) -> Iterator[RedisDisk]:
    """`place` is an empty folder; `sync` is Redis' appendfsync."""
    with small_disk(place) as disk, RedisServer(place, settings={"appendfsync": sync}) as server:
        yield RedisDisk(server, disk, sync == "always")
