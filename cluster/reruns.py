"""Batch re-runs: the handle of one that runs, whoever began it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..runtime.batches import Ended, Item, Outcome, thread_of
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError
from ..runtime.reruns import BatchMark
from ..runtime.snapshots import checkpoint_id
from ..stores.base import CheckpointStore
from ..stores.errors import Refused, UnknownThread
from ..stores.records import PARKED, Status
from .compare_page import comparison_page, plotter
from .compare_summary import Comparison, summed
from .comparing import batch_values, compare_batch
from .dataset_file import check_target, write_text
from .errors import ClientError
from .handle import ThreadHandle
from .looks import deadline_of, looks

_FINE = (Outcome.SUCCEEDED, Outcome.SKIPPED)
_RECENT = 500
"""Ended items from which the pace is estimated."""
_AT_ONCE = 500
"""Threads that are looked up by one call of the store."""


class RerunProgress(NamedTuple):
    """How far a batch has come."""

    status: Status
    """Of the batch's own thread: sleeping between two looks; interrupted once too many items have failed."""
    total: int
    under_way: int
    outcomes: Mapping[Outcome, int]
    """Of the items that have ended."""
    rate: float
    """Items that ended per second, of late; 0 if that cannot be told."""

    @property
    def ended(self) -> int:
        """Items that nothing more happens to."""
        return sum(self.outcomes.values())

    @property
    def remaining(self) -> timedelta | None:
        """How long it will take from here, at the pace of late; None if that cannot be told."""
        left = self.total - self.ended
        return timedelta(seconds=left / self.rate) if self.rate > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunItem:
    """One thread of a batch that has ended."""

    thread_id: str
    """The original."""
    rerun_id: str
    """The thread that re-runs it; there is none if it was skipped."""
    outcome: Outcome
    reason: str


