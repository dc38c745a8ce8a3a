"""The threads that wait for an actor, in the order in which they are to be served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A runnable thread without an owner."""

    thread_id: str
    epoch: int
    """The epoch at which it was seen; a claim succeeds only if that still stands."""
    graph_key: str
    crashed: bool = False
    """Its last owner crashed: counts against the thread's crash budget."""
    shared: bool = False
    """It may run beside others in one process."""
    near: str = ""
    """An actor that has read its state already."""
    not_before: float = 0.0
    """When it may be restarted (monotonic seconds), after several crashes."""
    crashes: int = 0
    """Crashes since its last durable progress, as far as is known, the last one included."""


class Line:
    """First come, first served within a graph; those that lost their actor in a crash before all others. Which graph
    comes next is not decided here: see `roster.Roster.plan`."""

    def __init__(self, threads: Iterable[Waiting] = ()) -> None:
        self._threads: dict[str, Waiting] = {}
        self._crashed: dict[str, Waiting] = {}
        self._graphs: dict[str, dict[str, Waiting]] = {}
        self._later: dict[str, Waiting] = {}
        for thread in threads:
            self.add(thread)

    def __contains__(self, thread_id: str) -> bool:
        return thread_id in self._threads

    def __len__(self) -> int:
        return len(self._threads)

    def get(self, thread_id: str) -> Waiting | None:
        """A thread that waits."""
        return self._threads.get(thread_id)

    def add(self, thread: Waiting) -> None:
        """Put a thread at the end; one that waits already keeps its place."""
        if thread.thread_id in self._threads:
            return
        self._threads[thread.thread_id] = thread
        if thread.not_before > 0:
            self._later[thread.thread_id] = thread
        else:
            self._place(thread)

    def remove(self, thread_id: str) -> Waiting | None:
        """Take a thread out; None if it does not wait."""
        thread = self._threads.pop(thread_id, None)
        if thread is not None:
            self._later.pop(thread_id, None)
            self._crashed.pop(thread_id, None)
            queue = self._graphs.pop(thread.graph_key, {})
            queue.pop(thread_id, None)
            if queue:
                self._graphs[thread.graph_key] = queue  # it has had its turn: behind the others
        return thread

    def hasten(self, thread_id: str) -> None:
        """Somebody asks for a thread: it need not wait for its restart any longer."""
        thread = self._later.pop(thread_id, None)
        if thread is not None:
            self._place(thread)

    def ripen(self, now: float) -> None:
        """Let those whose time has come take their places."""
        for thread in [thread for thread in self._later.values() if thread.not_before <= now]:
            self.hasten(thread.thread_id)

    def of_graph(self, graph_key: str) -> list[Waiting]:
        """All that wait for this graph, those that may not be restarted yet included."""
        return [thread for thread in self._threads.values() if thread.graph_key == graph_key]

    def wants(self, graph_key: str) -> bool:
        """Whether any thread waits for this graph."""
        return graph_key in self._graphs or any(
            thread.graph_key == graph_key for thread in (*self._crashed.values(), *self._later.values())
        )

    @property
    def crashed(self) -> tuple[Waiting, ...]:
        """Those that go first."""
        return tuple(self._crashed.values())

    def queues(self) -> dict[str, Iterator[Waiting]]:
        """The others, by graph; the graph that has not had its turn for the longest time first."""
        return {graph_key: iter(queue.values()) for graph_key, queue in self._graphs.items()}

    def _place(self, thread: Waiting) -> None:
        if thread.crashed:
            self._crashed[thread.thread_id] = thread
        else:
            self._graphs.setdefault(thread.graph_key, {})[thread.thread_id] = thread
