"""What there is to know of one actor, and what can be decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from .line import Waiting
from .names import is_shared

ANYWHERE = ""
"""The node of an actor of which it is not known where it is."""


class Phase(Enum):
    """What an actor is doing."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    """It hosts a thread, or has been asked to."""
    LEAVING = auto()
    SILENT = auto()
    """Found by its name, but it did not answer: its lease will tell."""


@dataclass(slots=True)
class Member:
    """One actor of the pool."""

    name: str
    phase: Phase
    graph_key: str
    """The graph that it has loaded, or is loading."""
    threads: dict[str, int] = field(default_factory=dict)
    """Epoch of each thread that it hosts."""
    since: float = 0.0
    """When it entered its phase (monotonic seconds)."""
    born: float = 0.0
    """When it was started, or found (monotonic seconds)."""
    draining: bool | None = None
    """Whether it was told to give up its threads; None if nobody knows what a former supervisor has told it."""
    node: str = ANYWHERE
    """Ray's id of the node that it is on, or is to be started on."""
    asked: set[str] = field(default_factory=set)
    """Threads that it was asked to take and has not answered for."""
    closed: bool = False
    """It takes no more threads, and is ended when it has none."""

    @property
    def shared(self) -> bool:
        """Whether many threads share it."""
        return is_shared(self.name)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Give a thread to an actor."""

    actor: str
    thread: Waiting


@dataclass(frozen=True, slots=True)
class Start:
    """Start an actor for a graph."""

    graph_key: str
    node: str = ANYWHERE
    """Where; on any node if it is `ANYWHERE`."""
    shared: bool = False
    """One that many threads share."""


@dataclass(frozen=True, slots=True)
class Retire:
    """End an actor that has nothing to do."""

    actor: str


Decision: TypeAlias = Dispatch | Start | Retire
