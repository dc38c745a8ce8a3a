"""Small segments are put together: nothing is lost, each row is rewritten a few times, long histories read fast."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from perdure.stores.base import CheckpointStore
from perdure.stores.columns import size_of
from perdure.stores.compaction import MOST_SEGMENTS, TARGET_BYTES, TARGET_ROWS, Packer
from perdure.stores.fetching import newest_first
from perdure.stores.history import HistoryReader
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Committed
from perdure.stores.records import Retention, Segment
from perdure.stores.retention import sweeps
from perdure.stores.segments import Kind, Row
from tests.stores.backends import commit, new_thread, owned
from tests.stores.histories import tidied
from tests.stores.test_retention import append, appended


def piece(seq: int, rows: int = 1, size: int = 1) -> Segment:
    made = tuple(Row(Kind.DELTA, seq, "log", seq, seq - 1, "", 0, b"x" * size) for _ in range(rows))
    return Segment(thread_id="t", first=seq, last=seq, epoch=1, commit_id=f"c{seq}", rows=made)


def packed(segments: list[Segment]) -> list[tuple[int, int]]:
    """(first, last) of each batch; segments are given oldest first."""
    packer = Packer()
    batches = [packer.add(segment, segment.rows) for segment in reversed(segments)]
    return [(one.old[0].first, one.old[-1].last) for one in (*batches, packer.flush()) if one is not None]


def test_all_rows_are_there_in_their_order(store: CheckpointStore) -> None:
    appended(store, 600)
    before = [row for segment in store.segments("t")[::-1] for row in segment.rows]
    last, before_last = store.segments("t", limit=2)
    tidied(store, "t", Retention())
    after = store.segments("t")
    assert [row for segment in after[::-1] for row in segment.rows] == before
    assert after[0] == last, "the newest commit is never touched"
    assert len(after) == 3
    assert [segment.first for segment in after[:-1]] == [segment.last + 1 for segment in after[1:]]
    assert (after[1].last, after[1].epoch, after[1].commit_id) == (599, 1, before_last.commit_id)


def test_an_owner_still_finds_its_last_commit(store: CheckpointStore) -> None:
    """The answer to it was lost, and somebody tidied the thread before it was sent again."""
    owned(store, "t")
    for seq in range(1, 40):
        append(store, seq)
    mine = commit(40)
    store.commit([mine])
    tidied(store, "t", Retention())
    (again,) = store.commit([mine])
    assert isinstance(again, Committed)
    assert again.repeated


def test_batches_are_bounded() -> None:
    many = packed([piece(seq) for seq in range(1, 2 * MOST_SEGMENTS + 2)])
    assert many == [(MOST_SEGMENTS + 2, 2 * MOST_SEGMENTS + 1), (2, MOST_SEGMENTS + 1)]
    rows = packed([piece(seq, rows=TARGET_ROWS // 4) for seq in range(1, 9)])
    assert rows == [(5, 8), (1, 4)]
    large = packed([piece(seq, size=TARGET_BYTES // 3) for seq in range(1, 5)])
    assert large == [(3, 4), (1, 2)]
    assert packed([piece(1, size=2 * TARGET_BYTES)]) == []
    assert packed([piece(1, size=1000), piece(2)]) == []


def test_a_row_is_rewritten_a_few_times() -> None:
    """Tidied again and again while it grows, as a busy thread is: O(log n) for each row, and no pass reads it all."""

    class Counting(MemoryStore):
        written = read = 0

        def rewrite(self, thread_id: str, old: Any, new: Any) -> bool:
            self.written += sum(len(segment.rows) for segment in new)
            return super().rewrite(thread_id, old, new)

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            found = super().segments(thread_id, **bounds)
            self.read += sum(len(segment.rows) for segment in found)
            return found

    store = Counting()
    owned(store, "t")
    total = 6000
    for seq in range(1, total + 1):
        append(store, seq)
        if seq % 100 == 0:
            tidied(store, "t", Retention(), thorough=False)
    rows = 3 * total
    assert store.written <= rows * math.log2(TARGET_ROWS)
    assert store.written <= rows * 5
    assert store.read <= rows * 8
    assert len(store.segments("t")) <= 30


def test_a_whole_sweep_comes_at_growing_distances() -> None:
    """For a thread whose old rows have to be kept, all of it is gone through ever more rarely."""
    sweeps_at = []
    tidied_to = floor = 0
    for seq in range(512, 400_000, 512):
        row = new_thread(seq=seq, head=seq, floor=seq - 10, tidied=tidied_to)
        if sweeps(row, floor):
            sweeps_at.append(seq)
        tidied_to, floor = seq, seq - 10
    assert sum(sweeps_at) < 400_000 * 40
    gaps = [later - earlier for earlier, later in pairwise(sweeps_at)]
    assert gaps[0] == 512
    assert max(gaps) > 10_000


def test_a_pass_that_died_is_made_up_for() -> None:
    """Until one is done `tidied` stays, and so the next pass sweeps too."""
    assert sweeps(new_thread(seq=5000, head=5000, floor=4000, tidied=4096), 4000)
    assert not sweeps(new_thread(seq=5000, head=5000, floor=4000, tidied=4999), 4000)


def test_ten_thousand_appends_are_few_reads() -> None:
    """Each commit of its own before; afterwards the newest state and one in the middle take a handful of segments."""

    class Counting(MemoryStore):
        found = 0

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            found = super().segments(thread_id, **bounds)
            self.found += len(found)
            return found

    store = Counting()
    appended(store, 10_000)
    tidied(store, "t", Retention())
    reader = HistoryReader(store, "t")
    store.found = 0
    assert len(reader.channels({"log": 10_000, "x": 10_000})["log"]) == 10_000
    assert store.found <= 40
    store.found = 0
    assert len(reader.channels({"log": 50, "x": 50})["log"]) == 50
    assert store.found <= 2


def test_fetches_are_bounded_in_bytes() -> None:
    class Measuring(MemoryStore):
        most = 0

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            found = super().segments(thread_id, **bounds)
            self.most = max(self.most, sum(size_of(segment.rows) for segment in found))
            return found

    store = Measuring()
    owned(store, "t")
    for seq in range(1, 61):
        append(store, seq, size=1 << 19)
    assert len(list(newest_first(store, "t", 60))) == 60
    HistoryReader(store, "t").channels({"log": 60})
    assert store.most <= 8 << 20
