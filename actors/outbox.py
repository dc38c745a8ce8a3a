"""What an actor has to tell its supervisor, kept until it was heard."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """News in order, numbered from 1. One reader at a time; each call of `read` says what it has heard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news: deque[T] = deque()
        self._heard = 0
        """Number of the last one that was heard; `_news` begins after it."""

    def add(self, one: T) -> None:
        """Something to tell."""
        with self._changed:
            self._news.append(one)
            self._changed.notify_all()

    @property
    def told(self) -> int:
        """Number of the last one."""
        with self._changed:
            return self._heard + len(self._news)

    def read(self, heard: int, timeout: float) -> tuple[int, list[T]]:
        """What comes after number `heard`, and the number of the last; waits until there is any, at most `timeout`
        seconds. A reader that heard nothing yet (0) is told all that is kept."""
        with self._changed:
            while self._heard < heard and self._news:
                self._news.popleft()
                self._heard += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._news), timeout)
            return self._heard + len(self._news), list(self._news)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until all was heard, at most `timeout` seconds; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._news, timeout)
