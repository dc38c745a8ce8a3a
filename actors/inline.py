"""A node on the hosted thread's own OS thread, which can be told to stop."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from ..runtime.commands import Send
from ..runtime.desk import NodeCancelled
from ..runtime.execute import Step, execute, route
from ..runtime.portal import Portal
from ..runtime.task import Failed, Outcome, Task


class _StoppablePortal:
    """A portal whose running call can be cancelled."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._futures: set[Future[Any]] = set()

    def start(self, coroutine: Any) -> Future[Any]:
        future = self._portal.start(coroutine)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def run(self, coroutine: Any) -> Any:
        return self.start(coroutine).result()

    def cancel(self) -> None:
        for future in list(self._futures):
            future.cancel()


class InlineExecutor:
    """Runs nodes on the calling thread; `stop` raises `NodeCancelled` in the node that runs.

    The exception reaches Python code only: a node that is inside a long call to C loses its process instead, when its
    actor's grace has passed.
    """

    def __init__(self, portal: Callable[[], Portal]) -> None:
        self._make_portal = portal
        self._stoppable: _StoppablePortal | None = None
        self._inside = threading.Lock()
        self._thread = 0
        self._raised = False
        self._shielded = False
        self._deferred = False
        self._unwanted = False

    @property
    def in_node(self) -> bool:
        """Whether a node runs inline at this moment."""
        return bool(self._thread)

    def run(self, step: Step, task: Task) -> Outcome:
        """Run one task on this thread."""
        try:
            with self._inside:
                if self._unwanted:
                    self._unwanted = False
                    return _stopped(task)
                self._thread = threading.get_ident()
            outcome = execute(step, task, self._portal)
            self._leave()
            return outcome
        except NodeCancelled:
            # Raised into this thread, but delivered only after the node had returned.
            self._leave()
            return _stopped(task)

    def route(self, step: Step, source: str, writes: tuple[tuple[str, Any], ...]) -> tuple[str | Send, ...]:
        """Ask conditional edges, on this thread."""
        return route(step, source, writes, self._portal)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Not to be stopped in the middle: the engine's own work on the node's thread. Stopped before or after it."""
        if threading.get_ident() != self._thread:
            yield
            return
        with self._inside:
            if self._raised:
                # It is on its way: rather here than in what is to be shielded.
                raise NodeCancelled
            self._shielded = True
        try:
            yield
        finally:
            with self._inside:
                wanted, self._shielded, self._deferred = self._deferred, False, False
        if wanted:
            raise NodeCancelled

    def stop(self) -> None:
        """Raise `NodeCancelled` in the node that runs, if one does; from any thread."""
        with self._inside:
            if not self._thread:
                return
            if self._stoppable is not None:
                self._stoppable.cancel()
            if self._shielded:
                self._deferred = True
                return
            # Once: `run` is ready for one at any point, but a second could hit it while it takes care of the first.
            if self._thread != threading.get_ident() and not self._raised:
                self._raised = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(NodeCancelled)
                )

    def stop_node(self) -> bool:
        """Stop the node that runs; if none does, the next one does not start: it may be about to. Whether one ran.

        A node that was kept from starting for nothing is simply started again.
        """
        with self._inside:
            running = bool(self._thread)
            self._unwanted = not running
        if running:
            InlineExecutor.stop(self)
        return running

    def _leave(self) -> None:
        with self._inside:
            if self._raised:
                # Perhaps not delivered yet: taken back, or it would hit the engine instead of the node. It may still
                # come right here; then `run` comes back, and taking it back twice does no harm.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread, self._raised, self._shielded, self._deferred = 0, False, False, False

    def _portal(self) -> Portal:
        if self._stoppable is None:
            self._stoppable = _StoppablePortal(self._make_portal())
        return self._stoppable


def _stopped(task: Task) -> Failed:
    return Failed(task.path, task.node, "Cancelled", "the node was stopped from outside", cancelled=True)
