"""Many hosted threads on few OS threads.

A loop is a generator: it says what it waits for, and is resumed when that has come. Loops take turns on one worker as
long as turns are short. A turn that takes long (a node that blocks, or computes) keeps its worker to itself: another
one is added for those that are ready, so that no thread waits for the nodes of its neighbours.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import TypeAlias

from ..runtime.writer import Writer

TICK = 0.005
"""Seconds between two looks whether those that are ready have to wait."""
LONG = 0.01
"""Seconds after which a turn is a long one."""
KEPT = 5.0
"""Seconds after which a worker without work ends."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What a life waits for, beside being woken."""

    writing: bool = False
    """That what it has queued is written."""
    seconds: float | None = None
    """A time after which it wants a turn anyway; None for none."""


Life: TypeAlias = Generator[Rest, None, None]
"""What a hosted thread does from its restore to its end. Raises nothing."""


class _State(Enum):
    WAITING = auto()
    READY = auto()
    AT_WORK = auto()
    ENDED = auto()


@dataclass(slots=True, eq=False)
class _Seat:
    """One hosted thread's place."""

    life: Life
    state: _State = _State.WAITING
    again: bool = False
    """Something was posted while it was at work: what it waits for may have come already."""
    due: float = math.inf
    """When its next timer is (monotonic seconds)."""


class Scheduler:
    """Gives lives their turns. Safe to use from several threads."""

    def __init__(self, writer: Writer, most: int) -> None:
        """At most `most` workers; as many as there may be lives, or some would wait for the nodes of others."""
        self._writer = writer
        self._most = most
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        """Something is ready, for a worker without work."""
        self._pressed = threading.Condition(self._lock)
        """Something is ready and all are at work, or there is a new timer: for the watch."""
        self._ready: deque[_Seat] = deque()
        self._turns: dict[int, float] = {}
        """When the turn of each worker that is at work began (monotonic seconds)."""
        self._workers = 0
        self._idle = 0
        self._timers: list[tuple[float, int, _Seat]] = []
        self._numbers = count()
        self._watched = False

    def add(self, begin: Callable[[Callable[[], None]], Life]) -> None:
        """Give a life turns from now on. `begin` is handed what wakes it: to be called after each event that was put
        where the life looks for it."""
        # The life has to have the call before there is a seat, and the seat holds the life.
        seats: list[_Seat] = []
        seat = _Seat(begin(lambda: self._wake(seats[0])))
        seats.append(seat)
        self._wake(seat)

    @property
    def workers(self) -> int:
        """How many OS threads there are."""
        return self._workers

    def _wake(self, seat: _Seat) -> None:
        with self._lock:
            self._woken(seat)

    def _woken(self, seat: _Seat) -> None:
        if seat.state is _State.AT_WORK:
            seat.again = True
        elif seat.state is _State.WAITING:
            seat.state = _State.READY
            self._ready.append(seat)
            if self._idle:
                self._work.notify()
            elif not self._workers:
                self._hire()
            else:
                self._pressed.notify()

    def _hire(self) -> None:
        threading.Thread(target=self._serve, name="perdure-shared", daemon=True).start()
        self._workers += 1
        if not self._watched:
            threading.Thread(target=self._watch, name="perdure-shared-watch", daemon=True).start()
            self._watched = True

    # -- workers -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (seat := self._next()) is not None:
            try:
                rest = next(seat.life)
            except StopIteration:
                seat.state = _State.ENDED
                continue
            if rest.writing:
                # Not written here: while others have their turns, what they need written joins it.
                self._writer.nudge()
            self._rest(seat, rest)

    def _next(self) -> _Seat | None:
        me = threading.get_ident()
        with self._lock:
            self._turns.pop(me, None)
            while not self._ready:
                self._idle += 1
                called = self._work.wait(KEPT)
                self._idle -= 1
                if not called and not self._ready:
                    self._workers -= 1
                    return None
            seat = self._ready.popleft()
            seat.state, seat.again = _State.AT_WORK, False
            self._turns[me] = time.monotonic()
            return seat

    def _rest(self, seat: _Seat, rest: Rest) -> None:
        with self._lock:
            seat.state = _State.WAITING
            if seat.again:
                self._woken(seat)
            elif rest.seconds is not None and (due := time.monotonic() + rest.seconds) < seat.due:
                # One that is set already and comes earlier only brings a turn too many.
                seat.due = due
                heapq.heappush(self._timers, (due, next(self._numbers), seat))
                self._pressed.notify()

    # -- the watch -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        with self._lock:
            while True:
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    due, _, seat = heapq.heappop(self._timers)
                    if seat.due == due:
                        seat.due = math.inf
                        self._woken(seat)
                if not self._ready or self._idle:
                    self._pressed.wait(self._timers[0][0] - now if self._timers else None)
                    continue
                # A tick first: most of the time the workers get to it by themselves.
                self._pressed.wait_for(lambda: False, TICK)
                self._help(time.monotonic() - LONG)

    def _help(self, long_before: float) -> None:
        """Where every worker is in a long turn, double them: of a hundred that block none waits long."""
        if self._idle or any(began > long_before for began in self._turns.values()):
            return
        for _ in range(min(len(self._ready), self._workers or 1, self._most - self._workers)):
            try:
                self._hire()
            except RuntimeError:
                return  # the process may have no more OS threads; those that it has go on, the next look tries again
