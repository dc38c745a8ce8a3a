"""Engines that are broken on purpose, each in one way. The simulator runs them in place of the real ones."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from perdure.runtime.draft import Draft
from perdure.runtime.loop import ThreadLoop
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.ports import Need
from perdure.runtime.recorder import Recorder
from perdure.runtime.results import Results
from perdure.runtime.task import Done
from perdure.runtime.writer import Durable, Lane, Writer
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import StoreUnavailable
from perdure.stores.operations import Commit
from perdure.stores.records import Message
from perdure.stores.segments import Row


class ByArrival(Results):
    def merge(self) -> None:
        order = list(self._at.results)
        self._at.next = tuple(sorted(self._at.next, key=lambda task: order.index(task.path)))
        super().merge()


class MergesAsTheyCome(ThreadLoop):
    """Merges results in the order in which they arrived."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._results.__class__ = ByArrival


class InMemory(Results):
    def _record_result(self, done: Done) -> bool:
        return True


class RecordsNoResults(ThreadLoop):
    """Keeps results of unfinished steps in memory only."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._results.__class__ = InMemory


class WaitsForNothing(ThreadLoop):
    """Goes on before what it did is durable, whatever was asked for."""

    def _set_options(self, options: RunOptions) -> None:
        super()._set_options(options)
        if self._options.durability is Durability.SYNC:
            self._options = replace(options, durability=Durability.ASYNC)


class TellsAtOnce(ThreadLoop):
    """Tells observers of steps that are not durable yet."""

    def _submit(self, draft: Draft) -> None:
        super()._submit(draft)
        self._announcer.tell(draft.seq)


class LeavesAtOnce(ThreadLoop):
    """Gives the thread up without waiting for the store's word."""

    def _until_durable(self) -> Generator[Need, None, None]:
        return
        yield


class NeverFull(ThreadLoop):
    """Makes no full checkpoint before it has to."""

    def _set_options(self, options: RunOptions) -> None:
        super()._set_options(options)
        self._recorder.pace(replace(options, durability=Durability.EXIT))


class SplitsMessages(ThreadLoop):
    """Consumes a message in the commit before the one that holds its effect, as the engine once did."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._recorder.__class__ = _ConsumesEarly


class _ConsumesEarly(Recorder):
    def consume(self, message: Message) -> None:
        self.at.mail.remove(message)
        self.open().applied.append(message.number)


class AcknowledgesFirst(Writer):
    """Says that a commit is durable, and then writes it."""

    def _write(self, loaded: list[tuple[Lane, Commit]]) -> None:
        for lane, commit in loaded:
            lane._notify(Durable(commit.last, commit.expect_inbox or 0))
        super()._write(loaded)


class CommitsAgain(Writer):
    """Takes a lost answer for a failure: where the commit had been written, it is written once more behind it."""

    def _write(self, loaded: list[tuple[Lane, Commit]]) -> None:
        try:
            super()._write(loaded)
        except StoreUnavailable:
            for lane, commit in loaded:
                assert lane.flight is not None
                lane.flight = (self._moved(commit), lane.flight[1])
            raise

    def _moved(self, commit: Commit) -> Commit:
        assert isinstance(self._store, CheckpointStore)
        try:
            by = self._store.thread(commit.thread_id).seq + 1 - commit.first
        except StoreUnavailable:
            return commit
        rows = tuple(_row_moved(row, commit.first, by) for row in commit.rows)
        first, last = commit.first + by, commit.last + by
        applied = tuple((number, seq + by if seq > 0 else seq) for number, seq in commit.applied)
        head = commit.head + by if commit.head is not None else None
        fresh = self._clock.unique()
        return replace(commit, commit_id=fresh, first=first, last=last, rows=rows, applied=applied, head=head)


def _row_moved(row: Row, first: int, by: int) -> Row:
    version = row.version + by if row.version >= first else row.version
    return row._replace(checkpoint=row.checkpoint + by, version=version)