class BatchRerun:
    """One batch. It goes on without its client; `client.batch(id)` finds it again."""

    def __init__(
        self,
        store: CheckpointStore,
        thread: ThreadHandle,
        handle: Callable[[str], ThreadHandle],
        again: Callable[[BatchRerun, Sequence[Item], CompiledGraph | None, str | None], BatchRerun],
    ) -> None:
        self.batch_id = thread.thread_id
        self.thread = thread
        """The batch's own thread."""
        self._store = store
        self._handle = handle
        self._again = again
        self._known: tuple[Item, ...] = ()

    def __repr__(self) -> str:
        return f"BatchRerun({self.batch_id!r})"

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Where the batch's own thread stands."""
        return self.thread.status

    def progress(self) -> RerunProgress:
        """How far it has come, as of its last look."""
        status = self.status
        values = self._values("done", "open")
        ended = [Ended(*one) for one in values.get("done", [])]
        outcomes: dict[Outcome, int] = {}
        for one in ended:
            outcomes[Outcome(one.outcome)] = outcomes.get(Outcome(one.outcome), 0) + 1
        recent = ended[-_RECENT:]
        seconds = time.time() - recent[0].at if recent and not status.ended else 0.0
        rate = len(recent) / seconds if seconds > 0 else 0.0
        return RerunProgress(status, len(self.items()), len(values.get("open", [])), outcomes, rate)

    def items(self) -> tuple[Item, ...]:
        """What is re-run: threads, checkpoints, and why some are skipped."""
        if not self._known:
            self._known = tuple(Item(*one) for one in self._values("items").get("items", []))
        return self._known

    def ended(self) -> list[RerunItem]:
        """The items that have ended, in that order."""
        items = self.items()
        return [
            RerunItem(
                thread_id=items[one.place].thread_id,
                rerun_id=thread_of(self.batch_id, items[one.place].thread_id),
                outcome=Outcome(one.outcome),
                reason=one.reason,
            )
            for one in self._ends()
        ]

    def failures(self) -> list[RerunItem]:
        """Those that have not succeeded, with the reasons."""
        return [one for one in self.ended() if one.outcome not in _FINE]

    def table(self) -> pa.Table:
        """One row an item: `thread_id`, `rerun_id`, `checkpoint_id`, `outcome` (null while it has not ended), `reason`,
        `ended_at`."""
        ends = {one.place: one for one in self._ends()}
        rows = [
            {
                "thread_id": item.thread_id,
                "rerun_id": thread_of(self.batch_id, item.thread_id),
                "checkpoint_id": checkpoint_id(item.seq) if item.seq else None,
                "outcome": ends[index].outcome if index in ends else None,
                "reason": ends[index].reason if index in ends else None,
                "ended_at": int(ends[index].at * 1e6) if index in ends else None,
            }
            for index, item in enumerate(self.items())
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def compare(self, measures: Sequence[str] = ()) -> pa.Table:
        """Old against new, one row an item, as far as the batch has come: `thread_id`, `rerun_id`, `checkpoint_id`,
        `outcome`, `reason` (why the re-run has not succeeded), `old_status`, `new_status`, `old_reason` (why the
        original stands so), `same` (status, final state, and why it failed), `keys` (of the state, that differ),
        `diff` (for people), `old_steps`, `new_steps`, `old_seconds`, `new_seconds` (from the checkpoint to the end of
        the run; null until that), and `problem`, the reason where there was nothing to compare.

        `measures` names numbers in the final states, a key or a path as `usage.tokens`: each gets two columns,
        `old.NAME` and `new.NAME`, null where there is no number. Raises `InputError`, `StoreUnavailable`.
        """
        return self.compare_batches(measures).read_all()

    def compare_batches(self, measures: Sequence[str] = ()) -> pa.RecordBatchReader:
        """`compare`, as record batches of at most 1,024 rows: any number of threads in little memory."""
        return compare_batch(self._store, self.batch_id, measures)

    def compare_page(self, path: str | Path, measures: Sequence[str] = (), *, replace: bool = False) -> Comparison:
        """Write the comparison as one HTML page with plots, which loads nothing from elsewhere; returns its sums.
        Raises as `compare`; `ClientError` where no file can be written, or one is there that is not to be replaced, or
        matplotlib is not installed (`pip install 'perdure[plots]'`)."""
        check_target(Path(path), replace=replace)
        plotter()
        found = Comparison(self.batch_id, tuple(measures))
        for _ in summed(self.compare_batches(measures), found):
            continue
        write_text(comparison_page(found), Path(path), replace=replace)
        return found

    def wait(self, timeout: float | timedelta | None = None, *, console: Console | None = None) -> RerunProgress:
        """Wait until every item has ended, or the batch waits for somebody: it is paused, or too many have failed. With
        a `console` a bar shows how far it is, and how long it will take. Raises `TimeoutError`; the batch goes on."""
        with _Bar(console) if console is not None else nullcontext() as bar:
            for _ in looks(deadline_of(timeout), f"batch {self.batch_id!r}: it has not ended"):
                found = self.progress()
                if bar is not None:
                    bar.show(found)
                if found.status.ended or found.status in (Status.INTERRUPTED, Status.PAUSED):
                    return found
        raise AssertionError("unreachable")

    # -- steering ------------------------------------------------------------------------------------------------

    def pause(self, reason: str = "") -> None:
        """Begin no more items; those under way go on. Raises `Refused` for a batch that has ended."""
        self.thread.pause(reason)

    def resume(self) -> None:
        """Go on after a pause; or although too many have failed, and then as many more may. Raises `NotInterrupted`."""
        if self.thread.info.interrupts and self.status is not Status.PAUSED:
            self.thread.resume("go on")
        else:
            self.thread.resume()

    def cancel(self, reason: str = "", *, timeout: float | timedelta | None = 60.0) -> None:
        """Begin no more items, and cancel those under way. Raises `Refused` for a batch that has ended; `TimeoutError`
        where no service carries it out in time: then no item was cancelled yet."""
        self.thread.cancel(reason)
        # Not before it has stopped: it might begin items in between.
        for _ in looks(deadline_of(timeout), f"batch {self.batch_id!r}: it was not cancelled"):
            if self.status.ended:
                break
        for thread_id in self._under_way():
            try:
                self._handle(thread_id).cancel(reason or f"batch {self.batch_id} was cancelled")
            except (Refused, UnknownThread):
                continue  # it has ended

    def failed(self, *, graph: CompiledGraph | None = None, batch_id: str | None = None) -> BatchRerun:
        """Re-run those that have not succeeded once more, from the same checkpoints of the same originals, as a batch
        of its own (`batch_id`, by default a new one); of a batch that was cancelled also those that it had not begun.
        `graph` is a version that mends them; by default it is the batch's. Raises `ClientError` while this one goes on,
        `InputError` where none has failed."""
        if not self.status.ended and self.status not in PARKED - {Status.SLEEPING}:
            raise ClientError(f"batch {self.batch_id!r} is {self.status}; wait() for its end, or cancel() it")
        ends, over = {one.place: one for one in self._ends()}, self.status.ended
        failed = [
            item
            for place, item in enumerate(self.items())
            if not item.skipped and (ends[place].outcome not in _FINE if place in ends else over)
        ]
        if not failed:
            raise InputError(f"batch {self.batch_id!r}: no item has failed")
        return self._again(self, failed, graph, batch_id)

    # -- inside --------------------------------------------------------------------------------------------------

    def _under_way(self) -> Iterator[str]:
        """The threads of the batch that have not ended; that one was begun may not be noted, where a process had died.
        Others that only have such an id are left alone."""
        noted = {one.place for one in self._ends()}
        left = [item for index, item in enumerate(self.items()) if index not in noted and not item.skipped]
        if not left:
            return
        mark = BatchMark(self.batch_id, self._values("mark").get("mark", ""))
        for start in range(0, len(left), _AT_ONCE):
            names = [thread_of(self.batch_id, item.thread_id) for item in left[start : start + _AT_ONCE]]
            for name, row in self._store.find(names).items():
                if mark.on(row) and not row.status.ended:
                    yield name

    def _ends(self) -> list[Ended]:
        return [Ended(*one) for one in self._values("done").get("done", [])]

    def wishes(self) -> dict[str, Any]:
        """How it was begun, apart from its items."""
        return self._values("effects", "graph_key", "version", "concurrency", "rate", "max_failures")

    def _values(self, *channels: str) -> dict[str, Any]:
        return batch_values(self._store, self.thread.info, *channels)


_TEXTS = ("thread_id", "rerun_id", "checkpoint_id", "outcome", "reason")
_TYPES: tuple[pa.DataType, ...] = (*(pa.string() for _ in _TEXTS), pa.timestamp("us", "UTC"))
_SCHEMA = pa.schema([pa.field(name, kind) for name, kind in zip((*_TEXTS, "ended_at"), _TYPES, strict=True)])


class _Bar:
    """A bar with the numbers of a batch, and an estimate."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("re-running", total=None, told="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, found: RerunProgress) -> None:
        """How far the batch is now."""
        self._progress.update(self._task, total=found.total or None, completed=found.ended, told=told(found))


def told(found: RerunProgress) -> str:
    """What came of a batch so far, in a line: `3 failed, 2 under way, 12.5/s, 40 s left`."""
    parts = [f"{count:,} {outcome}" for outcome, count in found.outcomes.items() if outcome is not Outcome.SUCCEEDED]
    if found.under_way:
        parts.append(f"{found.under_way:,} under way")
    if found.remaining is not None:
        parts += [f"{found.rate:,.1f}/s", f"{found.remaining.total_seconds():,.0f} s left"]
    return ", ".join(parts)
