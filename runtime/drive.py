"""Drives a loop on an operating system thread: waits where it waits, and writes where it is the one that needs the
write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import ParamSpec, TypeVar

import tenacity

from ..stores.errors import StoreFull, StoreUnavailable
from .loop import ThreadLoop
from .ports import Event, Need
from .settled import Settled
from .writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

STORE_BACKOFF = tenacity.wait_exponential(multiplier=0.05, max=2.0) + tenacity.wait_random(0, 0.05)
"""Seconds between attempts on a store that is away."""

STORE_PATIENCE = timedelta(seconds=30)
"""How long a call in the user's process waits for a store that is away before it raises."""


def store_backoff(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th failure in a row, from 1."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return STORE_BACKOFF(state)


def _no_work() -> Iterator[None]:
    return iter(())


def patient(call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """`call`, made again while the store is away, for `STORE_PATIENCE` at most. All attempts have the same arguments: a
    call of a store that was applied although its answer was lost is not applied twice.

    Raises `StoreUnavailable` at last; at once whatever else the call raises, `StoreFull` too: to make room is the
    caller's affair.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_passes),
        wait=STORE_BACKOFF,
        stop=tenacity.stop_after_delay(STORE_PATIENCE),
        reraise=True,
    )
    return retrying(call, *args, **named)


def _passes(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreFull)


class Driver:
    """Runs one loop to its end on the calling thread."""

    def __init__(self, loop: ThreadLoop, writer: Writer) -> None:
        self._loop = loop
        self._writer = writer
        self._wake = threading.Event()
        self._store_failures = 0

    def post(self, event: Event) -> None:
        """Tell the loop something; from any thread."""
        self._loop.events.append(event)
        self._wake.set()

    def run(self) -> Settled:
        """Drive until the thread is given up. Raises what the loop raises."""
        steps = self._loop.run()
        while True:
            try:
                need = next(steps)
            except StopIteration as end:
                settled: Settled = end.value
                return settled
            self._wait(need)

    def _wait(self, need: Need) -> None:
        if need in (Need.DURABLE, Need.ROOM) and self._flush():
            return
        timeout = self._loop.patience() if need is Need.EVENT else None
        if need is Need.STORE:
            self._store_failures += 1
            timeout = store_backoff(self._store_failures)
        self._wake.wait(timeout)
        # Cleared before the loop looks at its events: one that comes in between is seen, and wakes once too often.
        self._wake.clear()

    def _flush(self) -> bool:
        """Write on this thread rather than wait for another to be scheduled. False if there was nothing, or no
        store."""
        try:
            return self._writer.flush()
        except StoreUnavailable:
            self._writer.nudge()
            return False


class WriterThread:
    """Writes in the background whatever a writer has queued, and tries again while the store is away."""

    def __init__(self, writer: Writer, patience: timedelta | None = None) -> None:
        self.between: Callable[[], Iterator[None]] = _no_work
        """Small pieces of other work, to be done while there is nothing to write."""
        self._writer = writer
        self._patience = patience.total_seconds() if patience is not None else None
        self._work = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        writer.on_work(self._wake)

    def close(self) -> None:
        """Write what is queued, if the store answers, and end the thread."""
        self._closed = True
        self._work.set()
        if self._thread is not None:
            self._thread.join()

    def _wake(self) -> None:
        if not self._work.is_set():
            self._work.set()
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="perdure-writer", daemon=True)
                    self._thread.start()

    def _serve(self) -> None:
        failures, waited = 0, 0.0
        while True:
            self._work.wait()
            self._work.clear()
            try:
                while self._writer.flush():
                    failures, waited = 0, 0.0
                failures = 0
                for _ in self.between():
                    while self._writer.flush():
                        pass
            except StoreUnavailable as error:
                failures += 1
                pause = store_backoff(failures)
                waited += pause
                if self._closed or (self._patience is not None and waited > self._patience):
                    self._writer.give_up(error)
                    failures, waited = 0, 0.0
                else:
                    time.sleep(pause)
                    self._work.set()
            if self._closed and not self._writer.busy:
                return
