"""Nodes of the cluster that die, freeze or are taken away: their threads go on elsewhere, the others notice nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray

from perdure import Client, connect
from perdure.actors.names import NAMESPACE, supervisor_name
from perdure.stores.processes import ProcessId
from tests.actors.services import end, eventually, key_of, owner_pid, supervisor_process
from tests.faults.counting import start_counting
from tests.nodes.machines import HEAD, NODES, Machines
from tests.nodes.placing import every, spread
from tests.servers.postgres import PostgresDatabases


@pytest.fixture(scope="module")
def client(machines: Machines, postgres_server: PostgresDatabases) -> Iterator[Client]:
    with connect(postgres_server.database(), address=machines.address) as found:
        yield found
        end(found)


def supervisor_node(client: Client) -> str:
    """Ray's id of the node that the supervisor is on."""
    supervisor = ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE)
    asked: Any = supervisor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())
    found: str = ray.get(asked)
    return found


def lose(machines: Machines, name: str, how: str) -> None:
    """Take a node from the cluster; returns when Ray has noticed."""
    if how == "removed":
        machines.remove(name)
        return
    machines.raylet(name).send(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    eventually(lambda: name not in machines.names().values(), 60, f"Ray to give up node {name}")


@pytest.mark.parametrize("how", ["killed", "frozen", "removed"])
def test_its_threads_go_on_elsewhere(client: Client, machines: Machines, tmp_path: Path, how: str) -> None:
    """`frozen`: the raylet alone is stopped, so that the owners on the node go on beside their successors for a while;
    what they write is refused."""
    lost, threads = spread(client, machines, tmp_path, NODES)
    raylet = machines.raylet(lost)
    lose(machines, lost, how)
    for running in threads[lost]:
        eventually(lambda: running.thread.info.epoch > 1, 60, "a new owner")  # noqa: B023 — called at once
        assert running.thread.info.crashes == 0
    for running in every(threads):
        running.go_on()
        running.finish(client)
    assert all(running.thread.info.epoch == 1 for running in every(threads, but=[lost]))
    if how != "removed":
        raylet.send(signal.SIGCONT)
        machines.forget(lost)
    machines.add(lost)
    assert set(machines.names().values()) == {HEAD, *NODES}


@pytest.mark.full
def test_a_node_is_lost_while_no_supervisor_looks(client: Client, machines: Machines, tmp_path: Path) -> None:
    """The next supervisor found owners that were gone, took that for crashes and charged them."""
    process, node = supervisor_process(client), supervisor_node(client)
    lost, threads = spread(client, machines, tmp_path, [name for name in NODES if name != machines.names()[node]])
    process.send(signal.SIGSTOP)
    lose(machines, lost, "killed")
    process.send(signal.SIGKILL)
    for running in threads[lost]:
        eventually(lambda: running.thread.info.epoch > 1, 60, "a new owner")  # noqa: B023 — called at once
        assert running.thread.info.crashes == 0
    for running in every(threads):
        running.go_on()
        running.finish(client)
    machines.forget(lost)
    machines.add(lost)


def test_the_gcs_is_killed_and_started_again(client: Client, machines: Machines, tmp_path: Path) -> None:
    """While it is away threads go on. One whose owner dies then has a new one when it is back."""
    _, threads = spread(client, machines, tmp_path, NODES)
    struck, *others = every(threads)
    owner = ProcessId.of(owner_pid(client, struck.thread.thread_id))
    machines.kill_gcs()
    for running in every(threads):
        running.go_on()
    owner.send(signal.SIGKILL)
    machines.start_gcs()
    eventually(lambda: struck.thread.info.epoch > 1, 60, "a new owner")
    late = start_counting(client, tmp_path)
    for running in (struck, late, *others):
        running.go_on()
        running.finish(client)
    assert {running.thread.info.epoch for running in others} == {1}


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clocks_of_nodes_are_set(client: Client, machines: Machines, tmp_path: Path, hours: int) -> None:
    """Nobody is taken for dead while they jump. What dies goes on with another owner, for whom it is another time."""
    _, threads = spread(client, machines, tmp_path, NODES)
    moved = every(threads, but=[HEAD])
    for name in NODES:
        machines.clocks[name].set(timedelta(hours=hours))

    def dated() -> list[float]:
        return [(one.thread.info.updated_at - time.time()) / 3600 for one in moved]

    # An owner dates what it commits.
    eventually(lambda: all(abs(ahead - hours) < 0.1 for ahead in dated()), 60, "the jump")
    for running in every(threads):
        running.go_on()
    assert {running.thread.info.epoch for running in every(threads)} == {1}
    ProcessId.of(owner_pid(client, moved[0].thread.thread_id)).send(signal.SIGKILL)
    eventually(lambda: moved[0].thread.info.epoch > 1, 60, "a new owner")
    for running in every(threads):
        running.go_on()
        running.finish(client)
    for name in NODES:
        machines.clocks[name].set(timedelta(0))
