"""Threads on the nodes of a cluster, and where each of them runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from perdure import Client, ThreadHandle
from perdure.actors.pool import find_actors
from tests.actors.graphs_menu import lines
from tests.actors.services import eventually, key_of
from tests.nodes.graphs_counting import ENOUGH, graph
from tests.nodes.machines import Machines
from tests.recovery.checks import check_history


@dataclass(frozen=True, slots=True)
class Counting:
    """A thread that counts until it is told that it is enough."""

    thread: ThreadHandle
    folder: Path

    @property
    def counted(self) -> int:
        """How far its node was called."""
        return max((int(line.partition(" ")[2]) for line in lines(self.folder, "count")), default=0)

    def go_on(self, steps: int = 20, seconds: float = 60) -> None:
        """Return when so many further steps are durable."""
        aim = self.thread.info.seq + steps
        eventually(lambda: self.thread.info.seq >= aim, seconds, f"progress of {self.thread.thread_id}")

    def finish(self, client: Client, seconds: float = 90) -> None:
        """Have it end. It has counted without a gap or a repetition, each step was run, and its history is whole."""
        (self.folder / ENOUGH).touch()
        state = self.thread.result(timeout=seconds)
        assert state["steps"] == list(range(1, state["n"] + 1))
        assert set(lines(self.folder, "count")) >= {f"count {n}" for n in state["steps"]}
        check_history(client.store, self.thread.thread_id)


def start_counting(client: Client, folder: Path, durability: str = "async", seconds: float = 0.01) -> Counting:
    """Start one; a step of it takes so many seconds."""
    place = folder / f"thread {len(list(folder.iterdir()))}"
    place.mkdir()
    return Counting(client.submit(graph, {"folder": str(place), "seconds": seconds}, durability=durability), place)


def nodes_of(client: Client, machines: Machines) -> dict[str, str]:
    """The node of each actor of the service, by the actor's name."""
    names = machines.names()
    found = {}
    for name, actor in find_actors(key_of(client)).items():
        try:
            found[name] = names.get(ray.get(actor.hello.remote(), timeout=10).node_id, "")
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
        assert sum(map(len, found.values())) < 10, f"no thread runs on any of {nodes}: {sorted(found)}"
        running = start_counting(client, folder, ("async", "sync")[len(found) % 2])
        found.setdefault(node_of(client, machines, running), []).append(running)
    return has[0], found


def every(found: dict[str, list[Counting]], *, but: Sequence[str] = ()) -> list[Counting]:
    """The threads of all nodes but these."""
    return [running for name, here in found.items() if name not in but for running in here]
