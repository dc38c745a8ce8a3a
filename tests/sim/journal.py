"""The outside log: what happened, in the order in which it happened, kept where no simulated crash reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perdure.stores.operations import Commit
from perdure.stores.segments import Kind


class Violation(BaseException):
    """A promise was broken. Not an `Exception`: no part of the engine may take it for an error of its own."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


def require(holds: object, promise: str, what: object) -> None:
    """Raise `Violation` unless it holds. `what` is shown as text."""
    if not holds:
        raise Violation(promise, str(what))


@contextmanager
def watched(who: str) -> Iterator[None]:
    """Make a `Violation` of any error: nothing that is simulated may raise one here."""
    try:
        yield
    except Exception as error:
        raise Violation("no errors", f"{who} raised {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Execution:
    """A node that was started."""

    at: int
    thread_id: str
    epoch: int
    head: int
    path: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A commit that the store accepted, when it did."""

    at: int
    commit: Commit


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A message whose delivery was acknowledged to its sender."""

    thread_id: str
    message_id: str
    kind: str
    number: int
    run: int


@dataclass
class Journal:
    """Everything that was seen from outside. Times are counts of what was noted."""

    now: int = 0
    lines: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    applied: dict[str, list[Applied]] = field(default_factory=dict)
    claims: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Thread id -> (time, epoch) of each claim."""
    acknowledged: list[Acknowledged] = field(default_factory=list)

    def note(self, *what: Any) -> int:
        """Write a line; returns its time."""
        self.now += 1
        self.lines.append((self.now, what))
        return self.now

    def executed(self, thread_id: str, epoch: int, head: int, path: str) -> None:
        at = self.note("start", thread_id, f"epoch {epoch}", f"head {head}", path)
        self.executions.append(Execution(at, thread_id, epoch, head, path))

    def committed(self, commit: Commit) -> None:
        at = self.note("commit", commit.thread_id, f"epoch {commit.epoch}", _shown(commit))
        self.applied.setdefault(commit.thread_id, []).append(Applied(at, commit))

    def claimed(self, thread_id: str, epoch: int, owner: str) -> None:
        known = self.claims.setdefault(thread_id, [])
        if not known or known[-1][1] < epoch:
            known.append((self.note("claim", thread_id, f"epoch {epoch}", owner), epoch))

    def trace(self, last: int = 120) -> str:
        """The newest lines, for people."""
        return "\n".join(f"{at:5} {' '.join(map(str, what))}" for at, what in self.lines[-last:])


_SHOWN = frozenset({Kind.CHECKPOINT, Kind.RESULT, Kind.INTERRUPT, Kind.CALL, Kind.WAIT, Kind.PASS})


def _shown(commit: Commit) -> str:
    parts = [f"{commit.first}..{commit.last}"]
    parts += [f"{Kind(row.kind).name}@{row.version}:{row.channel}" for row in commit.rows if row.kind in _SHOWN]
    if commit.applied:
        parts.append(f"applies {commit.applied}")
    parts += [f"run {update.run} {update.status}" for update in commit.runs]
    if commit.status is not None:
        parts.append(f"-> {commit.status}")
    return " ".join(parts)
