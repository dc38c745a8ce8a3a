"""Runs nodes in this process: one inline, several on threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, TypeVar

from .commands import Send
from .desk import NodeCancelled
from .execute import Step, execute, route
from .portal import LoopPortal, Portal
from .task import Outcome, Task

T = TypeVar("T")


class CallerLoop(LoopPortal):
    """The event loop of an `ainvoke`. Its caller may be cancelled, and the nodes that run there with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._running: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Cancel what runs, and what is started from now on. Called on the loop's thread."""
        self._stopped = True
        for task in self._running:
            task.cancel()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return super().run(self._tracked(coroutine))
        except asyncio.CancelledError:
            if self._stopped:
                raise NodeCancelled from None
            raise

    async def _tracked(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._stopped:
            coroutine.close()
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await coroutine
        finally:
            self._running.discard(task)


class LocalExecutor:
    """Nodes on this process's threads. Async nodes run on the portal's event loop; each holds a waiting thread."""

    def __init__(self, portal: Callable[[], Portal]) -> None:
        self._portal = portal
        self._pool: ThreadPoolExecutor | None = None
        self._async_pool: ThreadPoolExecutor | None = None

    def run(self, step: Step, task: Task) -> Outcome:
        """Run one task on the calling thread."""
        return execute(step, task, self._portal)

    def start(self, step: Step, tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        """Run tasks side by side, sync ones on as many threads as the machine has cores to spare."""
        for task in tasks:
            pool = self._pool_of(step.topology.nodes[task.node].is_async)
            pool.submit(copy_context().run, self._run_one, step, task, ended)

    def route(self, step: Step, source: str, writes: tuple[tuple[str, Any], ...]) -> tuple[str | Send, ...]:
        """Ask conditional edges, on the calling thread."""
        return route(step, source, writes, self._portal)

    def shield(self) -> AbstractContextManager[None]:
        """What runs here cannot be stopped from outside."""
        return nullcontext()

    def stop(self) -> None:
        """Start nothing more. What runs cannot be stopped from outside and is not waited for."""
        for pool in (self._pool, self._async_pool):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._async_pool = None

    def _run_one(self, step: Step, task: Task, ended: Callable[[Outcome], None]) -> None:
        ended(execute(step, task, self._portal))

    def _pool_of(self, is_async: bool) -> ThreadPoolExecutor:
        if is_async:
            self._async_pool = self._async_pool or ThreadPoolExecutor(256, thread_name_prefix="perdure-async-node")
            return self._async_pool
        workers = min(32, (os.cpu_count() or 1) + 4)
        self._pool = self._pool or ThreadPoolExecutor(workers, thread_name_prefix="perdure-node")
        return self._pool
