"""What of a file of threads makes no sense, though its checksums are right: written by a program that is none of ours,
or to do harm. Pure: each check yields what is wrong, in words that go behind the name of the record.

A store keeps what it is given, and its owners believe the numbers in it. So what no store of ours could have held is
not brought into one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ParamSpec

from .arguments import check_id, check_json, check_message, check_metadata, check_thread
from .errors import StoreMisuse
from .operations import ThreadImage
from .records import LOADING, RERUN, UNDELIVERED, GraphRecord, Message, RunRecord, Segment, ThreadRecord
from .retention import READABLE
from .transitions import first_of

P = ParamSpec("P")

_LARGEST = 2**53
"""Every store counts so far."""


def wrong_with(image: ThreadImage, thread_id: str) -> Iterator[str]:
    """What is wrong with a thread, all but its segments, that stands under this id."""
    row = image.thread
    if row.thread_id != thread_id:
        yield f"its row is that of thread {row.thread_id!r}"
    yield from _refused(check_thread, row)
    yield from _refused(check_id, "driver", row.driver)
    if row.driver == LOADING:
        yield "it was being copied in itself, and is not whole"
    yield from _texts(row)
    yield from _counts(row)
    yield from _times(row.created_at, row.updated_at)
    yield from _mark(row)
    yield from _runs(row, image.runs)
    yield from _messages(row, image.messages)


def wrong_with_graph(graph: GraphRecord, graph_key: str) -> Iterator[str]:
    """What is wrong with a graph that stands under this key."""
    if graph.graph_key != graph_key:
        yield f"its record is that of graph {graph.graph_key!r}"
    yield from _refused(check_id, "graph key", graph.graph_key)
    for text in (graph.name, graph.version, graph.kind, *graph.paths):
        yield from _refused(check_json, "text", text)


class SegmentCheck:
    """The segments of one thread, from the oldest to the newest: side by side, but for what retention has dropped."""

    def __init__(self, row: ThreadRecord) -> None:
        self._row = row
        self._last = first_of(row) - 1
        self._whole = row.driver in READABLE
        """Other drivers drop what they like of their threads, and say so to nobody."""

    def wrong_with(self, segment: Segment) -> Iterator[str]:
        """What is wrong with the next one."""
        row = self._row
        if not self._last < segment.first <= segment.last <= row.seq:
            yield "it is out of order"
        if self._whole and segment.first > self._last + 1 and segment.first > row.floor:
            yield f"commits {self._last + 1}..{segment.first - 1} before it are missing"
        if not 0 <= segment.epoch < _LARGEST:  # an origin's may have been higher than the thread's
            yield f"its epoch is {segment.epoch}"
        yield from _refused(check_id, "commit id", segment.commit_id)
        self._last = segment.last

    def at_end(self) -> Iterator[str]:
        """What is wrong once all were there."""
        if self._whole and self._last < self._row.seq:
            yield f"commits {self._last + 1}..{self._row.seq} are missing"


def _refused(check: Callable[P, None], *given: P.args, **named: P.kwargs) -> Iterator[str]:
    try:
        check(*given, **named)
    except StoreMisuse as error:
        yield str(error)


def _texts(row: ThreadRecord) -> Iterator[str]:
    for text in (row.graph_key, row.reason, *row.waits):
        yield from _refused(check_json, "text", text)


def _counts(row: ThreadRecord) -> Iterator[str]:
    origin = row.origin.seq if row.origin is not None else 0
    for name, number, most in (
        ("seq", row.seq, _LARGEST - 1),
        ("head", row.head, row.seq),
        ("floor", row.floor, row.seq),
        ("tidied", row.tidied, row.seq),
        ("origin's seq", origin, row.seq),
        ("inbox", row.inbox, _LARGEST - 1),
        ("runs", row.runs, _LARGEST - 1),
        ("run", row.run, row.runs),
        ("epoch", row.epoch, _LARGEST - 1),
        ("crashes", row.crashes, _LARGEST - 1),
    ):
        if not 0 <= number <= most:
            yield f"its {name} is {number}, which is not between 0 and {most}"
    for name, seq in row.names.items():
        if not 1 <= seq <= row.seq:
            yield f"its checkpoint {name!r} is {seq}, which is not between 1 and {row.seq}"


def _times(*times: float) -> Iterator[str]:
    for time in times:
        if not math.isfinite(time) or time < 0:
            yield f"{time} is no time"


def _mark(row: ThreadRecord) -> Iterator[str]:
    mark, replays = row.metadata.get(RERUN), row.replays
    if replays is None:
        if isinstance(mark, Mapping) and mark.get("recorded") is True:
            yield "its mark as a re-run names no commit"
    else:
        yield from _refused(check_id, "thread id", replays.thread_id)
        if not 0 <= replays.seq < _LARGEST:
            yield f"it re-runs what follows commit {replays.seq}"


def _runs(row: ThreadRecord, runs: Iterable[RunRecord]) -> Iterator[str]:
    before = -1
    for run in runs:
        what = f"run {run.run}"
        if run.thread_id != row.thread_id:
            yield f"{what} is that of thread {run.thread_id!r}"
        if not before < run.run <= row.runs:
            yield f"{what} does not follow {before}, or is beyond {row.runs}"
        if not 0 <= run.end <= row.seq:
            yield f"{what} ended at checkpoint {run.end}; the last commit is {row.seq}"
        yield from _refused(check_metadata, what, run.metadata)
        yield from _refused(check_json, what, run.reason)
        yield from _times(run.created_at, run.ended_at)
        before = run.run


def _messages(row: ThreadRecord, messages: Iterable[Message]) -> Iterator[str]:
    before, ids = 0, set[str]()
    for message in messages:
        what = f"message {message.number}"
        if not before < message.number <= row.inbox:
            yield f"{what} is not between {before} and {row.inbox}"
        if message.message_id in ids:
            yield f"{what} has the id of another, {message.message_id!r}"
        if not UNDELIVERED <= message.applied <= row.seq:
            yield f"{what} was applied by commit {message.applied}; the last one is {row.seq}"
        if not 0 <= message.run <= row.runs:
            yield f"{what} is for run {message.run}; only {row.runs} were accepted"
        yield from _refused(check_message, message)
        yield from _times(message.created_at)
        before = message.number
        ids.add(message.message_id)
