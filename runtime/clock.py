"""The outside world as the engine sees it: time and randomness, handed in so that a simulator can hand in others."""

from __future__ import annotations

import os
import time
from typing import Protocol


class Clock(Protocol):
    """Time and unique ids."""

    def time(self) -> float:
        """Unix seconds, for people to read."""
        ...

    def monotonic(self) -> float:
        """Seconds from some fixed moment, for measuring."""
        ...

    def unique(self) -> str:
        """An id that nobody else has."""
        ...


class SystemClock:
    """The machine's clock and random source."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def unique(self) -> str:
        return os.urandom(16).hex()
