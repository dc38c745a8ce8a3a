"""Which fault strikes when: drawn from a seed before anything happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

WEIGHTS = {
    "kill owner": 6,
    "kill spare": 2,
    "kill worker": 3,
    "kill supervisor": 1,
    "freeze owner shortly": 2,
    "freeze owner": 1,
    "store away": 1,
    "store gone": 1,
}
"""How often each strikes, against the others."""

GAPS = (0.2, 1.6)
"""Seconds between two faults: least and most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something bad."""

    at: float
    """Seconds from the beginning."""
    kind: str
    choice: float
    """Picks the victim: a place between the first (0) and the last (1) of those that there are."""
    length: float
    """How long it lasts, as a share of the longest that this kind may last."""

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.kind} (choice {self.choice:.2f}, length {self.length:.2f})"


def draw(seed: int, seconds: float) -> Iterator[Fault]:
    """The faults of so many seconds. The same for the same seed."""
    random = Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    at = random.uniform(*GAPS)
    while at < seconds:
        (kind,) = random.choices(kinds, weights)
        yield Fault(round(at, 3), kind, random.random(), random.random())
        at += random.uniform(*GAPS)
