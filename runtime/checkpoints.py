"""Which steps of a run become full checkpoints, and `checkpoint()`, by which a node asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .errors import InputError
from .scope import scope_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """How often a run leaves a full checkpoint: a state that readers see, that forks start from, and from which the run
    goes on after a crash. Nodes that ran since the last one run again then.

    Give one of the three; without any, every step is one. Only full checkpoints are thinned. Messages, interrupts,
    results of nodes that ran side by side and the ends of runs are committed at once, with the checkpoint that they
    belong to. So is a checkpoint before a node marked `effects=True`, and every one for a while after a crash.
    With `durability="exit"` only the end of the run, its stops, and `checkpoint()` leave one. Raises `InputError`.
    """

    every: int = 1
    """After so many steps; at least 1."""
    interval: timedelta | None = None
    """After the first step to end this long after the last one; above zero. Looked at between steps only."""
    manual: bool = False
    """Only after steps in which a node called `checkpoint()`."""

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InputError(f"Checkpoints: every is {self.every!r}; give a whole number of steps, at least 1")
        if self.interval is not None and (not isinstance(self.interval, timedelta) or self.interval <= timedelta(0)):
            raise InputError(f"Checkpoints: interval is {self.interval!r}; give a timedelta above zero")
        if not isinstance(self.manual, bool):
            raise InputError(f"Checkpoints: manual is {self.manual!r}; give True or False")
        if (self.every > 1) + (self.interval is not None) + self.manual > 1:
            raise InputError(f"{self!r}: give only one of every, interval and manual")

    def full(self, steps: int, seconds: float) -> bool:
        """Whether a step becomes a full checkpoint: the `steps`-th after the last one, `seconds` after it. An input
        counts as step 0."""
        if self.manual:
            return False
        if self.interval is not None:
            return seconds >= self.interval.total_seconds()
        return steps >= self.every or self.every == 1

    def to_data(self) -> dict[str, Any]:
        """The policy as plain data."""
        if self.manual:
            return {"manual": True}
        if self.interval is not None:
            return {"interval": self.interval.total_seconds()}
        return {"every": self.every}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Checkpoints:
        """The policy that `to_data` described. Raises `InputError`."""
        fields = dict(data)
        if "interval" in fields:
            fields["interval"] = timedelta(seconds=fields["interval"])
        return cls(**fields)


EVERY_STEP = Checkpoints()
ON_REQUEST = Checkpoints(manual=True)


def checkpoint() -> None:
    """Ask, from within a node, for a full checkpoint at the end of the step, whatever the run's `Checkpoints` say.

    Without effect if the node fails or stops at an interrupt; resumed, it asks again. Raises `PerdureError` outside a
    node.
    """
    scope_of("checkpoint()").checkpoint = True
