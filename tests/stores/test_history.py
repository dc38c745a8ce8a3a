"""The reader of histories: over forks, coalesced commits and long chains; in few queries."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.errors import Corrupt, StoreUnavailable, UnknownCheckpoint, UnknownThread
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Origin, Segment
from perdure.stores.segments import Kind, Row
from tests.stores.backends import TOKEN, commit, new_thread, owned


def row(kind: Kind, seq: int, channel: str = "", *, version: int | None = None, prev: int = 0) -> Row:
    return Row(kind, seq, channel, seq if version is None else version, prev, "node", 0, f"{channel}@{seq}".encode())


def write(store: CheckpointStore, thread_id: str, first: int, last: int, *rows: Row) -> None:
    """One commit, of one step or several coalesced."""
    (result,) = store.commit([commit(first, last, thread_id=thread_id, rows=rows)])
    assert not isinstance(result, Exception), result


def fork(store: CheckpointStore, thread_id: str, origin: str, seq: int) -> None:
    store.create(new_thread(thread_id, origin=Origin(thread_id=origin, seq=seq), seq=seq, head=seq))
    store.claim(thread_id, epoch=0, token=TOKEN, owner="o")


def versions_of(chains: Mapping[str, Sequence[Row]]) -> dict[str, list[int]]:
    return {channel: [found.version for found in chain] for channel, chain in chains.items()}


@pytest.fixture
def family(store: CheckpointStore) -> CheckpointStore:
    """Threads a, b (from a at 3), c (from b at 5), d (from b at 2: before b's own first commit)."""
    owned(store, "a")
    write(
        store,
        "a",
        1,
        5,
        *(row(Kind.CHECKPOINT, seq) for seq in (1, 2, 3, 5)),
        row(Kind.VALUE, 1, "log"),
        row(Kind.DELTA, 2, "log", prev=1),
        row(Kind.DELTA, 4, "log", prev=2),
        row(Kind.VALUE, 3, "x"),
        row(Kind.VALUE, 5, "x", prev=3),
        row(Kind.RESULT, 4, "task", version=3),
    )
    fork(store, "b", "a", 3)
    write(store, "b", 4, 4, row(Kind.CHECKPOINT, 4), row(Kind.DELTA, 4, "log", prev=2))
    write(store, "b", 5, 6, row(Kind.CHECKPOINT, 5), row(Kind.CHECKPOINT, 6), row(Kind.SNAPSHOT, 6, "log", prev=4))
    fork(store, "c", "b", 5)
    write(store, "c", 6, 6, row(Kind.RESULT, 6, "own", version=5))
    write(store, "c", 7, 7, row(Kind.CHECKPOINT, 7), row(Kind.DELTA, 7, "log", prev=4))
    fork(store, "d", "b", 2)
    return store


def test_checkpoints_over_the_forks(family: CheckpointStore) -> None:
    def listed(thread_id: str, **bounds: Any) -> list[tuple[str, int]]:
        found = HistoryReader(family, thread_id).checkpoints(**bounds)
        return [(thread, checkpoint.checkpoint) for thread, checkpoint in found]

    assert listed("a") == [("a", 5), ("a", 3), ("a", 2), ("a", 1)]
    assert listed("b") == [("b", 6), ("b", 5), ("b", 4), ("a", 3), ("a", 2), ("a", 1)]
    assert listed("c") == [("c", 7), ("b", 5), ("b", 4), ("a", 3), ("a", 2), ("a", 1)]
    assert listed("d") == [("a", 2), ("a", 1)]
    assert listed("c", before=5, limit=2) == [("b", 4), ("a", 3)]
    assert listed("c", before=4) == [("a", 3), ("a", 2), ("a", 1)]
    assert listed("c", limit=0) == []
    assert listed("c", before=1) == []


def test_one_checkpoint(family: CheckpointStore) -> None:
    reader = HistoryReader(family, "c")
    assert [reader.checkpoint(seq)[0] for seq in (7, 5, 4, 3, 1)] == ["c", "b", "b", "a", "a"]
    assert reader.checkpoint(3)[1].checkpoint == 3
    for seq in (6, 8, 0, -1):
        with pytest.raises(UnknownCheckpoint) as caught:
            reader.checkpoint(seq)
        assert (caught.value.thread_id, caught.value.seq) == ("c", seq)
    with pytest.raises(UnknownCheckpoint):
        HistoryReader(family, "d").checkpoint(3)
    with pytest.raises(UnknownThread):
        HistoryReader(family, "none").checkpoint(1)


def test_channels_over_the_forks(family: CheckpointStore) -> None:
    assert versions_of(HistoryReader(family, "a").channels({"log": 4, "x": 5})) == {"log": [1, 2, 4], "x": [5]}
    assert versions_of(HistoryReader(family, "b").channels({"log": 6, "x": 3})) == {"log": [6], "x": [3]}
    chains = HistoryReader(family, "c").channels({"log": 7, "x": 3, "unset": 0})
    assert versions_of(chains) == {"log": [1, 2, 4, 7], "x": [3], "unset": []}
    # The row at version 4 is that of b, not the one that a wrote after the fork.
    assert HistoryReader(family, "c").channels({"log": 4})["log"][-1].prev == 2
    assert versions_of(HistoryReader(family, "d").channels({"log": 2})) == {"log": [1, 2]}


@pytest.mark.parametrize("versions", [{"log": 3}, {"none": 1}, {"log": 5, "x": 3}, {"log": 99}])
def test_a_missing_row_is_reported(family: CheckpointStore, versions: dict[str, int]) -> None:
    with pytest.raises(Corrupt, match="version"):
        HistoryReader(family, "c").channels(versions)


def test_what_came_after_the_fork_is_not_taken(family: CheckpointStore) -> None:
    """b forked from a at 3: what a did at 4 and 5 is in the same coalesced segment, but not b's."""
    with pytest.raises(Corrupt):
        HistoryReader(family, "b").channels({"x": 5})
    with pytest.raises(Corrupt):
        HistoryReader(family, "d").channels({"x": 3})


def test_rows_of_a_commit(family: CheckpointStore) -> None:
    reader = HistoryReader(family, "c")
    assert [(found.kind, found.channel) for found in reader.rows_of(7)] == [(Kind.CHECKPOINT, ""), (Kind.DELTA, "log")]
    assert [(found.kind, found.channel) for found in reader.rows_of(3)] == [(Kind.CHECKPOINT, ""), (Kind.VALUE, "x")]
    assert reader.rows_of(99) == []
    assert reader.rows_of(0) == []


def test_pending_rows(store: CheckpointStore) -> None:
    owned(store)
    write(store, "t", 1, 2, row(Kind.CHECKPOINT, 1), row(Kind.CHECKPOINT, 2), row(Kind.RESULT, 2, "old", version=1))
    kinds = (Kind.RESULT, Kind.INTERRUPT, Kind.ANSWER, Kind.PASS, Kind.WRITE, Kind.RESULT)
    for seq, kind in enumerate(kinds, 3):
        write(store, "t", seq, seq, row(kind, seq, "task", version=2 if seq < 8 else 1))
    reader = HistoryReader(store, "t")
    assert [(found.kind, found.checkpoint) for found in reader.pending(2)] == list(
        zip(kinds[:4], range(3, 7), strict=True)
    )
    # The result at 2 came in the commit of the next checkpoint: checkpoint 1 has nothing pending any more.
    assert reader.pending(1) == []
    write(store, "t", 9, 10, row(Kind.RESULT, 9, "late", version=2), row(Kind.CHECKPOINT, 10))
    write(store, "t", 11, 11, row(Kind.RESULT, 11, "after", version=2), row(Kind.RESULT, 11, "new", version=10))
    assert [found.checkpoint for found in reader.pending(2)] == [3, 4, 5, 6, 9]
    assert [found.channel for found in reader.pending(10)] == ["new"]


def test_pending_rows_are_not_inherited(family: CheckpointStore) -> None:
    assert [found.channel for found in HistoryReader(family, "a").pending(3)] == ["task"]
    assert HistoryReader(family, "b").pending(3) == []
    assert [found.channel for found in HistoryReader(family, "c").pending(5)] == ["own"]
    assert HistoryReader(family, "c").pending(3) == []


class Counting(MemoryStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.read: list[int] = []

    def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
        self.calls += 1
        found = super().segments(thread_id, **bounds)
        self.read += [segment.first for segment in found]
        return found


def test_ten_thousand_appends_are_few_queries() -> None:
    store = Counting()
    owned(store)
    write(store, "t", 1, 1, row(Kind.VALUE, 1, "log"))
    for seq in range(2, 10_001):
        write(store, "t", seq, seq, row(Kind.DELTA, seq, "log", prev=seq - 1))
    chain = HistoryReader(store, "t").channels({"log": 10_000})["log"]
    assert [found.version for found in chain] == list(range(1, 10_001))
    assert store.calls < 60
    assert sorted(store.read) == list(range(1, 10_001))


def test_rows_far_apart_do_not_cost_what_lies_between() -> None:
    store = Counting()
    owned(store)
    wanted = {f"c{i}": i * 400 + 1 for i in range(10)}
    at = {seq: channel for channel, seq in wanted.items()}
    for seq in range(1, 5001):
        write(store, "t", seq, seq, row(Kind.VALUE, seq, at.get(seq, "other")))
    assert versions_of(HistoryReader(store, "t").channels(wanted)) == {name: [seq] for name, seq in wanted.items()}
    assert store.calls <= 10
    assert len(store.read) <= 40


def test_any_history_reads_as_it_was_written() -> None:
    """Random forks, coalescing and channels against a model that keeps every chain."""
    for seed in range(25):
        chance = random.Random(seed)
        store = MemoryStore()
        owned(store, "t0")
        model: dict[str, dict[int, dict[str, list[int]]]] = {"t0": {0: {}}}
        for turn in range(40):
            thread_id = chance.choice(list(model))
            seq = store.thread(thread_id).seq
            if turn % 10 == 9 and seq > 0:
                at = chance.randint(0, seq)
                name = f"t{len(model)}"
                fork(store, name, thread_id, at)
                model[name] = {number: state for number, state in model[thread_id].items() if number <= at}
                continue
            rows: list[Row] = []
            last = seq + chance.randint(1, 4)
            for step in range(seq + 1, last + 1):
                state = dict(model[thread_id][step - 1])
                for channel in chance.sample(["a", "b", "c"], chance.randint(0, 3)):
                    chain = state.get(channel, [])
                    kind = chance.choice([Kind.VALUE, Kind.DELTA, Kind.DELTA, Kind.SNAPSHOT]) if chain else Kind.VALUE
                    rows.append(row(kind, step, channel, prev=chain[-1] if chain else 0))
                    state[channel] = [*chain, step] if kind is Kind.DELTA else [step]
                model[thread_id][step] = state
            write(store, thread_id, seq + 1, last, *rows)
        for thread_id, states in model.items():
            for state in states.values():
                versions = {channel: chain[-1] for channel, chain in state.items()}
                assert versions_of(HistoryReader(store, thread_id).channels(versions)) == state, (seed, thread_id)


def test_a_reader_races_with_a_writer(store: CheckpointStore) -> None:
    owned(store)
    write(store, "t", 1, 1, row(Kind.CHECKPOINT, 1), row(Kind.VALUE, 1, "log"))
    failed: list[str] = []
    done = threading.Event()

    def read() -> None:
        reader = HistoryReader(store, "t")
        while not done.is_set():
            try:
                _, head = next(reader.checkpoints(limit=1))
                chain = reader.channels({"log": head.checkpoint})["log"]
                if [found.version for found in chain] != list(range(1, head.checkpoint + 1)):
                    failed.append(f"head {head.checkpoint}, chain of {len(chain)}")
            except (Corrupt, StoreUnavailable) as error:
                failed.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for seq in range(2, 100):
            write(store, "t", seq, seq, row(Kind.CHECKPOINT, seq), row(Kind.DELTA, seq, "log", prev=seq - 1))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failed == []
