"""The scripts against the pure rules: whatever is called in whatever order, Redis answers and keeps what memory has."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.errors import StoreError
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment, Commit, Expect, RunUpdate, ThreadFilter
from perdure.stores.records import (
    PARKED,
    RUN_KINDS,
    GraphRecord,
    Message,
    Origin,
    Retention,
    Segment,
    Status,
    ThreadRecord,
)
from perdure.stores.redis import RedisStore
from tests.stores import redis_raw
from tests.stores.backends import delta

THREADS = ["a", "b", "c", "d"]
OTHERS = {
    "graph": ["g", "h"],
    "token": ["k1", "k2"],
    "owner": ["o1", "o2"],
    "wait": ["", "i1", "i2", 'ü/"x'],
    "kind": [*sorted(RUN_KINDS), "resume", "cancel", "pause", "signal"],
}
CALLS = 60


class Both:
    """One call on both stores; what differs is the test's failure."""

    def __init__(self, redis: RedisStore, seed: int) -> None:
        self.redis = redis
        self.memory = MemoryStore()
        self.random = random.Random(seed)
        self.log: list[str] = []

    def step(self) -> None:
        name, call = self._drawn()
        self.log.append(name)
        answers = [_answer(store, call) for store in (self.memory, self.redis)]
        assert answers[0] == answers[1], (answers, self.log)
        assert _seen(self.memory) == _seen(self.redis), self.log

    def _drawn(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        calls = [self.create, self.deliver, self.claim, self.commit, self.amend, self.rewrite, self.load, self.delete]
        weights = [3, 5, 4, 12, 3, 3, 2, 1]
        return self.random.choices(calls, weights)[0]()

    def one(self, what: str) -> str:
        return self.random.choice(OTHERS[what])

    def row(self, thread_id: str) -> ThreadRecord:
        """The thread as it is, or as one could be."""
        try:
            return self.memory.thread(thread_id)
        except StoreError:
            return ThreadRecord(thread_id=thread_id, graph="g", version="1")

    def near(self, number: int) -> int:
        return max(0, number + self.random.choice([0, 0, 0, 0, 0, 1, -1]))

    def message(self) -> Message:
        return Message(
            message_id=f"m{self.random.randrange(6)}",
            kind=self.one("kind"),
            name="n",
            payload=b"\x00payload",
            run=self.random.randrange(3),
            created_at=self.random.choice([0.0, 12.25]),
        )

    def create(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        thread_id, parent = self.random.sample(THREADS, 2)
        seq = self.random.randint(0, self.row(parent).seq + 1)
        origin = Origin(thread_id=parent, seq=seq) if self.random.random() < 0.5 else None
        thread = ThreadRecord(
            thread_id=thread_id,
            graph=self.one("graph"),
            version="1",
            status=self.random.choice(list(Status)),
            waits=tuple(self.random.sample(OTHERS["wait"][1:], self.random.randrange(3))),
            wake_at=self.random.choice([0.0, 5.5]),
            origin=origin,
            seq=seq if origin else 0,
            metadata={"n": 2**53 + 1, "empty": [], "é": {}},
            tags=("x",),
            names={"start": 1} if self.random.random() < 0.1 else {},
            retention=Retention(max_checkpoints=3) if self.random.random() < 0.2 else None,
            created_at=1.5,
        )
        message = self.message() if self.random.random() < 0.7 else None
        return f"create {thread_id} from {origin}", lambda store: store.create(thread, message)

    def deliver(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        row, message = self.row(self.random.choice(THREADS)), self.message()
        expect = Expect(
            statuses=frozenset(self.random.sample(list(Status), self.random.choice([3, 9, 9]))),
            wait=self.random.choice(["", "", *row.waits, "i9"]),
            run=self.random.choice([0, 0, row.run, row.run + 1]),
            head=self.random.choice([0, 0, row.head, row.head + 1]),
        )
        graph = None
        if self.random.random() < 0.2:
            graph = GraphRecord(graph_key="k9", name="g", version="9", kind="reference", body=b"m:g")
        name = f"deliver {row.thread_id} {message.kind} {expect.wait}"
        return name, lambda store: store.deliver(row.thread_id, message, expect, graph=graph)

    def claim(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        row = self.row(self.random.choice(THREADS))
        epoch, token, owner = self.near(row.epoch), self.one("token"), self.one("owner")
        crashed, at = self.random.random() < 0.5, self.random.choice([0.0, 7.5])
        return f"claim {row.thread_id} {epoch}", lambda store: store.claim(
            row.thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at
        )

    def commit(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        group: list[Commit] = []
        held = [thread_id for thread_id in THREADS if self.row(thread_id).token] or THREADS
        for thread_id in self.random.choices(held, k=self.random.choice([1, 1, 2, 4])):
            row = self.row(thread_id)
            first = max(1, self.near(row.seq + 1))
            last = first + self.random.choice([0, 0, 0, 2])
            maybe = self._maybe
            group.append(
                Commit(
                    thread_id=thread_id,
                    epoch=row.epoch,
                    token=row.token or "none",
                    # Few ids, so that some are those of commits that were made.
                    commit_id=f"c{thread_id}{first}{self.random.randrange(2)}",
                    first=first,
                    last=last,
                    rows=tuple(delta(seq) for seq in range(first, last + 1)) if self.random.random() < 0.9 else (),
                    head=maybe(last),
                    status=maybe(self.random.choice(list(Status))),
                    reason=maybe("why"),
                    run=maybe(self.random.randrange(4)),
                    waits=maybe(("i1", "i2")) if self.random.random() < 0.8 else (),
                    wake_at=maybe(self.random.choice([0.0, 3.25, 1e9])),
                    runs=tuple(
                        RunUpdate(run=run, status=self.random.choice(list(Status)), end=last, reason="r", error=b"e")
                        for run in self.random.sample(range(1, 5), self.random.choice([0, 0, 1, 2]))
                    ),
                    applied=tuple(
                        (self.random.randint(1, row.inbox + 1), last) for _ in range(self.random.choice([0, 1]))
                    ),
                    expect_inbox=maybe(self.near(row.inbox)),
                    release=self.random.random() < 0.2,
                    progress=self.random.random() < 0.3,
                    at=self.random.choice([0.0, 1_700_000_000.123457]),
                )
            )
        return f"commit {[each.thread_id for each in group]}", lambda store: store.commit(group)

    def _maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.3 else None

    def amend(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        row = self.row(self.random.choice(THREADS))
        names = {
            name: self.random.randint(0, row.seq + 1)
            for name in self.random.sample(["x", "é:", "start"], self.random.randrange(3))
        }
        change = Amendment(
            names=names,
            retention=self._maybe(Retention(max_checkpoints=5)),
            floor=self._maybe(self.random.randint(0, row.head + 1)),
            tidied=self._maybe(self.random.randint(0, row.seq)),
            made_at=self._maybe(self._when(row)),
        )
        return f"amend {row.thread_id} {change}", lambda store: store.amend(row.thread_id, change)

    def rewrite(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        thread_id = self.random.choice(THREADS)
        segments = self.memory.segments(thread_id)[::-1]
        start = self.random.randrange(len(segments) + 1)
        old = segments[start : start + self.random.choice([1, 2, 3])]
        if old and self.random.random() < 0.2:
            old[0] = replace(old[0], commit_id="other")
        new: list[Segment] = []
        if old and self.random.random() < 0.8:
            rows = tuple(row for segment in old for row in segment.rows)
            new = [replace(old[-1], first=old[0].first, last=old[-1].last, rows=rows)]
        return f"rewrite {thread_id}", lambda store: store.rewrite(thread_id, old, new)

    def load(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        source, target = self.random.sample(THREADS, 2)
        complete, some = self.random.random() < 0.6, self.random.randrange(4)

        def call(store: CheckpointStore) -> None:
            image = self.memory.image(source)
            renamed = replace(
                image,
                thread=replace(image.thread, thread_id=target),
                runs=tuple(replace(run, thread_id=target) for run in image.runs),
            )
            segments = [replace(segment, thread_id=target) for segment in self.memory.segments(source)][:some]
            if image.thread.origin is None or image.thread.origin.thread_id != target:
                store.load(renamed, segments, complete=complete)

        return f"load {source} as {target} {complete}", call

    def delete(self) -> tuple[str, Callable[[CheckpointStore], Any]]:
        thread_id = self.random.choice(THREADS)
        row = self.row(thread_id)
        seen = self._maybe(replace(row, created_at=self._when(row), seq=row.seq - self.random.choice([0, 0, 1])))
        return f"delete {thread_id} {seen}", lambda store: store.delete(thread_id, seen=seen)

    def _when(self, row: ThreadRecord) -> float:
        """When a thread was made, or another one before it."""
        return row.created_at - self.random.choice([0.0, 0.0, 0.125])


def _answer(store: CheckpointStore, call: Callable[[CheckpointStore], Any]) -> Any:
    try:
        found = call(store)
    except StoreError as error:
        return type(error), error.__dict__, str(error) if "script" in str(error) else ""
    if isinstance(found, list):
        return [(type(each), each.__dict__ if isinstance(each, StoreError) else each) for each in found]
    return found


def _seen(store: CheckpointStore) -> Any:
    """All that a store shows."""
    threads = store.threads().threads
    filters = [
        ThreadFilter(statuses=PARKED),
        ThreadFilter(statuses=frozenset({Status.QUEUED, Status.FAILED}), graph="h"),
        ThreadFilter(graph="g"),
        ThreadFilter(owner=""),
        ThreadFilter(driver="loading", tag="x"),
        ThreadFilter(untidied=2, updated_before=10.0),
    ]
    return (
        threads,
        [[row.thread_id for row in store.threads(where).threads] for where in filters],
        [row.thread_id for row in store.due(10.0)],
        [store.image(row.thread_id) for row in threads],
        [store.segments(row.thread_id) for row in threads],
        [sorted(store.forks(row.thread_id), key=lambda fork: (fork.seq, fork.thread_id)) for row in threads],
        {**vars_of(store)},
    )


def vars_of(store: CheckpointStore) -> dict[str, Any]:
    stats = store.stats()
    return {
        name: getattr(stats, name) for name in ("threads", "segments", "segment_bytes", "messages", "message_bytes")
    }


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisStore]:
    with RedisStore(redis_url) as store:
        yield store


@pytest.mark.parametrize("seed", range(6))
def test_any_calls_in_any_order(redis: RedisStore, seed: int) -> None:
    both = Both(redis, seed)
    for _ in range(CALLS):
        both.step()
    redis_raw.check_whole(redis_raw.dump(redis))
