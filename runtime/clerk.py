"""Answers what running nodes ask of their thread's owner: records their calls, hands out signals, keeps heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..stores.errors import StoreError
from .apply import Applier
from .calls import Call
from .clock import Clock
from .desk import Beat, Enter, NodeCancelled, Record, Request, Surroundings, Take, Ticket
from .errors import PerdureError, UnencodableState
from .plan import signal_of
from .position import Heartbeat
from .recorder import Recorder
from .task import Origin
from .writer import Lane, Shield

T = TypeVar("T")

FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 1.0, 1.1, 5.0
"""Seconds between two commits of heartbeats: a task that beats for hours leaves no more than so many."""


class StepDesk:
    """The desk of one step's nodes (`desk.Desk`), in the process of their thread's owner."""

    __slots__ = ("_clerk", "_origin", "ticket")

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk
        self._origin: Origin | None = None
        self.ticket: Ticket = clerk.ticket

    @property
    def origin(self) -> Origin:
        """Where the step's tasks belong."""
        if self._origin is None:
            self._origin = self._clerk.origin()
        return self._origin

    @property
    def surroundings(self) -> Surroundings | None:
        """What its owner's process has around the thread."""
        return self._clerk.surroundings

    def ask(self, request: Request) -> Future[Any]:
        """Ask the owner, from any thread."""
        return self._clerk.answer(self.ticket, request)

    def wait(self, answer: Future[Any]) -> Any:
        """The answer; writes on this thread what it waits for."""
        return self._clerk.wait(answer)

    def hurry(self) -> None:
        """Somebody waits for an answer without blocking a thread: another has to write."""
        self._clerk.lane.hurry()


class Clerk:
    """Works for one loop. The two share the thread's position: whoever works with it holds `monitor`, which the loop
    gives away while it waits and while a node runs on its own thread."""

    def __init__(
        self, graph: str, thread_id: str, recorder: Recorder, applier: Applier, clock: Clock, shield: Shield
    ) -> None:
        self.shield = shield
        self.monitor = threading.Lock()
        self.at = recorder.at
        self.inside = ""
        """Path of the task that runs on the loop's thread."""
        self.batch = 0
        """Rises when tasks are stopped: what they ask or end with afterwards is nobody's."""
        self.lane: Lane
        self.surroundings: Surroundings | None = None
        """What this process has around the thread."""
        self._graph = graph
        self._thread_id = thread_id
        self._recorder = recorder
        self._applier = applier
        self._clock = clock
        self._closed = False
        self._told: set[str] = set()
        """Paths of the tasks whose newest heartbeat is not written down."""
        self._pause = FIRST_PAUSE
        self._next_beat = 0.0

    def close(self) -> None:
        """The loop has ended: nobody is answered any more."""
        self._closed = True

    def origin(self) -> Origin:
        """Where the tasks of the step in progress belong."""
        at = self.at
        return Origin(self._graph, self._thread_id, at.branch, at.run, at.born, at.step + 1)

    @property
    def ticket(self) -> Ticket:
        """Names the step in progress."""
        return self.at.branch, self.at.born, self.batch

    def wait(self, answer: Future[T]) -> T:
        """An answer's result; writes on the calling thread what it waits for."""
        return self.lane.wait(answer, self.shield)

    def answer(self, ticket: Ticket, request: Request) -> Future[Any]:
        """Do what a node asks for. From any thread."""
        answer: Future[Any] = Future()
        with self.shield(), self.monitor:
            if not self._serves(ticket, request.path):
                answer.set_exception(NodeCancelled())
                return answer
            try:
                self._do(request, answer)
            except (PerdureError, StoreError) as error:
                answer.set_exception(error)
        return answer

    def _serves(self, ticket: Ticket, path: str) -> bool:
        return not self._closed and ticket == self.ticket and (path == self.inside or path in self.at.running)

    def _do(self, request: Request, answer: Future[Any]) -> None:
        if isinstance(request, Enter):
            known = self._known(request.path, request.index)
            self._recorder.seal()
            self._when_durable(answer, lambda: known)
        elif isinstance(request, Record):
            call = self._record(request)
            self._recorder.seal()
            self._when_durable(answer, lambda: call)
        elif isinstance(request, Take):
            answer.set_result(self._known(request.path, request.index) or self._take(request))
        else:
            self._beat(request)
            answer.set_result(None)

    def _known(self, path: str, index: int | None) -> Call | None:
        # An execution whose process was lost may have been started again with what was known when it was first.
        return self.at.calls.get(path, {}).get(index) if index is not None else None

    def _record(self, request: Record) -> Call:
        known = self._known(request.path, request.index)
        if known is not None:
            return known
        try:
            self._recorder.call(request.path, request.index, request.call)
        except UnencodableState as error:
            node = request.path.partition("#")[0]
            where = f"thread {self._thread_id!r}: node {node!r} of graph {self._graph!r}, call {request.index}"
            error.args = (
                f"{where}: the result of {request.call}, of type {error.type_name}, cannot be stored; return plain "
                "data, or name the class in the state schema or in compile(allow=[...])",
            )
            raise
        return request.call

    def _take(self, request: Take) -> Call | None:
        message = signal_of(self.at, request.name)
        if message is None:
            return None
        call = self._applier.receive(request.path, request.index, message)
        self._recorder.seal()
        return call

    def _when_durable(self, answer: Future[Any], value: Callable[[], Any]) -> None:
        def tell(durable: Future[None]) -> None:
            if durable.exception() is None:
                answer.set_result(value())
            else:
                # The loop hears of it as well: the thread is another's, or the store has refused for good.
                answer.set_exception(NodeCancelled())

        self.lane.durable().add_done_callback(tell)

    # -- heartbeats ------------------------------------------------------------------------------------------------

    def _beat(self, request: Beat) -> None:
        beat = Heartbeat(request.progress, self._clock.time())
        self._recorder.check(request.path, request.progress)
        self.at.beats[request.path] = beat
        self._told.add(request.path)
        if self.beats_due() <= 0:
            self.write_beats()

    def beats_due(self) -> float:
        """Seconds until heartbeats are to be written; infinite if there are none."""
        return self._next_beat - self._clock.monotonic() if self._told else float("inf")

    def note_beats(self) -> None:
        """Record the newest heartbeats in the commit that comes next."""
        for path in sorted(self._told):
            if path in self.at.beats:
                self._recorder.beat(path, self.at.beats[path])
        self._told.clear()

    def write_beats(self) -> None:
        """Record the newest heartbeats now."""
        self.note_beats()
        self._recorder.hand_over()
        self._next_beat = self._clock.monotonic() + self._pause
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
