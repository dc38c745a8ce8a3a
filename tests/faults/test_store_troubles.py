"""A service whose Postgres is restarted while a thread recovers, is slow, or has no connection to spare."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from perdure import Client, HeadOptions
from perdure.stores.processes import ProcessId
from tests.actors.services import eventually, owner_pid, service
from tests.faults.counting import Counting, start_counting
from tests.faults.slow_wire import SlowProxy
from tests.servers.postgres import PostgresServer

SLOW = 2.0
"""Seconds an operation."""

CONNECTIONS = 24


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"max_connections": str(CONNECTIONS)}) as running:
        yield running


@pytest.fixture(scope="module")
def wire(server: PostgresServer) -> Iterator[SlowProxy]:
    with SlowProxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def client(member: HeadOptions, server: PostgresServer, wire: SlowProxy) -> Iterator[Client]:
    parts = urlsplit(server.database())
    url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{wire.port}").geturl()
    with service(member, url) as found:
        yield found


def pair(client: Client, folder: Path) -> list[Counting]:
    """Two threads that run, one of each durability."""
    threads = [start_counting(client, folder, durability) for durability in ("sync", "async")]
    for running in threads:
        running.go_on(3)
    return threads


@pytest.mark.parametrize(
    "delays", [(0.0, 0.02), pytest.param((0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0), marks=pytest.mark.full)]
)
def test_restarted_while_a_thread_recovers(
    client: Client, server: PostgresServer, tmp_path: Path, delays: tuple[float, ...]
) -> None:
    """It stops so many seconds after the owner's death: before the spare is asked, while it claims or restores."""
    struck, other = pair(client, tmp_path)
    for delay in delays:
        epoch = struck.thread.info.epoch
        ProcessId.of(owner_pid(client, struck.thread.thread_id)).send(signal.SIGKILL)
        time.sleep(delay)
        server.stop(immediate=True)
        server.start()
        eventually(lambda: struck.thread.info.epoch > epoch, 60, f"a new owner, delay {delay}")  # noqa: B023 — called at once
        struck.go_on(5)
    assert struck.thread.info.epoch <= 1 + 2 * len(delays)
    for running in (struck, other):
        running.go_on(5)
        running.finish(client)
    assert other.thread.info.epoch == 1


def test_slowed_to_two_seconds_an_operation(client: Client, wire: SlowProxy, tmp_path: Path) -> None:
    """Nobody is taken for dead for it, and threads go on: with async durability many steps to an operation."""
    threads = pair(client, tmp_path)
    wire.delay = SLOW
    try:
        sync, ahead = threads
        before = ahead.thread.info.seq
        sync.go_on(2, seconds=90)
        ahead.go_on(1)
        assert ahead.thread.info.seq - before > 2
    finally:
        wire.delay = 0.0
    for running in threads:
        running.go_on(3)
        running.finish(client)
        assert (running.thread.info.epoch, running.thread.info.crashes) == (1, 0)


def test_no_connection_to_be_had(client: Client, server: PostgresServer, tmp_path: Path) -> None:
    """Somebody else takes all of them, and those that the service had are cut: it waits for its turn."""
    threads = pair(client, tmp_path)
    with ExitStack() as hogs, psycopg.connect(server.url, autocommit=True) as watch:
        taken = 0
        while taken < CONNECTIONS - 1:
            watch.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perdure'")
            try:
                hogs.enter_context(psycopg.connect(server.url))
                taken += 1
            except psycopg.OperationalError:
                continue  # the service was faster
        # None is left, so nobody can say how far they are; but their nodes run ahead or wait, and do not end.
        row = watch.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perdure'").fetchone()
        assert row == (0,)
        time.sleep(1.0)
    for running in threads:
        running.go_on(5)
        running.finish(client)
        assert (running.thread.info.epoch, running.thread.info.crashes) == (1, 0)
