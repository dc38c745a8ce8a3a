"""The process's long-lived event loop, for async nodes called from the engine's threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Portal(Protocol):
    """Runs a coroutine from a thread that is not the loop's."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; blocks the calling thread."""
        ...

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it beside the caller."""
        ...


class LoopPortal:
    """A portal to an event loop that runs in another thread. Context variables of the caller are seen by the
    coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        future: Future[T] = Future()
        context = copy_context()

        def begin() -> None:
            task = self._loop.create_task(coroutine, context=context)
            task.add_done_callback(lambda done: _copy(done, future))
            future.add_done_callback(lambda wanted: wanted.cancelled() and self._loop.call_soon_threadsafe(task.cancel))

        self._loop.call_soon_threadsafe(begin)
        return future

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.start(coroutine).result()


def in_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run `work` on a thread of its own, for a caller on an event loop. The loop's default executor will not do: runs
    that fill it would wait for their own nodes, which may use it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = context.run(work)
        except StopIteration as error:  # which a future does not take, nor a coroutine raise
            failed = RuntimeError("a node raised StopIteration")
            failed.__cause__ = error
        except BaseException as error:  # noqa: BLE001 — raised again where the future is awaited
            failed = error
        with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            loop.call_soon_threadsafe(deliver, result, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _copy(task: asyncio.Task[T], future: Future[T]) -> None:
    if future.cancelled() or not future.set_running_or_notify_cancel():
        return
    if task.cancelled():
        future.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


class BackgroundLoop(LoopPortal):
    """An event loop on a daemon thread of its own. Async clients that nodes cache live as long as it does."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._serve, name="perdure-async-nodes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loop and end its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
