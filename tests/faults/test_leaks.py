"""Nothing is left of threads that have ended: no process, file, connection or object of Ray, and no memory."""

from __future__ import annotations

import signal
import time
from collections import deque
from pathlib import Path

import pytest

from perdure import Client, Status, ThreadHandle
from perdure.stores.processes import ProcessId
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import lines
from tests.actors.services import eventually, owner_pid
from tests.faults.censuses import Census, objects
from tests.faults.graphs_leaks import graph, held

TOGETHER = 20
"""Threads at once."""

MEGABYTE = 1 << 20


def run(client: Client, count: int) -> None:
    """So many threads from their beginning to their end, some at a time. One in five asks something."""
    running: deque[ThreadHandle] = deque()
    for number in range(count + TOGETHER):
        if number >= TOGETHER:
            thread = running.popleft()
            eventually(lambda: answered(thread), 120, f"the end of {thread.thread_id}")  # noqa: B023 — called at once
        if number < count:
            running.append(client.submit(graph, {"number": number}))


def answered(thread: ThreadHandle) -> bool:
    """Whether it has ended; what it asks is answered."""
    row = thread.info
    if row.status is Status.INTERRUPTED:
        thread.resume("yes")
    assert not row.status.ended or row.status is Status.SUCCEEDED, row
    return row.status.ended


def at_rest(client: Client, others: int) -> Census:
    """Once every actor is idle, and what Ray removes in the background has had its time: all objects but so many of
    others."""
    eventually(lambda: {one["phase"] for one in client.actors()} == {"idle"}, 60, "rest")
    best, until = Census.of(client), time.monotonic() + 60
    while best.objects > others and time.monotonic() < until:
        time.sleep(0.2)
        best = Census.of(client)
    return best


@pytest.mark.parametrize(
    ("count", "megabytes"),
    [(160, 25), pytest.param(10_000, 80, marks=[pytest.mark.full, pytest.mark.timeout(5400)])],
)
def test_ended_threads_leave_nothing(serve: Serve, count: int, megabytes: int) -> None:
    # The cluster is shared with other tests.
    others = objects()
    client = serve(max_actors=3)
    run(client, count // 3)  # until all is warm: caches, connections, pools of threads
    before = at_rest(client, others)
    run(client, count - count // 3)
    after = at_rest(client, others)

    assert after.processes.keys() == before.processes.keys()
    assert max(before.objects, after.objects) <= others
    for name, more in after.grown(before).items():
        assert more["refs"] <= 2, (name, more)
        assert more["owned"] <= 2, (name, more)
        assert more["files"] <= 3, (name, more)
        assert more["sockets"] <= 3, (name, more)
        assert more["threads"] <= 4, (name, more)
        assert more["memory"] <= megabytes * MEGABYTE, (name, more)
    print({name: dict(more) for name, more in after.grown(before).items()})


def test_an_owner_that_dies_under_its_ray_tasks_leaves_no_object(serve: Serve, folder: str) -> None:
    """What its tasks had been given as an argument Ray kept for ever: one object a crash, of the size of the state."""
    others = objects()
    client = serve()
    thread = client.submit(held, {"folder": folder})
    eventually(lambda: lines(folder, "part"), 60, "the tasks")
    ProcessId.of(owner_pid(client, thread.thread_id)).send(signal.SIGKILL)
    eventually(lambda: thread.info.epoch == 2, 60, "a new owner")
    (Path(folder) / "fixed").touch()
    assert thread.result(timeout=60)["texts"] == ["part 0", "part 1"]
    eventually(lambda: objects() <= others, 60, "the end of the tasks' objects")
