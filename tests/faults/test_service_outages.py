"""A Ray service whose Postgres is stopped, started and frozen: nobody is taken for dead, and all goes on afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg

from perdure import HeadOptions, PostgresOptions, Status
from perdure.stores.processes import ProcessId
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, owner_pid, service
from tests.recovery.checks import check_history
from tests.servers.postgres import PostgresServer

LEASE = timedelta(seconds=2)
THREADS = 6
CONNECTIONS = 3
"""Of the node: fewer than its threads."""
ENDLESS = 1_000_000
"""Steps: nobody ends before the last has begun, and before all has been done to them."""

LASTING = 50
"""Looks in a row, each 20 ms or more after the one before, in which a connection must be there to count."""

CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'perdure'"


class Census(threading.Thread):
    """Counts the connections that the server has of the service, those that stay: one that was given up is counted by
    the server until its process there gets to run."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.looks = 0
        self._url = url
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    last = deque[int](maxlen=LASTING)
                    while not self._ended.wait(0.02):
                        row = connection.execute(CONNECTED).fetchone()
                        assert row is not None
                        last.append(row[0])
                        self.looks += 1
                        if len(last) == LASTING:
                            self.most = max(self.most, min(last))
            except psycopg.OperationalError:
                time.sleep(0.05)

    def end(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def census(server: PostgresServer) -> Iterator[Census]:
    counting = Census(server.url)
    counting.start()
    try:
        yield counting
    finally:
        counting.end()


def test_threads_in_actors_outlast_their_postgres(member: HeadOptions, tmp_path: Path) -> None:
    options = PostgresOptions(connections_per_node=CONNECTIONS)
    folders = [tmp_path / str(number) for number in range(THREADS)]
    for folder in folders:
        folder.mkdir()
    with (
        PostgresServer() as server,
        service(member, server.database(), options=options, lease=LEASE, max_actors=THREADS) as client,
        census(server) as counted,
    ):
        threads = [
            client.submit(graph, {"do": "count", "folder": str(folder), "until": ENDLESS}, durability=durability)
            for folder, durability in zip(folders, ("sync", "async") * (THREADS // 2), strict=True)
        ]
        eventually(lambda: all("count 3" in lines(folder) for folder in folders), 60, "that all run")
        owners = {owner_pid(client, thread.thread_id) for thread in threads}
        assert len(owners) == THREADS

        server.restart(immediate=True)
        assert all(thread.status is Status.RUNNING for thread in threads)
        with server.frozen():
            time.sleep(1.5 * LEASE.total_seconds())
        server.stop(immediate=True)
        time.sleep(1.5 * LEASE.total_seconds())
        server.start()

        done = [thread.info.seq for thread in threads]
        eventually(
            lambda: all(thread.info.seq > seq for thread, seq in zip(threads, done, strict=True)), 60, "progress"
        )
        for folder in folders:
            (folder / "fixed").touch()
        for thread, folder in zip(threads, folders, strict=True):
            steps = thread.result(timeout=60)["n"]
            assert lines(folder, "count") == [f"count {number}" for number in range(1, steps + 1)]
            assert (thread.info.epoch, thread.info.crashes) == (1, 0)
            check_history(client.store, thread.thread_id)

        folder = tmp_path / "killed"
        folder.mkdir()
        killed = client.submit(graph, {"do": "count", "folder": str(folder), "until": ENDLESS}, durability="sync")
        eventually(lambda: "count 20" in lines(folder), 60)
        process = ProcessId.of(owner_pid(client, killed.thread_id))
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: killed.info.epoch == 2, 60, "the next owner")
        (folder / "fixed").touch()
        steps = killed.result(timeout=60)["n"]
        assert (killed.status, killed.info.epoch) == (Status.SUCCEEDED, 2)
        # At most the step that was not durable yet was run again.
        assert len(lines(folder, "count")) <= steps + 1
        check_history(client.store, killed.thread_id)
    assert counted.looks > 2 * LASTING
    assert CONNECTIONS - 1 <= counted.most <= CONNECTIONS
