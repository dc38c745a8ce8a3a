"""The supervisor's process is killed: nothing that runs notices, nothing is lost, the pool is found again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from perdure import Client, Status, ThreadHandle
from perdure.stores.processes import ProcessId, wait_gone
from tests.actors.conftest import Serve
from tests.actors.services import eventually, owner_pid, pool
from tests.actors.services import supervisor_process as supervisor
from tests.recovery.checks import check_attempts, check_history
from tests.recovery.faults import Notes
from tests.recovery.graphs_small import rounds, ticks

STEPS = 150


def start_ticks(client: Client, folder: Path, thread_id: str, steps: int = STEPS) -> ThreadHandle:
    notes = Notes.beside(folder / "own.db", thread_id)
    notes.write_plan([])
    state = {"steps": steps, "seconds": 0.02}
    return client.submit(ticks, state, thread_id=thread_id, configurable={"log": str(notes.log)})


def check(client: Client, folder: Path, thread_id: str, attempts: int | None) -> None:
    """The history is whole, no durable task ran again and (where given) so many attempts were made in all."""
    log = Notes.beside(folder / "own.db", thread_id).entries()
    started = check_attempts(thread_id, check_history(client.store, thread_id), log)
    assert attempts is None or sum(started.values()) == attempts
    messages = client.store.messages(thread_id, unread=False)
    assert all(message.applied > 0 for message in messages)


def kill(process: ProcessId) -> None:
    process.send(signal.SIGKILL)
    assert not wait_gone([process], 10)


def settled_pool(client: Client, count: int) -> dict[str, int]:
    """The pool, once as many actors have started as are wanted."""
    eventually(lambda: len(client.actors()) == count and all(one["phase"] != "starting" for one in client.actors()), 60)
    return pool(client)


def both_at_work(running: ThreadHandle, asking: ThreadHandle) -> tuple[str, ...]:
    """Wait until the one makes progress and the other is parked; returns what it asks."""
    eventually(lambda: running.info.seq > 5 and asking.status is Status.INTERRUPTED, 60, "both threads")
    return asking.interrupts


def test_killed_during_a_run(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    asking = client.submit(rounds, {"round": 1}, thread_id="asking")
    eventually(lambda: len(asking.interrupts) == 2, 60, "both questions")
    running = start_ticks(client, tmp_path, "running")
    eventually(lambda: running.info.seq > 10, 60, "progress")
    before = settled_pool(client, len(client.actors()))
    owner, first = running.info.owner, supervisor(client)

    kill(first)
    for wait, name in zip(asking.interrupts, ("a", "b"), strict=True):
        asking.resume(name, interrupt_id=wait)
    # The answers came while there was no supervisor; the new one finds them in the store.
    assert asking.result(timeout=60) == {"round": 0, "answers": ["a", "b"]}
    assert supervisor(client) != first
    assert running.result(timeout=60)["n"] == STEPS

    after = pool(client)
    assert {name: pid for name, pid in after.items() if name in before} == before
    assert running.info.epoch == 1
    log = Notes.beside(tmp_path / "own.db", "running").entries()
    assert [entry["claimed"] for entry in log if "claimed" in entry] == [1]
    assert {entry["pid"] for entry in log} == {before[owner]}
    check(client, tmp_path, "running", STEPS)
    messages = client.store.messages("asking", unread=False)
    assert [(one.kind, one.applied > 0) for one in messages] == [("input", True), ("resume", True), ("resume", True)]
    check_history(client.store, "asking")


@pytest.mark.parametrize("delays", [(0.01,), pytest.param((0.0, 0.01, 0.03), marks=pytest.mark.full)])
def test_killed_in_mid_recovery(serve: Serve, tmp_path: Path, delays: tuple[float, ...]) -> None:
    """First the owner, then the supervisor: before it has noticed, while the spare is asked, and after."""
    client = serve()
    steady = start_ticks(client, tmp_path, "steady", 10_000)
    for delay in delays:
        name = f"struck-{delay}"
        asking = client.submit(rounds, {"round": 1}, thread_id=f"asking-{delay}")
        struck = start_ticks(client, tmp_path, name)
        waits = both_at_work(struck, asking)
        owner, boss = ProcessId.of(owner_pid(client, name)), supervisor(client)
        owner.send(signal.SIGKILL)
        time.sleep(delay)
        boss.send(signal.SIGKILL)
        asking.resume(dict.fromkeys(waits, "yes"))
        assert struck.result(timeout=90)["n"] == STEPS, delay
        assert asking.result(timeout=60)["answers"] == ["yes", "yes"]
        assert not wait_gone([owner, boss], 10)
        check(client, tmp_path, name, None)
        assert struck.info.epoch == 2
        assert [message.applied > 0 for message in client.store.messages(asking.thread_id, unread=False)] == [True] * 3
    assert steady.info.epoch == 1
    steady.cancel()
    eventually(lambda: steady.status.ended, 30, "the cancel")
    log = Notes.beside(tmp_path / "own.db", "steady").entries()
    assert [entry["claimed"] for entry in log if "claimed" in entry] == [1]
    starts = [entry["start"] for entry in log if "start" in entry]
    assert len(starts) == len(set(starts))


@pytest.mark.full
def test_killed_again_and_again(serve: Serve, tmp_path: Path) -> None:
    """Ray goes on restarting it, however often it dies, and every one of them finds the same pool."""
    client = serve()
    running = start_ticks(client, tmp_path, "running", 10_000)
    eventually(lambda: running.info.seq > 3, 60, "progress")
    before = settled_pool(client, 2)
    for _ in range(3):
        kill(supervisor(client))
        assert supervisor(client).alive
    eventually(lambda: {one["name"]: one["phase"] for one in client.actors()}.get(running.info.owner) == "busy", 60)
    assert pool(client) == before
    running.cancel()
    eventually(lambda: running.status.ended, 30, "the cancel")
    assert running.info.epoch == 1
