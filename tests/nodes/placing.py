"""Threads on the nodes of a cluster, and where each of them runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from perdure import Client
from perdure.actors.pool import find_actors
from tests.actors.services import key_of
from tests.faults.counting import Counting, start_counting
from tests.nodes.machines import Machines


def nodes_of(client: Client, machines: Machines) -> dict[str, str]:
    """The node of each actor of the service, by the actor's name."""
    names = machines.names()
    found = {}
    for name, actor in find_actors(key_of(client)).items():
        try:
            found[name] = names.get(ray.get(actor.hello.remote(), timeout=60).node_id, "")
        except (RayActorError, GetTimeoutError):
            continue  # it has just ended, or its node has
    return found


def node_of(client: Client, machines: Machines, running: Counting) -> str:
    """The node that a thread runs on, once it runs."""
    running.go_on(2)
    return nodes_of(client, machines).get(running.thread.info.owner, "")


def spread(
    client: Client, machines: Machines, folder: Path, nodes: Collection[str]
) -> tuple[str, dict[str, list[Counting]]]:
    """Threads by the node that they run on, at least two; and one of `nodes` that has some."""
    found: dict[str, list[Counting]] = {}
    while not (has := sorted(found.keys() & set(nodes))) or sum(map(len, found.values())) < 2:
        assert sum(map(len, found.values())) < 16, (
            f"no thread runs on any of {nodes}: {sorted(found)} of {sorted(machines.names().values())}; "
            f"{nodes_of(client, machines)}; {client.actors()}"
        )
        running = start_counting(client, folder, ("async", "sync")[len(found) % 2], seconds=0.03)
        found.setdefault(node_of(client, machines, running), []).append(running)
    return has[0], found


def every(found: dict[str, list[Counting]], *, but: Sequence[str] = ()) -> list[Counting]:
    """The threads of all nodes but these."""
    return [running for name, here in found.items() if name not in but for running in here]
