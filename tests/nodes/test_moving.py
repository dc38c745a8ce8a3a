"""What is done to the nodes of a cluster on purpose: draining one, killing an owner on the node that it is on."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import Client, connect
from perdure.actors.reaper import reap_elsewhere, this_host
from perdure.stores.processes import ProcessId
from perdure.stores.records import OwnerRecord
from tests.actors.services import end, eventually
from tests.nodes.machines import NODES, Machines
from tests.nodes.placing import every, node_of, nodes_of, spread
from tests.servers.postgres import PostgresDatabases


@pytest.fixture(scope="module")
def client(machines: Machines, postgres_server: PostgresDatabases) -> Iterator[Client]:
    with connect(postgres_server.database(), address=machines.address) as found:
        yield found
        end(found)


def id_of(machines: Machines, name: str) -> str:
    return next(node_id for node_id, known in machines.names().items() if known == name)


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
