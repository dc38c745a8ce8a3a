"""A service without Ray: runs what is queued, wakes what is due, when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from perdure import CheckpointStore, CompiledGraph, ThreadHandle
from perdure.cluster.rerunning import BatchReruns
from perdure.runtime.batches import RERUNS
from perdure.runtime.clock import SystemClock
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import INPUT, InputPayload, pack_input
from perdure.runtime.waking import wake_message
from perdure.stores.errors import Refused, ThreadExists
from perdure.stores.operations import Expect
from perdure.stores.records import GraphRecord, Message, Status, ThreadRecord
from tests.runtime.test_checkpoint_kills import own


class PumpedClient(BatchReruns):
    """A client whose threads run while somebody calls `pump`."""

    def __init__(self, store: CheckpointStore, *graphs: CompiledGraph) -> None:
        self.store = store
        self._clock = SystemClock()
        self.graphs = {graph.name: graph for graph in (RERUNS, *graphs)}

    def submit(self, graph: CompiledGraph, input: Any, thread_id: str, **record: Any) -> None:
        """Start a thread."""
        self.graphs[graph.name] = graph
        payload = pack_input(graph.codec, InputPayload(input, RunOptions()))
        message = Message(message_id=self._clock.unique(), kind=INPUT, payload=payload)
        now = self._clock.time()
        row = ThreadRecord(
            thread_id=thread_id,
            graph=graph.name,
            version=graph.version,
            graph_key=graph.name,
            created_at=now,
            **record,
        )
        self.store.create(row, message)

    def more(self, graph: CompiledGraph, input: Any, thread_id: str) -> None:
        """Give a thread another run."""
        self.graphs[graph.name] = graph
        payload = pack_input(graph.codec, InputPayload(input, RunOptions()))
        self.store.deliver(
            thread_id,
            Message(message_id=self._clock.unique(), kind=INPUT, payload=payload),
            Expect(statuses=frozenset(Status)),
        )

    def thread(self, thread_id: str, *, graph: CompiledGraph | None = None) -> ThreadHandle:
        run = self.store.thread(thread_id).runs
        return ThreadHandle(self.store, thread_id, run, notify=lambda name: None, stalled=lambda name: "", graph=graph)

    def _begin(self, graph: CompiledGraph, input: Any, thread_id: str) -> ThreadHandle:
        try:
            self.submit(graph, input, thread_id)
        except ThreadExists:
            pass
        return self.thread(thread_id, graph=graph)

    def _shipped(self, graph: CompiledGraph) -> GraphRecord:
        self.graphs[graph.name] = graph
        return GraphRecord(
            graph_key=f"{graph.name} {graph.version}", name=graph.name, version=graph.version, kind="", body=b""
        )

    def pump(self, store: CheckpointStore | None = None, *, items: bool = True) -> bool:
        """Run every thread that is queued or due, once; batches through `store`; without `items` only batches. Whether
        there was any."""
        found = [row for row in self.rows() if row.status.runnable or row.status is Status.SLEEPING]
        found = [row for row in found if items or row.graph == RERUNS.name]
        for row in found:
            self._run(store if store is not None and row.graph == RERUNS.name else self.store, row)
        return bool(found)

    def pump_all(self) -> None:
        """Until nothing is left to be run."""
        while self.pump():
            continue

    def rows(self) -> Sequence[ThreadRecord]:
        """The rows of all threads."""
        return self.store.threads(limit=1000).threads

    def _run(self, store: CheckpointStore, row: ThreadRecord) -> None:
        if row.status is Status.SLEEPING:
            message, expect = wake_message(row, row.wake_at)
            try:
                self.store.deliver(row.thread_id, message, expect)
            except Refused:
                return
        crashed = row.status is Status.RUNNING
        own(store, crashed=crashed, graph=self.graphs[row.graph], thread_id=row.thread_id)


@contextmanager
def pumping(client: PumpedClient) -> Iterator[None]:
    """Only batches are run while the block lasts."""
    over = threading.Event()

    def pump() -> None:
        while not over.wait(0.005):
            client.pump(items=False)

    pumps = threading.Thread(target=pump)
    pumps.start()
    try:
        yield
    finally:
        over.set()
        pumps.join()
