"""The timers that run out before long: pure bookkeeping, fed with two clocks."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from itertools import count

from ..stores.records import ThreadRecord


class Stage(IntEnum):
    """What comes next for a thread that is about to wake."""

    PREPARE = 0
    """Have a process ready that has its graph loaded."""
    PRELOAD = 1
    """Have that process read its state."""
    WAKE = 2


LEAD = {Stage.PREPARE: 1.0, Stage.PRELOAD: 0.1, Stage.WAKE: 0.0}
"""Seconds before its time at which each is done: starting a process takes half a second, reading a state some
milliseconds."""


@dataclass(slots=True)
class Timer:
    """One parked thread that is due before long."""

    row: ThreadRecord
    """As it was parked."""
    due: float
    """When, in monotonic seconds."""
    stage: Stage
    entry: int = 0
    """Number of its place in the heap; others that it had are void."""


class Upcoming:
    """A heap of timers. Once noted, a timer runs by the monotonic clock, so that a machine's clock that is set back
    meanwhile does not delay it; one that is set forward brings it nearer when it is noted again."""

    def __init__(self) -> None:
        self._timers: dict[str, Timer] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._timers)

    def note(self, row: ThreadRecord, wall: float, now: float) -> None:
        """A thread is parked until `row.wake_at`. `wall` is the Unix time and `now` the monotonic one."""
        due = now + max(0.0, row.wake_at - wall)
        known = self._timers.get(row.thread_id)
        if known is not None and known.row.seq == row.seq:
            if due >= known.due - 1e-3:
                return
            known.due = due
            timer = known
        else:
            timer = self._timers[row.thread_id] = Timer(row, due, Stage.PREPARE)
        self._place(timer)

    def take(self, now: float) -> list[tuple[Timer, Stage]]:
        """What is to be done now, and for whom; a timer whose stage is `WAKE` is forgotten by it."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, entry, thread_id = heapq.heappop(self._heap)
            timer = self._timers.get(thread_id)
            if timer is None or timer.entry != entry:
                continue
            # What is late skips what would have come before.
            while timer.stage is not Stage.WAKE and timer.due - LEAD[Stage(timer.stage + 1)] <= now:
                timer.stage = Stage(timer.stage + 1)
            found.append((timer, timer.stage))
            if timer.stage is Stage.WAKE:
                del self._timers[thread_id]
            else:
                timer.stage = Stage(timer.stage + 1)
                self._place(timer)
        return found

    def pause(self, now: float) -> float | None:
        """Seconds until there is something to take; None if nothing is noted."""
        while self._heap:
            moment, entry, thread_id = self._heap[0]
            timer = self._timers.get(thread_id)
            if timer is not None and timer.entry == entry:
                return max(0.0, moment - now)
            heapq.heappop(self._heap)
        return None

    def graphs(self) -> Counter[str]:
        """Graphs of the threads for which a process is to be ready, and how many each."""
        return Counter(timer.row.graph_key for timer in self._timers.values() if timer.stage is not Stage.PREPARE)

    def _place(self, timer: Timer) -> None:
        timer.entry = next(self._numbers)
        heapq.heappush(self._heap, (timer.due - LEAD[timer.stage], timer.entry, timer.row.thread_id))
