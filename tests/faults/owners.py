"""Processes that run threads, one after the other, while the store comes and goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from perdure.runtime.compiled import CompiledGraph
from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.operations import Commit, Committed
from perdure.stores.urls import open_store
from tests.faults.acks import AckLog, AcknowledgingStore
from tests.faults.graphs_load import SPRINT, sprint_graph, talk_graph, talk_input
from tests.faults.senders import IN_DOUBT, advance, insist, start_thread


@dataclass(frozen=True, slots=True)
class Slot:
    """One OS thread that runs durable threads one after the other."""

    graph: str
    """talk or sprint"""
    durability: str
    ids: str
    """Their ids begin so."""
    homes: tuple[int, int] = (0, 1)
    """(which, of how many): only ids whose partition, by its number, is of this kind."""


class Meter(AcknowledgingStore):
    """Measures how far sprints are ahead of what is durable."""

    def __init__(self, inner: CheckpointStore, log: AckLog) -> None:
        super().__init__(inner, log)
        self.peak = 0
        self._durable: dict[str, int] = {}

    def ran(self, thread_id: str, n: int) -> None:
        """A sprint's step `n` runs. Its first commit is that of its input."""
        self.peak = max(self.peak, n - (self._durable.get(thread_id, 1) - 1))

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = super().commit(commits)
        for commit, result in zip(commits, results, strict=True):
            if isinstance(result, Committed):
                self._durable[commit.thread_id] = commit.last
        return results


class Owner:
    """Starts threads and runs each to its end, as somebody's program would."""

    def __init__(self, store: Meter, log: AckLog, partition_of: Callable[[str], int]) -> None:
        self._store = store
        self._log = log
        self._partition_of = partition_of
        self._talk = talk_graph(store)
        self._sprint = sprint_graph(store, store.ran)

    def run(self, slot: Slot, stop: Path) -> None:
        """One thread after the other, until the file `stop` is there."""
        for number in count(1):
            if stop.exists():
                return
            thread_id = self._named(slot, number)
            graph = self._talk if slot.graph == "talk" else self._sprint
            given = talk_input() if slot.graph == "talk" else {"until": SPRINT}
            start_thread(self._store, graph, thread_id, given, slot.durability)
            self._to_the_end(graph, thread_id)

    def _named(self, slot: Slot, number: int) -> str:
        which, many = slot.homes
        for extra in count():
            thread_id = f"{slot.ids} {number} {extra}"
            if self._partition_of(thread_id) % many == which:
                return thread_id
        raise AssertionError("unreachable")

    def _to_the_end(self, graph: CompiledGraph, thread_id: str) -> None:
        said = ""
        while True:
            try:
                if advance(self._store, graph, thread_id):
                    return
            except IN_DOUBT as error:
                # Each reason once in a row: an outage has hundreds of the same.
                if said != (said := str(error)):
                    self._log.note("retried", thread_id, type(error).__name__, said)
                time.sleep(0.05)


def no_partition(thread_id: str) -> int:
    return 0


def serve(
    url: str, log_path: Path, stop: Path, slots: Sequence[Slot], partition_of: Callable[[str], int] = no_partition
) -> None:
    """Run all slots until the file `stop` is there and their threads have ended."""
    with AckLog(log_path) as log, insist(lambda: open_store(url)) as store:
        meter = Meter(store, log)
        owner = Owner(meter, log, partition_of)
        workers = [threading.Thread(target=_noted, args=(log, owner, slot, stop)) for slot in slots]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        log.note("peak", meter.peak)


def _noted(log: AckLog, owner: Owner, slot: Slot, stop: Path) -> None:
    try:
        owner.run(slot, stop)
    except BaseException as error:
        log.note("broken", slot.ids, repr(error))
        raise
    log.note("finished", slot.ids)
