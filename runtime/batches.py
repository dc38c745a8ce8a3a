"""The durable thread of a batch re-run: a graph that begins its items, waits for them, and keeps what came of each.

Its state is the whole batch. An item's thread has an id that follows from the batch and its origin: whoever begins it a
second time, after a crash, finds it there. While the batch waits its thread is parked.
"""

from __future__ import annotations

import hashlib
import math
import operator
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, TypedDict

from ..stores.errors import StoreError, StoreUnavailable, ThreadExists, UnknownThread
from ..stores.operations import Delivery
from ..stores.records import SERVICE, Message, Retention, Status, ThreadRecord
from .clock import SystemClock
from .commands import END, START
from .desk import Surroundings
from .errors import PerdureError
from .forks import ForkWishes, fork_record
from .graph import StateGraph
from .interrupts import interrupt
from .payloads import RETRY, UPDATE
from .policies import RetryPolicy
from .reruns import BatchMark, read_effects
from .scope import surroundings
from .sleeping import sleep

FIRST_REST, GROWTH, LONGEST_REST = 0.05, 1.5, 2.0
"""Seconds between two looks at the items under way: longer while nothing comes of it."""
_LONGEST_ID = 512
"""Bytes."""


class Outcome(StrEnum):
    """What came of an item."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Its thread is paused or waits for somebody: it goes on when it is told to, and not for the batch."""
    SKIPPED = "skipped"
    """There was nothing to re-run, such as no checkpoint of the kind that was asked for."""


class Item(NamedTuple):
    """One thread to re-run."""

    thread_id: str
    seq: int
    """The checkpoint to go on from; 0 where the thread is skipped."""
    run: int = 0
    """The run that the checkpoint belongs to."""
    update: bytes = b""
    """Payload of the update that changes its state first; empty for none."""
    skipped: str = ""
    """Why it is skipped."""


class Ended(NamedTuple):
    """An item's end."""

    place: int
    """Its index among the batch's items."""
    outcome: Outcome
    reason: str
    at: float
    """When it was noticed (Unix seconds)."""


class BatchState(TypedDict, total=False):
    """A batch. Items and ends are lists in the order of their classes' fields."""

    batch: str
    mark: str
    """See `BatchMark`."""
    items: list[list[Any]]
    effects: str
    graph_key: str
    """Code to run them with; empty for each one's own."""
    version: str
    concurrency: int
    """Items under way at a time."""
    rate: float | None
    """Items begun per second."""
    max_failures: int | None
    """The batch stops and asks once more items than this have not succeeded."""
    begun: int
    """The items before this index were begun, or skipped."""
    open: list[int]
    """Indexes of those under way."""
    done: Annotated[list[list[Any]], operator.add]
    failures: int
    accepted: int
    """Failures that somebody has agreed to."""
    paced: float
    """Up to when the rate is used up (Unix seconds)."""
    rest: float
    """Seconds until the next look."""


def thread_of(batch: str, origin: str) -> str:
    """Id of the thread in which a batch re-runs another."""
    plain = f"{batch}/{origin}"
    if len(plain.encode()) <= _LONGEST_ID:
        return plain
    return f"{batch}/{hashlib.blake2b(origin.encode(), digest_size=16).hexdigest()}"


def outcome_of(row: ThreadRecord) -> tuple[Outcome, str] | None:
    """What came of an item, by its thread's row, and why; None while it is under way."""
    if row.status.ended:
        return Outcome(row.status.value), row.reason
    if row.status is Status.PAUSED:
        return Outcome.STOPPED, row.reason
    if row.status in (Status.INTERRUPTED, Status.WAITING):
        waits = ", ".join(row.waits) or "its breakpoint to be passed"
        return Outcome.STOPPED, f"{row.status}: it waits for {waits}"
    return None


class Start(NamedTuple):
    """How many items to begin now."""

    many: int
    paced: float
    """Up to when the rate is used up then."""


def start(state: BatchState, under_way: int, failures: int, now: float) -> Start:
    """What the limits of a batch allow at `now` (Unix seconds): pure."""
    paced = state.get("paced", 0.0)
    limit, rate = state.get("max_failures"), state.get("rate")
    if limit is not None and failures > limit + state.get("accepted", 0):
        return Start(0, paced)
    left = len(state["items"]) - state.get("begun", 0)
    count = max(0, min(left, state["concurrency"] - under_way))
    if rate is None or not count:
        return Start(count, paced)
    # No more than a second's worth at once, however long nothing was begun.
    paced = max(paced, now - max(1.0, 1.0 / rate))
    count = min(count, math.floor((now - paced) * rate + 1e-9))
    return Start(count, paced + count / rate)


def advance(state: BatchState) -> dict[str, Any]:
    """Note which items have ended, and begin others."""
    batch = _Batch(surroundings(), state)
    ended = batch.ended()
    closed = {one.place for one in ended}
    under_way = [index for index in state.get("open", []) if index not in closed]
    failures = state.get("failures", 0) + _failures(ended)
    now = time.time()
    begin = start(state, len(under_way), failures, now)
    begun = state.get("begun", 0)
    indexes = range(begun, begun + begin.many)
    refused = batch.begin(indexes)
    under_way += [index for index in indexes if index not in refused]
    ended += refused.values()
    changed = bool(ended or begin.many)
    return {
        "begun": begun + begin.many,
        "open": under_way,
        "done": [[one.place, one.outcome.value, one.reason, one.at] for one in ended],
        "failures": failures + _failures(refused.values()),
        "paced": begin.paced,
        "rest": FIRST_REST if changed else min(GROWTH * state.get("rest", FIRST_REST), LONGEST_REST),
    }


def rest(state: BatchState) -> None:
    """Wait, parked, for the next look."""
    sleep(state["rest"])


