"""How a running node reaches the owner of its thread: what it may ask, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..stores.base import CheckpointStore
from ..stores.records import ThreadRecord
from .calls import Call
from .task import Origin


class NodeCancelled(BaseException):
    """Raised into a node from outside: its thread is being cancelled or taken over, or its owner stops."""


@dataclass(frozen=True, slots=True)
class Enter:
    """Answered once everything that came before is durable: a crash could otherwise decide it differently, after the
    node has acted on it. The answer is the recorded call of this number, or None."""

    path: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Record a call of a task; answered with the recorded one once that is durable. If another execution of the same
    task was first, its call is the answer."""

    path: str
    index: int
    call: Call


@dataclass(frozen=True, slots=True)
class Take:
    """Record the oldest unread signal of this name as a call; answered with it, or with None if there is none."""

    path: str
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Beat:
    """What a task says of its progress. Answered at once."""

    path: str
    progress: Any


Request: TypeAlias = Enter | Record | Take | Beat


Ticket: TypeAlias = tuple[int, int, int]
"""Names one step to its owner: branch, born (see `Origin`), and how often tasks had been stopped."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a thread is kept in and run by. For nodes of the engine's own graphs."""

    store: CheckpointStore
    submitted: Callable[[Sequence[ThreadRecord]], None]
    """Tells whoever runs threads of new ones, by their rows. A hint: without it they are found a little later."""


class Desk(Protocol):
    """Where the nodes of one step ask."""

    @property
    def ticket(self) -> Ticket:
        """Names the step to the owner."""
        ...

    @property
    def origin(self) -> Origin:
        """Where the step's tasks belong."""
        ...

    @property
    def surroundings(self) -> Surroundings | None:
        """What its owner's process has around the thread; None in other processes, and for a graph without a store."""
        ...

    def ask(self, request: Request) -> Future[Any]:
        """Ask the owner, from any thread. The future fails with `UnencodableState` for what cannot be stored, and with
        `NodeCancelled` when the task is not the owner's to run any more."""
        ...

    def wait(self, answer: Future[Any]) -> Any:
        """The answer; blocks the calling thread."""
        ...

    def hurry(self) -> None:
        """Say that somebody waits for an answer without blocking a thread."""
        ...
