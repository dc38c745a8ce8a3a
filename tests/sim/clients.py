"""Those who send messages and read states. What was not answered is sent again under the same id, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from perdure.runtime.cache import CacheOptions
from perdure.runtime.clock import Clock
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import (
    INPUT,
    PAUSE,
    RESUME,
    RETRY,
    InputPayload,
    pack,
    pack_input,
)
from perdure.runtime.snapshots import SnapshotReader, StateSnapshot
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import Refused, StoreMisuse, StoreUnavailable, ThreadExists, UnknownThread
from perdure.stores.operations import Delivery, Expect
from perdure.stores.records import SIGNAL, Message, Status, ThreadRecord
from tests.sim.faults import Actor, Fate, FaultyStore
from tests.sim.graphs import SimGraph, graph_named
from tests.sim.journal import Acknowledged, Journal, require

ANY = frozenset(Status)
LIVE = ANY - {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
ANSWERABLE = frozenset({Status.INTERRUPTED, Status.QUEUED, Status.RUNNING, Status.PAUSED})
WAITING = frozenset({Status.INTERRUPTED, Status.WAITING})
STOPPED = frozenset({Status.INTERRUPTED, Status.PAUSED})


class Surroundings(Fate, Protocol):
    """What a client is given; the scheduler."""

    store: CheckpointStore
    clock: Clock
    journal: Journal
    random: Random
    cache: CacheOptions

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
        name: str = "",
        create: ThreadRecord | None = None,
    ) -> None:
        """Put a message into the outbox and try to deliver it."""
        message = Message(
            message_id=self.world.clock.unique(),
            kind=kind,
            name=name,
            payload=payload,
            created_at=self.world.clock.time(),
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

    def input_of(self, text: str, parent: int = 0) -> bytes:
        """An input message's payload."""
        return pack_input(self.sim_graph.codec, InputPayload({"log": [text]}, self.options, parent))

    def pack(self, *fields: Any) -> bytes:
        """A message's payload."""
        return pack(self.sim_graph.codec, *fields)


class ScriptedClient(Sender):
    """Sends its inputs in order, answers every question in the one right way, and lets nothing stand still.

    So the outcome does not depend on when things happen.
    """

    def __init__(
        self, world: Surroundings, graph: str, options: RunOptions, texts: Sequence[str], *, queues: bool
    ) -> None:
        super().__init__("script", world, graph, options)
        self.thread_id = "t"
        self.texts = tuple(texts)
        self.sent = 0
        self.queues = queues
        """Whether it sends an input before the run of the last one has ended."""
        self.signals = 0
        """How many it has sent: what the n-th brings is always the same."""
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
        elif "go" in record.signals and record.status in WAITING:
            self.signals += 1
            self.send(self.thread_id, SIGNAL, self.pack(f"go {self.signals}"), LIVE, name="go")
        elif record.interrupts and record.status in ANSWERABLE:
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
