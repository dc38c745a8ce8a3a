"""One thread's whole life on a store where something fails: an input, questions, and something said at each stop."""

from __future__ import annotations

import time
from pathlib import Path

from perdure.runtime.compiled import CompiledGraph
from perdure.stores.base import CheckpointStore
from tests.faults.acks import AckLog, Acknowledged, AcknowledgingStore
from tests.faults.graphs_load import Talk, talk_expected, talk_graph, talk_input
from tests.faults.judge import judge_thread
from tests.faults.senders import IN_DOUBT, PATIENCE, advance, insist, say, start_thread

SHORT = talk_input(rounds=2, steps=2, pause=0.0)


def live(
    store: CheckpointStore,
    judged: CheckpointStore,
    path: Path,
    thread_id: str,
    durability: str,
    given: Talk = SHORT,
) -> None:
    """Run a talk to its end on `store`; then judge it by `judged`, the same store without its faults. What was
    acknowledged is noted in the file `path`."""
    with AckLog(path) as log:
        noted = AcknowledgingStore(store, log)
        graph = talk_graph(noted)
        start_thread(noted, graph, thread_id, given, durability)
        heard_at = set()
        while not (record := insist(lambda: noted.thread(thread_id))).status.ended:
            if record.waits not in heard_at:
                heard_at.add(record.waits)
                assert say(noted, graph, thread_id, f"{thread_id}: {len(heard_at)}")
            _advanced(noted, graph, thread_id)
        assert not say(noted, graph, thread_id, "too late")
        store.close()
    try:
        judge_thread(judged, graph, thread_id, Acknowledged.of(path), talk_expected(given))
    except AssertionError as error:
        raise AssertionError(f"{thread_id}: {error}") from error


def _advanced(store: CheckpointStore, graph: CompiledGraph, thread_id: str) -> None:
    """Bring the thread further once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            advance(store, graph, thread_id)
        except IN_DOUBT:
            if time.monotonic() > deadline:
                raise
            continue
        return
