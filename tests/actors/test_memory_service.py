"""memory:// in a service: the store lives in an actor that all its processes share."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
import ray

from perdure import Client, HeadOptions, Interrupted, NodeFailed, StoreUnavailable, ThreadExists, UnknownThread
from perdure.actors.names import NAMESPACE, store_name
from perdure.stores.processes import ProcessId
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, key_of, owner_pid, service
from tests.actors.test_handles import elsewhere


@pytest.fixture(scope="module")
def memory(member: HeadOptions) -> Iterator[Client]:
    with service(member, "memory://") as client:
        yield client


def test_a_run_an_interrupt_and_a_second_process(memory: Client, member: HeadOptions, folder: str) -> None:
    thread = memory.submit(graph, {"do": "ask", "folder": folder}, metadata={"team": "a"}, tags=("m",))
    with pytest.raises(Interrupted) as stopped:
        thread.result(timeout=60)
    seen = elsewhere(
        memory,
        member,
        f"""
        thread = client.thread({thread.thread_id!r})
        listed = [one.thread_id for one in client.threads(status="interrupted", tag="m", metadata={{"team": "a"}})]
        thread.resume("yes", interrupt_id={stopped.value.interrupts[0].id!r})
        return [listed, thread.result(timeout=60)["items"]]
        """,
    )
    assert seen == [[thread.thread_id], ["first", "yes", "last"]]
    assert thread.result(timeout=5)["items"] == ["first", "yes", "last"]
    assert next(thread.get_state_history()).values["items"] == ["first", "yes", "last"]


def test_what_the_store_raises_comes_through(memory: Client, folder: str) -> None:
    with pytest.raises(UnknownThread, match="'nobody'"):
        memory.thread("nobody")
    thread = memory.submit(graph, {"do": "raise", "folder": folder}, thread_id="taken")
    with pytest.raises(ThreadExists, match="'taken'"):
        memory.submit(graph, {"do": "raise", "folder": folder}, thread_id="taken")
    with pytest.raises(NodeFailed):
        thread.result(timeout=60)
    memory.delete("taken")
    with pytest.raises(UnknownThread):
        memory.thread("taken")


def test_a_crash_of_the_owner_is_recovered_from_memory(memory: Client, folder: str) -> None:
    thread = memory.submit(graph, {"do": "count", "folder": folder, "until": 80})
    eventually(lambda: "count 10" in lines(folder))
    owner = ProcessId.of(owner_pid(memory, thread.thread_id))
    owner.send(signal.SIGKILL)
    assert thread.result(timeout=60)["n"] == 80
    assert thread.info.epoch == 2
    assert list(range(1, 81)) == sorted({int(line.split()[1]) for line in lines(folder, "count")})


def test_a_store_whose_actor_died_is_away_for_a_moment_and_empty_then(memory: Client, folder: str) -> None:
    thread = memory.submit(graph, {"do": "last", "folder": folder})
    thread.result(timeout=60)
    ray.kill(ray.get_actor(store_name(key_of(memory)), namespace=NAMESPACE), no_restart=True)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        for _ in range(100):  # a call that was faster than its death is still answered
            list(memory.threads())
            time.sleep(0.01)
    assert list(memory.threads()) == []
    with pytest.raises(UnknownThread):
        thread.result(timeout=5)
    again = memory.submit(graph, {"do": "last", "folder": folder})
    assert again.result(timeout=60)["items"] == ["first", "last"]
