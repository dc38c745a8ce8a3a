"""Clients that do anything at any moment, and readers that look on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure.runtime.cache import ReadCache
from perdure.runtime.commands import END, START
from perdure.runtime.control import decode_control
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import CANCEL, INPUT, PAUSE, REPLACE, RESUME, RETRY, UPDATE, InputPayload, pack_input
from perdure.runtime.snapshots import SnapshotReader
from perdure.stores.errors import StoreUnavailable, UnknownCheckpoint, UnknownThread
from perdure.stores.history import HistoryReader
from perdure.stores.records import SIGNAL, Origin, Status, ThreadRecord
from tests.sim.clients import ANSWERABLE, LIVE, STOPPED, Sender, Sending, Surroundings
from tests.sim.faults import Actor, FaultyStore
from tests.sim.graphs import graph_named


class WildClient(Sender):
    """Sends whatever there is to send, at any moment, to any thread."""

    def __init__(self, world: Surroundings, name: str, graph: str, options: RunOptions, threads: list[str]) -> None:
        super().__init__(name, world, graph, options)
        self.threads = threads
        """Ids of all threads, shared by all clients; all of one graph."""
        self.old: list[Sending] = []
        self._said = 0

    def act(self) -> None:
        """One move."""
        random = self.world.random
        if self.outbox and random.random() < 0.6:
            sending = random.choice(self.outbox)
            if random.random() < 0.1:
                self.outbox.remove(sending)  # its process died, and nobody asks again
            elif self.deliver(sending) is not None:
                self.old.append(sending)
            return
        if self.old and random.random() < 0.05:
            # An answer was lost on the way, and somebody sends it a second time.
            self.outbox.append(random.choice(self.old))
            return
        try:
            self._choose()
        except (StoreUnavailable, UnknownThread):
            pass

    def finish(self) -> None:
        """Only repeat what is not acknowledged yet."""
        self.deliver(self.outbox[0])

    def _choose(self) -> None:
        random = self.world.random
        if not self.threads or (len(self.threads) < 3 and random.random() < 0.1):
            self.threads.append(f"t{len(self.threads)}")
            self.submit(self.threads[-1], self._text())
            return
        thread_id = random.choice(self.threads)
        act: Callable[[str], None] = random.choices(_ACTS, _WEIGHTS)[0].__get__(self)
        act(thread_id)

    def _text(self) -> str:
        self._said += 1
        flavour = self.world.random.choice(["", "", " bad", " fixed", " 0"])
        return f"{self.name}.{self._said}{flavour}"

    def _input(self, thread_id: str) -> None:
        self.send(thread_id, INPUT, self.input_of(self._text()))

    def _replace(self, thread_id: str) -> None:
        self.send(thread_id, REPLACE, self.input_of(self._text()))

    def _input_there(self, thread_id: str) -> None:
        seq = self._some_checkpoint(thread_id)
        if seq:
            self.send(thread_id, REPLACE, self.input_of(self._text(), seq))

    def _odd_input(self, thread_id: str) -> None:
        payload = pack_input(self.sim_graph.codec, InputPayload({"nonsense": 1}, self.options))
        self.send(thread_id, INPUT, payload)

    def _answer(self, thread_id: str) -> None:
        record = self.store.thread(thread_id)
        if not record.interrupts:
            self._resume(thread_id)
            return
        update = {"log": [self._text()]} if self.world.random.random() < 0.2 else None
        wait = self.world.random.choice(record.interrupts)
        self.send(thread_id, RESUME, self.pack(wait, f"answer {self._text()}", update), ANSWERABLE, wait=wait)

    def _wrong_answer(self, thread_id: str) -> None:
        self.send(thread_id, RESUME, self.pack("0" * 32, "wrong", None), ANSWERABLE, wait="0" * 32)

    def _resume(self, thread_id: str) -> None:
        self.send(thread_id, RESUME, self.pack("", None, None, self._other_options()), STOPPED)

    def _other_options(self) -> dict[str, Any] | None:
        if self.world.random.random() < 0.8:
            return None
        return replace(self.options, recursion_limit=self.world.random.choice([3, 50])).to_data()

    def _pause(self, thread_id: str) -> None:
        self.send(thread_id, PAUSE, self.pack("wait"), LIVE)

    def _retry(self, thread_id: str) -> None:
        options = self._other_options()
        self.send(thread_id, RETRY, self.pack(options) if options else b"", frozenset({Status.PAUSED, Status.FAILED}))

    def _signal(self, thread_id: str) -> None:
        name = self.world.random.choice(["go", "go", "never", "nobody"])
        self.send(thread_id, SIGNAL, self.pack(self._text()), LIVE, name=name)

    def _cancel(self, thread_id: str) -> None:
        self.send(thread_id, CANCEL, self.pack("enough"), LIVE)

    def _update(self, thread_id: str) -> None:
        nodes = [None, None, *self.sim_graph.topology.nodes, START, END, "nobody"]
        values = self.world.random.choice([{"log": [self._text()]}, {"log": [self._text()], "n": 5}, {"odd": 1}, None])
        self.send(thread_id, UPDATE, self.pack(values, self.world.random.choice(nodes), 0))

    def _go_back(self, thread_id: str) -> None:
        seq = self._some_checkpoint(thread_id)
        if seq:
            node = self.world.random.choice([None, None, *self.sim_graph.topology.nodes, "nobody"])
            values = self.world.random.choice([{"log": [self._text()]}, None])
            self.send(thread_id, UPDATE, self.pack(values, node, seq))

    def _fork(self, thread_id: str) -> None:
        seq = self._some_checkpoint(thread_id)
        if not seq or len(self.threads) > 5:
            return
        try:
            _, row = HistoryReader(self.store, thread_id).checkpoint(seq)
        except UnknownCheckpoint:
            return
        run = decode_control(row.payload, "the fork's origin").run
        self.threads.append(f"t{len(self.threads)}")
        record = ThreadRecord(
            thread_id=self.threads[-1],
            graph=self.graph,
            version=self.sim_graph.topology.version,
            origin=Origin(thread_id=thread_id, seq=seq),
            seq=seq,
            head=seq,
            run=run,
            runs=run,
            created_at=1.0,
        )
        if self.world.random.random() < 0.3:
            self.send(self.threads[-1], RETRY, b"", create=record)
        else:
            self.send(self.threads[-1], UPDATE, self.pack({"log": [self._text()]}, None, 0), create=record)

    def _some_checkpoint(self, thread_id: str) -> int:
        rows = [row.checkpoint for _, row in HistoryReader(self.store, thread_id).checkpoints(limit=8)]
        # Some seqs are no checkpoints, and one is still to come.
        odd = [row + 1 for row in rows[:2]] if self.world.random.random() < 0.1 else []
        return self.world.random.choice(odd or rows) if rows else 0


_ACTS: tuple[Any, ...] = (
    WildClient._input,
    WildClient._replace,
    WildClient._input_there,
    WildClient._odd_input,
    WildClient._answer,
    WildClient._wrong_answer,
    WildClient._resume,
    WildClient._pause,
    WildClient._signal,
    WildClient._retry,
    WildClient._cancel,
    WildClient._update,
    WildClient._go_back,
    WildClient._fork,
)
_WEIGHTS = (4, 1, 0.7, 0.7, 10, 1, 5, 2, 3, 3, 1, 4, 2, 1)


class Reader(Actor):
    """Somebody who looks at states and histories while everything changes."""

    def __init__(self, world: Surroundings) -> None:
        super().__init__("reader", mortal=False)
        self._world = world
        self._store = FaultyStore(world.store, self, world)
        self._cache = ReadCache(world.cache)

    def act(self, thread_id: str) -> None:
        """Read one thread: its head, or its last few states."""
        try:
            record = self._store.thread(thread_id)
            codec = graph_named(record.graph).codec
            reader = SnapshotReader(self._store, record, codec, cache=self._cache)
            found = [reader.head()] if self._world.draw() < 0.5 else list(reader.history(limit=4))
            for snapshot in found:
                self._world.seen(thread_id, snapshot)  # which reads what has not been read yet
        except (StoreUnavailable, UnknownThread):
            return
