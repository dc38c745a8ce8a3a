"""A commit in the making: what one step changes, until it is sealed and handed to the writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from ..stores.operations import Commit, RunUpdate
from ..stores.records import UNDELIVERED, Status
from ..stores.segments import Kind, Row


@dataclass(slots=True)
class Draft:
    """What the commit with number `seq` will hold."""

    seq: int
    rows: list[Row] = field(default_factory=list)
    """All but the channels' values."""
    values: dict[str, list[Row]] = field(default_factory=dict)
    """By channel: what its checkpoint changes. Kept apart, so that folding a step costs what the step changed."""
    checkpoint: bool = False
    """It makes a new head."""
    folds: bool = False
    """It is no full checkpoint: the run's next step takes its place, and nobody sees it."""
    steps: int = 0
    """Steps that its checkpoint stands for."""
    parent: int = 0
    """The head before it."""
    applied: list[int] = field(default_factory=list)
    """Numbers of the messages consumed."""
    undelivered: list[int] = field(default_factory=list)
    """Numbers of the messages that the thread ends without having read."""
    runs: list[RunUpdate] = field(default_factory=list)
    run: int | None = None
    status: Status | None = None
    reason: str | None = None
    before: str | None = None
    """The reason that it held before `settle`, such as the end of a pause, which `reopen` must not lose."""
    waits: tuple[str, ...] | None = None
    wake_at: float | None = None
    release: bool = False
    expect_inbox: int | None = None
    progress: bool = False
    size: int = 0
    """Bytes of its payloads, once it is sealed."""
    events: list[Any] = field(default_factory=list)
    """What observers are told once it is durable."""

    @property
    def empty(self) -> bool:
        """Whether committing it would change nothing."""
        return not (
            self.rows or self.applied or self.undelivered or self.runs or self.release or self.reason is not None
        )

    def seal(self) -> None:
        """Note what it holds, now that nothing is added any more."""
        self.size = sum(len(row.payload) for row in self.all_rows())

    def all_rows(self) -> Iterator[Row]:
        """Everything that it writes."""
        return chain(self.rows, chain.from_iterable(self.values.values()))

    def settle(
        self, status: Status, reason: str, waits: tuple[str, ...], inbox: int, wake_at: float | None = None
    ) -> None:
        """Make it the commit that gives the thread up. `wake_at` None leaves that as it is."""
        self.before = self.reason
        self.status = status
        self.reason = reason
        self.waits = waits
        self.wake_at = wake_at
        self.release = True
        self.expect_inbox = inbox

    def reopen(self) -> None:
        """Take `settle` back: mail came first."""
        self.status = None
        self.reason = self.before
        self.waits = None
        self.wake_at = None
        self.release = False
        self.expect_inbox = None


class Stamp(NamedTuple):
    """What a commit has besides what its drafts hold."""

    thread_id: str
    epoch: int
    token: str
    commit_id: str
    at: float


def merge_drafts(drafts: list[Draft], stamp: Stamp) -> Commit:
    """One commit of consecutive drafts.

    Results of tasks that a later draft of the same commit has merged into a checkpoint are left out: no crash can come
    between the two.
    """
    last = drafts[-1]
    newest_first: list[Iterable[Row]] = []
    merged = False
    for draft in reversed(drafts):
        rows = draft.all_rows()
        newest_first.append([row for row in rows if row.kind != Kind.RESULT] if merged else rows)
        merged = merged or draft.checkpoint
    return Commit(
        thread_id=stamp.thread_id,
        epoch=stamp.epoch,
        token=stamp.token,
        commit_id=stamp.commit_id,
        at=stamp.at,
        first=drafts[0].seq,
        last=last.seq,
        rows=tuple(chain.from_iterable(reversed(newest_first))),
        head=next((draft.seq for draft in reversed(drafts) if draft.checkpoint), None),
        status=last.status,
        reason=next((draft.reason for draft in reversed(drafts) if draft.reason is not None), None),
        run=next((draft.run for draft in reversed(drafts) if draft.run is not None), None),
        waits=last.waits,
        wake_at=last.wake_at,
        runs=tuple(update for draft in drafts for update in draft.runs),
        applied=tuple(
            (number, seq)
            for draft in drafts
            for numbers, seq in ((draft.applied, draft.seq), (draft.undelivered, UNDELIVERED))
            for number in numbers
        ),
        expect_inbox=last.expect_inbox,
        release=last.release,
        progress=any(draft.progress for draft in drafts),
    )
