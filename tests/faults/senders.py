"""How the users of these tests speak to a store that may be away: the same call again, until there is an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from perdure import Command
from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.errors import NotInterrupted, ThreadBusy, UnknownInterrupt
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.payloads import INPUT, RESUME, UPDATE, InputPayload, pack, pack_input
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import Refused, StoreUnavailable
from perdure.stores.operations import Delivery, Expect, ThreadFilter
from perdure.stores.records import ENDED, IN_PROCESS, Message, Status, ThreadRecord
from tests.faults.graphs_load import answer_to

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds without progress after which something is stranded."""

LIVE = frozenset(Status) - ENDED

IN_DOUBT = (StoreUnavailable, ThreadBusy, NotInterrupted, UnknownInterrupt)
"""What `invoke` raises while a store fails: it has lost an answer, or finds that an attempt which had lost its answer
did its work, perhaps only now."""


def insist(call: Callable[[], T], stop: Callable[[], bool] = lambda: False) -> T:
    """The answer to `call`, which is made until there is one. Raises what it raised last once `stop` says so, or when
    nobody brings the store back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except StoreUnavailable:
            if stop() or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def start_thread(store: CheckpointStore, graph: CompiledGraph, thread_id: str, given: Any, durability: str) -> Delivery:
    """Create a thread with its input, under ids that a second attempt has too."""
    options = RunOptions(durability=Durability(durability))
    message = Message(
        message_id=f"input of {thread_id}", kind=INPUT, payload=pack_input(graph.codec, InputPayload(given, options))
    )
    record = ThreadRecord(thread_id=thread_id, graph=graph.name, version=graph.version, driver=IN_PROCESS)
    return insist(lambda: store.create(record, message))


def advance(store: CheckpointStore, graph: CompiledGraph, thread_id: str) -> bool:
    """Bring a thread of this process further, as somebody's program would. Whether it has ended.

    Raises one of `IN_DOUBT` where the same call has to be made again.
    """
    config = {"configurable": {"thread_id": thread_id}}
    record = store.thread(thread_id)
    if record.status.ended:
        return True
    if record.status is not Status.INTERRUPTED:
        graph.invoke(None, config)
        return False
    (question,) = graph.get_state(config).interrupts
    said = answer_to(question.value)
    # As it comes: as a message with an id of its own, and by `invoke`, which draws a new one at each attempt.
    if record.inbox % 2:
        answer(store, graph, thread_id, question.id, said)
    else:
        graph.invoke(Command(resume={question.id: said}), config)
    return False


def answer(store: CheckpointStore, graph: CompiledGraph, thread_id: str, wait: str, said: str) -> Delivery:
    """Answer an interrupt."""
    message = Message(message_id=f"answer to {wait}", kind=RESUME, payload=pack(graph.codec, wait, said, None))
    return insist(lambda: store.deliver(thread_id, message, Expect(statuses=LIVE, wait=wait)))


def say(
    store: CheckpointStore,
    graph: CompiledGraph,
    thread_id: str,
    text: str,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Add `text` to what a talk has heard. Whether the thread took it: not if it had ended. `stop` is that of
    `insist`."""
    message = Message(message_id=text, kind=UPDATE, payload=pack(graph.codec, {"heard": [text]}, None, 0))
    try:
        insist(lambda: store.deliver(thread_id, message, Expect(statuses=LIVE)), stop)
    except Refused:
        return False
    return True


class Talker(threading.Thread):
    """A client that says things to whatever threads are alive."""

    def __init__(self, store: CheckpointStore, graph: CompiledGraph, number: int) -> None:
        super().__init__(name=f"talker {number}", daemon=True)
        self.said = 0
        """What was taken."""
        self.refused = 0
        self.error: BaseException | None = None
        self._store = store
        self._graph = graph
        self._random = Random(number)
        self._ended = threading.Event()
        self._given_up = threading.Event()

    def end(self) -> None:
        """Return when what it was saying was heard or refused."""
        self._ended.set()
        self.join()
        if self.error is not None:
            raise self.error

    def give_up(self) -> None:
        """End without insisting on an answer: the test has failed, and its server may be away for good."""
        self._ended.set()
        self._given_up.set()
        self.join()

    def run(self) -> None:
        where = ThreadFilter(graph=self._graph.name, statuses=LIVE)
        try:
            while not self._ended.wait(0.005):
                try:
                    alive = self._store.threads(where, limit=20).threads
                except StoreUnavailable:
                    continue
                if alive:
                    chosen = self._random.choice(alive)
                    text = f"{self.name}: {self.said + self.refused}"
                    taken = say(self._store, self._graph, chosen.thread_id, text, self._given_up.is_set)
                    self.said += taken
                    self.refused += not taken
        except BaseException as error:
            self.error = error
