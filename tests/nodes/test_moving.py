"""What is done to the nodes of a cluster on purpose: draining one, killing an owner on the node that it is on."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import actors
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated import autoscaler_pb2
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from perdure import Client, connect
from perdure.actors.names import owner_prefix
from perdure.actors.reaper import reap_elsewhere, this_host
from perdure.stores.processes import ProcessId
from perdure.stores.records import OwnerRecord
from tests.actors.services import end, eventually, key_of
from tests.faults.counting import start_counting
from tests.nodes.machines import HEAD, NODES, Machines
from tests.nodes.placing import every, node_of, nodes_of, spread
from tests.servers.postgres import PostgresDatabases


@pytest.fixture(scope="module")
def client(machines: Machines, postgres_server: PostgresDatabases) -> Iterator[Client]:
    with connect(postgres_server.database(), address=machines.address) as found:
        yield found
        end(found)


def id_of(machines: Machines, name: str) -> str:
    return next(node_id for node_id, known in machines.names().items() if known == name)


def started(client: Client) -> dict[str, str]:
    """All thread actors that the service ever started, the dead ones too: the node of each."""
    prefix = owner_prefix(key_of(client))
    rows = actors().values()
    return {row["Name"]: row["Address"]["NodeID"] for row in rows if row["Name"].startswith(prefix)}


def test_threads_of_a_drained_node_go_on_elsewhere_and_come_back_when_it_works_again(
    client: Client, machines: Machines, tmp_path: Path
) -> None:
    drained, threads = spread(client, machines, tmp_path, NODES)
    node_id = id_of(machines, drained)
    assert client.drain(node_id, timeout=timedelta(seconds=90)) == 0
    for running in threads[drained]:
        assert node_of(client, machines, running) != drained
    eventually(lambda: drained not in nodes_of(client, machines).values(), 60, "the idle actors' end")
    for running in every(threads):
        running.finish(client)
        assert running.thread.info.crashes == 0
    assert all(running.thread.info.epoch == 1 for running in every(threads, but=[drained]))
    client.undrain(node_id)
    back, more = spread(client, machines, tmp_path, [drained])
    assert back == drained
    for running in every(more):
        running.finish(client)


def test_actors_are_started_where_the_supervisor_wants_them(client: Client, machines: Machines, tmp_path: Path) -> None:
    """Ray puts an actor that asks for no CPU on any node, unless it is told that it must be that one."""
    *drained, open_node = (id_of(machines, name) for name in NODES)
    drained.append(id_of(machines, HEAD))
    for node_id in drained:
        assert client.drain(node_id, timeout=timedelta(seconds=90)) == 0
    try:
        before = started(client)
        threads = [start_counting(client, tmp_path, seconds=0.05) for _ in range(5)]
        for running in threads:
            running.go_on(2)
        places = [node for name, node in started(client).items() if name not in before]
        assert len(places) >= 3  # there may have been some that had nothing to do
        assert set(places) <= {open_node, ""}  # the spare one may be on its way
        for running in threads:
            running.finish(client)
            assert running.thread.info.epoch == 1
    finally:
        for node_id in drained:
            client.undrain(node_id)


@ray.remote(num_cpus=1)
class Guest:
    """Somebody's work on a node."""

    def greet(self) -> str:
        return "hello"


def test_a_node_that_ray_drains_is_passed_over(client: Client, machines: Machines, tmp_path: Path) -> None:
    """As an autoscaler does with a spot instance: the node is alive, and takes nothing."""
    machines.add("leaving")
    try:
        node_id = id_of(machines, "leaving")
        # Without work it would end at once.
        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        guest: Any = Guest.options(scheduling_strategy=there).remote()  # type: ignore[attr-defined]
        assert ray.get(guest.greet.remote(), timeout=60) == "hello"
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
        deadline = int((time.time() + 300) * 1000)
        assert GcsClient(address=machines.address).drain_node(node_id, reason, "it is wanted elsewhere", deadline)[0]
        threads = [start_counting(client, tmp_path, seconds=0.05) for _ in range(6)]
        for running in threads:
            running.go_on(2)
        assert id_of(machines, "leaving") == node_id
        for running in threads:
            running.finish(client)
    finally:
        machines.remove("leaving")


def test_an_owner_is_killed_on_its_own_machine_and_nobody_else(machines: Machines) -> None:
    nodes = [id_of(machines, name) for name in NODES]
    with subprocess.Popen(["sleep", "600"]) as victim:
        process = ProcessId.of(victim.pid)
        lease = OwnerRecord(owner="o", counter=1, host=this_host(), pid=process.pid, started=process.started)
        for wrong in (replace(lease, host="another machine:1"), replace(lease, started=process.started + 1)):
            assert not asyncio.run(reap_elsewhere(wrong, nodes))
            assert process.alive
        assert asyncio.run(reap_elsewhere(lease, nodes[:1]))
        assert victim.wait(timeout=60) == -9
