"""Many threads at once, while one of their actors is killed every 200 ms."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import pytest

from perdure import Client, Status, ThreadHandle
from perdure.stores.processes import ProcessId
from tests.actors.conftest import Serve
from tests.recovery.checks import check_attempts, check_history
from tests.recovery.faults import Notes
from tests.recovery.graphs_small import ticks

EVERY = 0.2
"""Seconds from one kill to the next."""
STEPS = 6


class Killer(threading.Thread):
    """Kills an owner that holds a thread, again and again."""

    def __init__(self, client: Client, most: int) -> None:
        super().__init__(daemon=True)
        self.kills = 0
        self._most = most
        self._client = client
        self._draw = random.Random(most)
        self._ended = threading.Event()

    def run(self) -> None:
        while self.kills < self._most and not self._ended.wait(EVERY):
            busy = {record.owner for record in self._client.threads(status=Status.RUNNING)}
            leases = [lease for lease in self._client.store.owners() if lease.owner in busy]
            alive = [process for lease in leases if (process := ProcessId(lease.pid, lease.started)).alive]
            if alive:
                self._draw.choice(alive).send(signal.SIGKILL)
                self.kills += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.parametrize(
    ("count", "kills"), [(40, 20), pytest.param(200, 1000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])]
)
def test_all_end_as_without_kills(serve: Serve, tmp_path: Path, count: int, kills: int) -> None:
    """At most so many kills: on a slow machine actors die faster than others can be started."""
    # A thread that has just been given to another actor may be struck again before it has done anything.
    client = serve(max_actors=6, spares=2, crash_budget=50)
    killer = Killer(client, kills)
    killer.start()
    try:
        threads = [start(client, tmp_path, f"t{number}", ("async", "sync")[number % 2]) for number in range(count)]
        for thread in threads:
            assert thread.result(timeout=900)["n"] == STEPS
    finally:
        killer.end()
    assert killer.kills >= count // 4
    taken_over = 0
    for thread in threads:
        segments = check_history(client.store, thread.thread_id)
        check_attempts(thread.thread_id, segments, Notes.beside(tmp_path / "own.db", thread.thread_id).entries())
        taken_over += thread.info.epoch - 1
    assert taken_over > killer.kills // 4
    assert {record.status for record in client.threads(limit=count)} == {Status.SUCCEEDED}


def start(client: Client, folder: Path, thread_id: str, durability: str) -> ThreadHandle:
    notes = Notes.beside(folder / "own.db", thread_id)
    notes.write_plan([])
    given = {"steps": STEPS, "seconds": 0.03}
    return client.submit(ticks, given, thread_id=thread_id, durability=durability, configurable={"log": str(notes.log)})
