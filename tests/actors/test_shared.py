"""Threads that share a process, with real processes: a crash is charged to whom it belongs, and no neighbour waits."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray

from perdure import Cancelled, Client, InputError, Paused, Status, ThreadExists, ThreadHandle
from perdure.actors.names import NAMESPACE, is_shared, supervisor_name
from tests.actors.conftest import Serve
from tests.actors.graphs_shared import steps, walk
from tests.actors.services import eventually, key_of, stop

PATIENCE = 120.0
FEW = {"max_actors": 4, "spares": 0, "shared_actors": 1}
"""Room for one shared actor and three others."""


def given(name: str, folder: str, until: int = 20, at_end: str = "", seconds: float = 0.01) -> dict[str, Any]:
    return {"name": name, "folder": folder, "n": 0, "until": until, "at_end": at_end, "seconds": seconds}


def share(client: Client, folder: str, *names: str, **more: Any) -> list[ThreadHandle]:
    inputs = [given(name, folder, **more) for name in names]
    return client.submit_many(walk, inputs, thread_ids=names, isolation="shared")


def begun(folder: str, *names: str) -> set[int]:
    """The processes of these threads, once each has begun a step."""
    eventually(lambda: {who for who, _, _ in steps(folder)} >= set(names), PATIENCE, "a step of each thread")
    return {pid for who, _, pid in steps(folder) if who in names}


def at_last_step(folder: str, name: str, until: int) -> int:
    """The process in which a thread began its last step."""
    eventually(lambda: any(n == until for _, n, _ in steps(folder, name)), PATIENCE, f"the last step of {name}")
    return next(pid for _, n, pid in steps(folder, name) if n == until)


def finished(threads: list[ThreadHandle], until: int = 20) -> None:
    """All have their right result, and nobody was charged for anything."""
    for thread in threads:
        assert thread.result(timeout=PATIENCE)["n"] == until
        assert (thread.info.crashes, thread.status) == (0, Status.SUCCEEDED)


@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.full)])
def test_one_poisonous_thread_among_many_is_the_only_one_that_is_paused(serve: Serve, folder: str, count: int) -> None:
    client = serve(**FEW, crash_budget=2)
    names = [f"n{number}" for number in range(count)]
    neighbours = share(client, folder, *names, until=40, seconds=0.02)
    (poison,) = share(client, folder, "poison", until=2, at_end="poison")
    assert len(begun(folder, *names, "poison")) == 1
    at_last_step(folder, "poison", 2)
    assert is_shared(poison.info.owner)
    Path(folder, "go").touch()
    with pytest.raises(Paused, match="died 2 times"):
        poison.result(timeout=PATIENCE)
    assert poison.info.crashes == 2
    finished(neighbours, 40)
    # Each was moved once, into a process of its own; what was durable was not run again.
    processes = {name: {pid for _, _, pid in steps(folder, name)} for name in names}
    assert all(len(found) <= 2 for found in processes.values())
    assert {thread.info.epoch for thread in neighbours} <= {1, 2}
    # Once beside the others, which is charged to nobody, and then alone as often as its budget allows.
    assert len({pid for _, _, pid in steps(folder, "poison")}) == 3
    assert client.submit(walk, given("late", folder), isolation="shared").result(timeout=PATIENCE)["n"] == 20


def test_nobody_waits_for_a_neighbour_that_blocks(serve: Serve, folder: str) -> None:
    client = serve(**FEW)
    stuck = share(client, folder, *(f"s{number}" for number in range(8)), until=1, at_end="stuck")
    (process,) = begun(folder, *(thread.thread_id for thread in stuck))
    others = share(client, folder, *(f"o{number}" for number in range(8)))
    finished(others)
    assert begun(folder, *(thread.thread_id for thread in others)) == {process}
    assert all(thread.status is Status.RUNNING for thread in stuck)


def test_cancel_stops_one_thread_and_no_neighbour(serve: Serve, folder: str) -> None:
    client = serve(**FEW, cancel_grace=timedelta(seconds=1))
    (spin,) = share(client, folder, "spin", until=1, at_end="spin")
    neighbours = share(client, folder, "a", "b", "c", until=100, seconds=0.02)
    (process,) = begun(folder, "spin", "a", "b", "c")
    # In Python code the exception is enough: the process goes on.
    spin.cancel()
    with pytest.raises(Cancelled):
        spin.result(timeout=PATIENCE)
    (stuck,) = share(client, folder, "stuck", until=1, at_end="stuck")
    (other,) = share(client, folder, "other", until=1, at_end="stuck")
    assert begun(folder, "stuck", "other") == {process}
    # In a call to C it is not: the process is lost, and those that come to the end of a step move before.
    stuck.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        stuck.result(timeout=PATIENCE)
    Path(folder, "go").touch()
    finished(neighbours, 100)
    # One that could not move is run again, and not charged.
    finished([other], 1)
    counts = Counter((who, n) for who, n, _ in steps(folder))
    assert {key for key, count in counts.items() if count > 1} == {("other", 1)}
    assert process not in {pid for who, n, pid in steps(folder) if who in "abc" and n == 100}


def test_a_stopped_process_loses_its_threads_and_none_is_charged(serve: Serve, folder: str) -> None:
    client = serve(**FEW, lease=timedelta(seconds=3))
    names = [f"n{number}" for number in range(10)]
    threads = share(client, folder, *names, until=40, seconds=0.05)
    (pid,) = begun(folder, *names)
    process = stop(pid)
    finished(threads, 40)
    eventually(lambda: not process.alive, what="the end of the stopped process")
    assert {thread.info.epoch for thread in threads} == {2}


@pytest.mark.full
def test_a_new_supervisor_knows_that_the_dead_process_was_shared(serve: Serve, folder: str) -> None:
    """Without one that saw it, a crash was charged to every thread whose owner was gone."""
    client = serve(**FEW)
    names = [f"n{number}" for number in range(10)]
    threads = share(client, folder, *names, until=100, seconds=0.05)
    (pid,) = begun(folder, *names)
    supervisor = ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE)
    asked: Any = supervisor.__ray_call__.remote(lambda _: os.getpid())
    os.kill(ray.get(asked), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    finished(threads, 100)


@pytest.mark.full
def test_a_supervisor_that_comes_later_takes_over_shared_actors(serve: Serve, folder: str) -> None:
    client = serve(**FEW)
    names = [f"n{number}" for number in range(10)]
    threads = share(client, folder, *names, until=60, seconds=0.05)
    (pid,) = begun(folder, *names)
    supervisor = ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE)
    asked: Any = supervisor.__ray_call__.remote(lambda _: os.getpid())
    os.kill(ray.get(asked), signal.SIGKILL)
    finished(threads, 60)
    assert {thread.info.epoch for thread in threads} == {1}
    assert {process for _, _, process in steps(folder)} == {pid}
    more = share(client, folder, "more")
    finished(more)
    assert begun(folder, "more") == {pid}


def test_a_batch_may_be_submitted_again(serve: Serve, folder: str) -> None:
    client = serve(**FEW)
    first = share(client, folder, "a", "b")
    inputs = [given(name, folder) for name in ("b", "c")]
    with pytest.raises(ThreadExists, match="'b'"):
        client.submit_many(walk, inputs, thread_ids=["b", "c"], isolation="shared")
    again = client.submit_many(walk, [*inputs, given("d", folder)], thread_ids=["b", "c", "d"], if_exists="attach")
    assert [(thread.thread_id, thread.run) for thread in again] == [("b", 1), ("c", 1), ("d", 1)]
    finished([*first, *again])
    assert Counter(who for who, n, _ in steps(folder) if n == 1) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert [client.thread(name).info.isolation for name in "abcd"] == ["shared", "shared", "shared", "thread"]
    with pytest.raises(InputError, match="2 inputs and 1 thread ids"):
        client.submit_many(walk, inputs, thread_ids=["e"])
    assert client.submit_many(walk, []) == []