def ask(state: BatchState) -> dict[str, Any]:
    """Too many items have failed: go on only when somebody says so."""
    failures = state["failures"]
    interrupt({"failures": failures, "max_failures": state["max_failures"], "begun": state["begun"]})
    return {"accepted": failures, "rest": FIRST_REST}


def whither(state: BatchState) -> str:
    """What follows a look."""
    if state["open"]:
        return "rest"
    if state["begun"] == len(state["items"]):
        return END
    limit = state.get("max_failures")
    return "ask" if limit is not None and state["failures"] > limit + state.get("accepted", 0) else "rest"


class _Batch:
    """The items of a batch in their store."""

    def __init__(self, around: Surroundings, state: BatchState) -> None:
        self._store = around.store
        self._submitted = around.submitted
        self._state = state
        self._items = state["items"]
        self._mark = BatchMark(state["batch"], state.get("mark", ""))
        self._clock = SystemClock()

    def item(self, index: int) -> Item:
        return Item(*self._items[index])

    def ended(self) -> list[Ended]:
        """Those under way that have ended."""
        names = {
            index: thread_of(self._state["batch"], self.item(index).thread_id) for index in self._state.get("open", [])
        }
        rows = self._store.find(list(names.values()))
        found: list[Ended] = []
        for index, name in names.items():
            if name not in rows or not self._mark.on(rows[name]):
                found.append(self._end(index, Outcome.FAILED, "its thread was deleted before its end was noted"))
            elif (outcome := outcome_of(rows[name])) is not None:
                found.append(self._end(index, *outcome))
        return found

    def begin(self, indexes: Sequence[int]) -> dict[int, Ended]:
        """Begin items, many in one transaction; those that could not be begun."""
        refused: dict[int, Ended] = {}
        new: dict[int, tuple[ThreadRecord, Message | None]] = {}
        origins = self._store.find([item.thread_id for item in map(self.item, indexes) if not item.skipped])
        for index in indexes:
            try:
                new[index] = self._new(self.item(index), origins)
            except StoreUnavailable:
                raise
            except _Skipped as skipped:
                refused[index] = self._end(index, Outcome.SKIPPED, str(skipped))
            except (PerdureError, StoreError) as error:
                refused[index] = self._end(index, Outcome.FAILED, str(error))
        found = self._create(new)
        self._submitted(
            [replace(one.thread, metadata={}, tags=()) for one in found.values() if isinstance(one, Delivery)]
        )
        for index, made in found.items():
            if isinstance(made, StoreError) and not self._is_ours(made):
                refused[index] = self._end(index, Outcome.FAILED, _why(made))
        return refused

    def _create(self, new: Mapping[int, Any]) -> dict[int, Delivery | StoreError]:
        try:
            return dict(zip(new, self._store.create_many(list(new.values())), strict=True)) if new else {}
        except StoreUnavailable:
            raise
        except StoreError:
            # One has lost its origin, or its checkpoint, and none was begun for it: each alone, to know which.
            return {index: self._create_one(*one) for index, one in new.items()}

    def _create_one(self, record: ThreadRecord, message: Message | None) -> Delivery | StoreError:
        try:
            return self._store.create(record, message)
        except StoreUnavailable:
            raise
        except StoreError as error:
            return error

    def _is_ours(self, error: StoreError) -> bool:
        """Whether an item's thread was there since this batch had begun it before."""
        if not isinstance(error, ThreadExists):
            return False
        found = self._store.find([error.thread_id])
        return error.thread_id in found and self._mark.on(found[error.thread_id])

    def _new(self, item: Item, origins: Mapping[str, ThreadRecord]) -> tuple[ThreadRecord, Message | None]:
        if item.skipped:
            raise _Skipped(item.skipped)
        if item.thread_id not in origins:
            raise UnknownThread(item.thread_id)
        state = self._state
        wishes = ForkWishes(
            thread_id=thread_of(state["batch"], item.thread_id),
            effects=read_effects(state["effects"]),
            batch=self._mark,
        )
        record = fork_record(origins[item.thread_id], item.seq, item.run, wishes, self._clock, SERVICE)
        if state.get("graph_key"):
            record = replace(record, graph_key=state["graph_key"], version=state["version"])
        elif not record.graph_key:
            raise _Skipped("it was run by invoke() in somebody's process; name the graph to re-run it with")
        return record, Message(
            message_id=self._clock.unique(),
            kind=UPDATE if item.update else RETRY,
            payload=item.update,
            created_at=record.created_at,
        )

    def _end(self, index: int, outcome: Outcome, reason: str) -> Ended:
        return Ended(index, outcome, reason, self._clock.time())


def _why(error: StoreError) -> str:
    if isinstance(error, ThreadExists):
        return f"thread {error.thread_id!r} is there, and not of this batch; delete it, or take another batch_id"
    return str(error)


class _Skipped(Exception):
    """There is nothing to re-run."""


def _failures(ended: Iterable[Ended]) -> int:
    return sum(one.outcome not in (Outcome.SUCCEEDED, Outcome.SKIPPED) for one in ended)


_PATIENT = RetryPolicy(retry_on=StoreUnavailable, max_attempts=1_000_000, max_interval=5.0)

RERUNS = (
    StateGraph(BatchState)
    .add_node("advance", advance, run="inline", effects=True, retry_policy=_PATIENT)
    .add_node("rest", rest)
    .add_node("ask", ask)
    .add_edge(START, "advance")
    .add_conditional_edges("advance", whither, ["rest", "ask", END])
    .add_edge("rest", "advance")
    .add_edge("ask", "advance")
    .compile(name="perdure.rerun", version="1", retention=Retention(max_checkpoints=100))
)
"""The graph of every batch."""
