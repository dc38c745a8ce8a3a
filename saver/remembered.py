"""A bounded memory: what was used least recently goes first."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """A mapping whose entries weigh at most `most` together. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._lock = Lock()
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The entry, which counts as used; None if there is none (any more)."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value, weight: int = 1) -> None:
        """Keep an entry, unless it alone is too heavy."""
        with self._lock:
            self._remove(key)
            if weight > self._most:
                return
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._most:
                _, (_, gone) = self._entries.popitem(last=False)
                self._weight -= gone

    def drop(self, key: Key) -> None:
        """Forget an entry."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._weight = 0

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry[1]
