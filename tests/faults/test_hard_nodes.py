"""Nodes that are hard on their process. (Those that raise, exit or crash: tests/actors/test_faulty_nodes.py. Those that
never return and are cancelled: tests/actors/test_steering.py.)"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import Client, HeadOptions, NodeFailed, Paused, PerdureError, Status
from perdure.stores.processes import ProcessId
from tests.actors.graphs_menu import lines
from tests.actors.services import eventually, owner_pid, service
from tests.faults.graphs_hard import graph

LEASE = timedelta(seconds=2)


@pytest.fixture(scope="module")
def client(member: HeadOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with service(member, tmp_path_factory.mktemp("hard") / "hard.db", lease=LEASE) as found:
        yield found


def fix(folder: str) -> None:
    (Path(folder) / "fixed").touch()


@pytest.mark.parametrize("do", ["hoard", "fan-hoard"])
def test_a_node_that_exhausts_memory_stops_its_own_thread_only(client: Client, folder: str, do: str) -> None:
    """It fails with a MemoryError, or its process dies of it until the crash budget is spent."""
    thread = client.submit(graph, {"do": do, "folder": folder})
    with pytest.raises((NodeFailed, Paused)) as stopped:
        thread.result(timeout=120)
    assert "MemoryError" in thread.reason if isinstance(stopped.value, NodeFailed) else "3 times" in thread.reason
    other = client.submit(graph, {"do": "hold", "folder": folder, "microseconds": 1})
    assert other.result(timeout=60)["items"] == ["held"]
    fix(folder)
    thread.retry()
    assert thread.result(timeout=60)["items"] == (["no hoard"] if do == "hoard" else ["well", "no hoard"])


@pytest.mark.parametrize(("do", "node"), [("lock", "single"), ("fan-lock", "part")])
def test_a_result_that_cannot_be_stored_fails_its_node(client: Client, folder: str, do: str, node: str) -> None:
    thread = client.submit(graph, {"do": do, "folder": folder})
    with pytest.raises(PerdureError, match="lock") as failed:
        thread.result(timeout=60)
    assert f"node '{node}'" in str(failed.value)
    assert (thread.status, thread.info.crashes) == (Status.FAILED, 0)
    fix(folder)
    thread.retry()
    assert thread.result(timeout=60)["items"] == (["no lock"] if do == "lock" else ["well", "no lock"])


def test_a_node_that_holds_the_gil_for_longer_than_a_lease_loses_its_process(client: Client, folder: str) -> None:
    """Nothing of it can be heard: it counts as frozen, which is no crash."""
    held = int(2.5 * LEASE.total_seconds() * 1e6)
    thread = client.submit(graph, {"do": "hold", "folder": folder, "microseconds": held})
    eventually(lambda: lines(folder, "hold"), 60, "the node to run")
    first = ProcessId.of(owner_pid(client, thread.thread_id))
    assert thread.result(timeout=60)["items"] == ["held"]
    assert lines(folder, "hold") == ["hold", "hold"]
    assert (thread.info.epoch, thread.info.crashes) == (2, 0)
    eventually(lambda: not first.alive, 60, "the end of the process that held it")


def test_a_process_that_can_start_no_os_thread_strands_nobody(client: Client, folder: str) -> None:
    """It claimed the next thread, could not drive it, and held it for ever."""
    (pid,) = client.submit(graph, {"do": "wedge"}).result(timeout=60)["items"]
    process = ProcessId.of(pid)
    for _ in range(4):
        thread = client.submit(graph, {"do": "hold", "folder": folder, "microseconds": 1})
        assert thread.result(timeout=60)["items"] == ["held"]
        assert thread.info.crashes == 0
        if thread.info.epoch == 2:
            break
    eventually(lambda: not process.alive, 60, "the end of the process that is of no use")
    assert thread.info.epoch == 2
