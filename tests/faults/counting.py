"""Threads that count until they are told that it is enough, and what must hold of them then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perdure import Client, ThreadHandle
from tests.actors.graphs_menu import lines
from tests.actors.services import eventually
from tests.faults.graphs_counting import ENOUGH, graph
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
