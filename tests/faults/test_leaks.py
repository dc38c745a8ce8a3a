"""Nothing is left of threads that have ended: no process, file, connection or object of Ray, and no memory."""

from __future__ import annotations

import time
from collections import deque

import pytest

from perdure import Client, Status, ThreadHandle
from tests.actors.conftest import Serve
from tests.actors.services import eventually
from tests.faults.censuses import Census
from tests.faults.graphs_leaks import graph

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


def at_rest(client: Client) -> Census:
    """Once every actor is idle, and what Ray removes in the background has had its time."""
    eventually(lambda: {one["phase"] for one in client.actors()} == {"idle"}, 60, "rest")
    best, until = Census.of(client), time.monotonic() + 60
    while best.objects and time.monotonic() < until:
        time.sleep(0.2)
        best = Census.of(client)
    return best


@pytest.mark.parametrize(
    ("count", "megabytes"),
    [(160, 25), pytest.param(10_000, 80, marks=[pytest.mark.full, pytest.mark.timeout(5400)])],
)
def test_ended_threads_leave_nothing(serve: Serve, count: int, megabytes: int) -> None:
    client = serve(max_actors=3)
    run(client, count // 3)  # until all is warm: caches, connections, pools of threads
    before = at_rest(client)
    run(client, count - count // 3)
    after = at_rest(client)

    assert after.processes.keys() == before.processes.keys()
    assert after.objects == before.objects == 0
    for name, more in after.grown(before).items():
        assert more["refs"] <= 2, (name, more)
        assert more["owned"] <= 2, (name, more)
        assert more["files"] <= 3, (name, more)
        assert more["sockets"] <= 3, (name, more)
        assert more["threads"] <= 4, (name, more)
        assert more["memory"] <= megabytes * MEGABYTE, (name, more)
    print({name: dict(more) for name, more in after.grown(before).items()})
