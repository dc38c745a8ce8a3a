"""Those who send messages and read states. What was not answered is sent again under the same id, or given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from perdure.runtime.clock import Clock
from perdure.runtime.control import decode_control
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import (
    CANCEL,
    INPUT,
    PAUSE,
    REPLACE,
    RESUME,
    RETRY,
    UPDATE,
    InputPayload,
    pack,
    pack_input,
)
from perdure.runtime.snapshots import SnapshotReader, StateSnapshot
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import Refused, StoreMisuse, StoreUnavailable, ThreadExists, UnknownThread
from perdure.stores.history import HistoryReader
from perdure.stores.records import Delivery, Expect, Message, Origin, Status, ThreadRecord

from tests.sim.faults import Actor, Fate, FaultyStore
from tests.sim.graphs import SimGraph, graph_named
from tests.sim.journal import Acknowledged, Journal, require

ANY = frozenset(Status)
LIVE = ANY - {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
ANSWERABLE = frozenset({Status.INTERRUPTED, Status.QUEUED, Status.RUNNING, Status.PAUSED})
STOPPED = frozenset({Status.INTERRUPTED, Status.PAUSED})


class Surroundings(Fate, Protocol):
    """What a client is given; the scheduler."""

    store: CheckpointStore
    clock: Clock
    journal: Journal
    random: Random

    def seen(self, thread_id: str, snapshot: StateSnapshot) -> None:
        """Somebody read this."""
        ...


@dataclass(eq=False)
class Sending:
    """A message on its way."""

    thread_id: str
    message: Message
    expect: Expect
    create: ThreadRecord | None = None
    """The thread that it creates."""
    number: int = 0
    """What it was numbered, when it had been acknowledged once."""


class Sender(Actor):
    """Somebody who sends messages."""

    def __init__(self, name: str, world: Surroundings, graph: str, options: RunOptions) -> None:
        super().__init__(name, mortal=False)
        self.world = world
        self.graph = graph
        self.options = options
        self.store = FaultyStore(world.store, self, world)
        self.outbox: list[Sending] = []

    @property
    def sim_graph(self) -> SimGraph:
        return graph_named(self.graph)

    def send(
        self,
        thread_id: str,
        kind: str,
        payload: bytes,
        statuses: frozenset[Status] = ANY,
        *,
        wait: str = "",
        create: ThreadRecord | None = None,
    ) -> None:
        """Put a message into the outbox and try to deliver it."""
        message = Message(
            message_id=self.world.clock.unique(), kind=kind, payload=payload, created_at=self.world.clock.time()
        )
        self.outbox.append(Sending(thread_id, message, Expect(statuses=statuses, wait=wait), create))
        self.deliver(self.outbox[-1])

    def deliver(self, sending: Sending) -> Delivery | None:
        """Try once. None if the store did not answer, or refused."""
        message, journal = sending.message, self.world.journal
        try:
            if sending.create is not None:
                delivery = self.store.create(sending.create, message)
            else:
                delivery = self.store.deliver(sending.thread_id, message, sending.expect)
        except StoreUnavailable:
            return None
        except (Refused, ThreadExists, UnknownThread, StoreMisuse) as error:
            journal.note("not taken", message.kind, message.message_id, error)
            require(not sending.number, "V4", f"{message.message_id} was acknowledged, and then refused: {error}")
            self.outbox.remove(sending)
            return None
        self.outbox.remove(sending)
        require(
            sending.number in (0, delivery.number),
            "V4",
            f"message {message.message_id} was number {sending.number} and is now {delivery.number}",
        )
        sending.number = delivery.number
        journal.note("acknowledged", sending.thread_id, message.kind, message.message_id, delivery.number)
        journal.acknowledged.append(
            Acknowledged(sending.thread_id, message.message_id, message.kind, delivery.number, delivery.run)
        )
        return delivery

    def submit(self, thread_id: str, text: str) -> None:
        """Create a thread with its first input."""
        record = ThreadRecord(
            thread_id=thread_id, graph=self.graph, version=self.sim_graph.topology.version, created_at=1.0
        )
        self.send(thread_id, INPUT, self.input_of(text), create=record)

    def input_of(self, text: str) -> bytes:
        """An input message's payload."""
        return pack_input(self.sim_graph.codec, InputPayload({"log": [text]}, self.options))

    def pack(self, *fields: Any) -> bytes:
        """A message's payload."""
        return pack(self.sim_graph.codec, *fields)


