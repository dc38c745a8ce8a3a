"""Tells an observer what a thread did, once it can no longer be lost."""

from __future__ import annotations

from collections import deque
from typing import Any

from .draft import Draft
from .ports import Observer, StepEvent, Told
from .recorder import Recorder


class Announcer:
    """Notes events in the commits that make them true, and tells them in order when those are durable."""

    def __init__(self, observer: Observer | None, recorder: Recorder) -> None:
        self.observer = observer
        """Who is told; None if nobody listens, and then nothing is noted."""
        self._recorder = recorder
        self._held: deque[tuple[int, list[Any]]] = deque()
        """(seq, events) of each commit handed over and not durable yet."""

    def note(self, source: str, updates: tuple[tuple[str, Told], ...] = (), interrupts: tuple[Any, ...] = ()) -> None:
        """Put an event into the open draft, with the state as it is now."""
        if self.observer is None:
            return
        at, draft = self._recorder.at, self._recorder.open()
        draft.events.append(StepEvent(draft.seq, at.step, source, at.values.copy(), updates, interrupts))

    def hold(self, draft: Draft) -> None:
        """Keep the events of a draft that was handed over."""
        self._held.append((draft.seq, draft.events))

    def tell(self, durable: int) -> None:
        """Tell what the commits up to seq `durable` hold."""
        while self._held and self._held[0][0] <= durable:
            _, events = self._held.popleft()
            if self.observer is not None:
                for event in events:
                    self.observer(event)

    def take_back(self, draft: Draft) -> None:
        """Forget that the thread stopped with this draft, the last one held, which was not written: mail came first."""
        if self._held and self._held[-1][0] == draft.seq:
            self._held.pop()
        draft.events = [event for event in draft.events if not event.interrupts]
