"""What a saver remembers between its calls, and the calls that wait for one another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock, RLock

from ..stores.segments import Row
from .changes import Base
from .reader import Found, Seqs
from .records import Tail
from .remembered import Remembered

_LOCKS = 256
_THREADS = 512
"""Claimed threads that are remembered; one more costs a claim."""
_IDS = 65536
_RECENT = 24
"""Checkpoints of a thread that are remembered; more than one commit can hold."""
_TOGETHER = 16
"""Calls that one commit takes together."""


@dataclass(slots=True)
class Held:
    """A thread that this saver has claimed, as its last commit left it."""

    epoch: int
    token: str
    seq: int
    tail: Tail
    head: Found | None
    recent: dict[str, Found] = field(default_factory=dict)
    """The checkpoints put or used last, by id."""

    def note(self, found: Found) -> None:
        """Remember a checkpoint as the one used last."""
        self.recent.pop(found.record.id, None)
        self.recent[found.record.id] = found
        while len(self.recent) > _RECENT:
            del self.recent[next(iter(self.recent))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A commit to be, and what holds after it."""

    rows: tuple[Row, ...]
    tail: Tail
    put: Found | None = None
    """The checkpoint that it puts."""
    moves: bool = False
    """The head becomes `lead`."""
    lead: Found | None = None
    bases: Mapping[str, tuple[Base, int]] = field(default_factory=dict)
    """New bases of channels, with what they weigh."""


Drafter = Callable[[Held], Draft]
"""Makes a draft of the thread as it is."""


class Pending:
    """A draft that waits for its commit, and what came of it."""

    __slots__ = ("draft", "error", "seq")

    def __init__(self, draft: Drafter) -> None:
        self.draft = draft
        self.seq = 0
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether it is committed or failed."""
        return self.seq > 0 or self.error is not None


class Queues:
    """What waits for its commit, by thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, deque[Pending]] = {}

    def add(self, thread_id: str, pending: Pending) -> None:
        """Line up."""
        with self._lock:
            self._waiting.setdefault(thread_id, deque()).append(pending)

    def take(self, thread_id: str, first: Pending) -> list[Pending]:
        """The next ones for a commit, `first` among them."""
        with self._lock:
            queue = self._waiting.get(thread_id, deque())
            group = [queue.popleft() for _ in range(min(len(queue), _TOGETHER))]
            if first not in group:
                if first in queue:
                    queue.remove(first)
                group.append(first)
            if not queue:
                self._waiting.pop(thread_id, None)
        return group

    def put_back(self, thread_id: str, group: Sequence[Pending]) -> None:
        """Line up again, first of all."""
        for pending in group:
            pending.seq, pending.error = 0, None
        with self._lock:
            self._waiting.setdefault(thread_id, deque()).extendleft(reversed(group))


class Memory:
    """What a saver remembers between its calls."""

    def __init__(self, cache_bytes: int) -> None:
        self.locks = tuple(RLock() for _ in range(_LOCKS))
        self.queues = Queues()
        self.held: Remembered[str, Held] = Remembered(_THREADS)
        self.bases: Remembered[tuple[str, str], Base] = Remembered(cache_bytes)
        """By claim (its token) and channel: another claim may find other values."""
        self.seqs: Seqs = Remembered(_IDS)

    def lock(self, thread_id: str) -> RLock:
        """The lock of a thread, which it shares with a few others."""
        return self.locks[hash(thread_id) % _LOCKS]