class ScriptedClient(Sender):
    """Sends its inputs in order, answers every question in the one right way, and lets nothing stand still.

    So the outcome does not depend on when things happen.
    """

    def __init__(self, world: Surroundings, graph: str, options: RunOptions, texts: Sequence[str], *, queues: bool) -> None:
        super().__init__("script", world, graph, options)
        self.thread_id = "t"
        self.texts = tuple(texts)
        self.sent = 0
        self.queues = queues
        """Whether it sends an input before the run of the last one has ended."""
        self.done = False

    def act(self) -> None:
        """One move."""
        if self.outbox:
            self.deliver(self.outbox[0])
        elif not self.sent:
            self.sent = 1
            self.submit(self.thread_id, self.texts[0])
        else:
            try:
                self._look(self.store.thread(self.thread_id))
            except StoreUnavailable:
                pass

    def _look(self, record: ThreadRecord) -> None:
        if self.sent < len(self.texts) and (self.queues or record.status.ended):
            self.sent += 1
            self.send(self.thread_id, INPUT, self.input_of(self.texts[self.sent - 1]))
        elif record.status is Status.PAUSED:
            kind = self.world.random.choice([RETRY, RESUME])
            self.send(self.thread_id, kind, self.pack("", None, None) if kind == RESUME else b"", STOPPED)
        elif record.waits and record.status in ANSWERABLE:
            self._answer(record)
        elif record.status is Status.INTERRUPTED:
            self.send(self.thread_id, RESUME, self.pack("", None, None), STOPPED)
        elif record.status is Status.RUNNING and self.world.draw() < 0.02 and not self.calm:
            self.send(self.thread_id, PAUSE, self.pack("breathe"), LIVE)
        else:
            self.done = record.status.ended and self.sent == len(self.texts)

    @property
    def calm(self) -> bool:
        return not self.world.chances().pause

    def _answer(self, record: ThreadRecord) -> None:
        snapshot = SnapshotReader(self.store, record, self.sim_graph.codec).head()
        self.world.seen(self.thread_id, snapshot)
        questions = {stop.id: stop.value for stop in snapshot.interrupts if stop.id in record.waits}
        if questions:
            chosen = self.world.random.choice(sorted(questions))
            payload = self.pack(chosen, f"yes {questions[chosen]}", None)
            self.send(self.thread_id, RESUME, payload, ANSWERABLE, wait=chosen)


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

    def _odd_input(self, thread_id: str) -> None:
        payload = pack_input(self.sim_graph.codec, InputPayload({"nonsense": 1}, self.options))
        self.send(thread_id, INPUT, payload)

    def _answer(self, thread_id: str) -> None:
        record = self.store.thread(thread_id)
        if not record.waits:
            self._resume(thread_id)
            return
        update = {"log": [self._text()]} if self.world.random.random() < 0.2 else None
        wait = self.world.random.choice(record.waits)
        self.send(thread_id, RESUME, self.pack(wait, f"answer {self._text()}", update), ANSWERABLE, wait=wait)

    def _wrong_answer(self, thread_id: str) -> None:
        self.send(thread_id, RESUME, self.pack("0" * 32, "wrong", None), ANSWERABLE, wait="0" * 32)

    def _resume(self, thread_id: str) -> None:
        self.send(thread_id, RESUME, self.pack("", None, None), STOPPED)

    def _pause(self, thread_id: str) -> None:
        self.send(thread_id, PAUSE, self.pack("wait"), LIVE)

    def _retry(self, thread_id: str) -> None:
        self.send(thread_id, RETRY, b"", frozenset({Status.PAUSED, Status.FAILED}))

    def _cancel(self, thread_id: str) -> None:
        self.send(thread_id, CANCEL, self.pack("enough"), LIVE)

    def _update(self, thread_id: str) -> None:
        nodes = [None, None, *self.sim_graph.topology.nodes, "__start__", "nobody"]
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
        _, row = HistoryReader(self.store, thread_id).checkpoint(seq)
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
        payload = self.pack({"log": [f"fork {self._text()}"]}, None, 0)
        self.send(self.threads[-1], UPDATE, payload, create=record)

    def _some_checkpoint(self, thread_id: str) -> int:
        rows = [row.checkpoint for _, row in HistoryReader(self.store, thread_id).checkpoints(limit=8)]
        return self.world.random.choice(rows) if rows else 0


_ACTS: tuple[Any, ...] = (
    WildClient._input,
    WildClient._replace,
    WildClient._odd_input,
    WildClient._answer,
    WildClient._wrong_answer,
    WildClient._resume,
    WildClient._pause,
    WildClient._retry,
    WildClient._cancel,
    WildClient._update,
    WildClient._go_back,
    WildClient._fork,
)
_WEIGHTS = (4, 1, 1, 10, 1, 5, 2, 3, 1, 4, 2, 1)


class Reader(Actor):
    """Somebody who looks at states and histories while everything changes."""

    def __init__(self, world: Surroundings) -> None:
        super().__init__("reader", mortal=False)
        self._world = world
        self._store = FaultyStore(world.store, self, world)

    def act(self, thread_id: str) -> None:
        """Read one thread: its head, or its last few states."""
        try:
            record = self._store.thread(thread_id)
            reader = SnapshotReader(self._store, record, graph_named(record.graph).codec)
            found = [reader.head()] if self._world.draw() < 0.5 else list(reader.history(limit=4))
        except (StoreUnavailable, UnknownThread):
            return
        for snapshot in found:
            self._world.seen(thread_id, snapshot)
