"""Segments are replaced by others of the same commits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse
from ..stores.operations import Committed
from ..stores.records import Segment, Status
from .harness import StoreSuite
from .samples import commit, history


def joined(segments: list[Segment]) -> Segment:
    """Several segments, oldest first, as one."""
    newest = segments[-1]
    return replace(newest, first=segments[0].first, rows=tuple(row for segment in segments for row in segment.rows))


class Rewriting(StoreSuite):
    def test_segments_are_replaced_by_one(self, store: CheckpointStore) -> None:
        segments = history(store, 6)
        assert store.rewrite("t", segments[1:4], [joined(segments[1:4])]) is True
        kept = store.segments("t")[::-1]
        assert [(segment.first, segment.last) for segment in kept] == [(1, 1), (2, 4), (5, 5), (6, 6)]
        assert [row for segment in kept for row in segment.rows] == [row for each in segments for row in each.rows]
        assert [segment.first for segment in store.segments("t", first=3, last=5)] == [5, 2]
        assert [segment.first for segment in store.segments("t", first=4, last=4, limit=1)] == [2]
        assert isinstance(store.commit([commit(7)])[0], Committed)

    def test_a_rewritten_segment_may_be_rewritten_again(self, store: CheckpointStore) -> None:
        segments = history(store, 9)
        store.rewrite("t", segments[0:4], [joined(segments[0:4])])
        store.rewrite("t", segments[4:8], [joined(segments[4:8])])
        two = store.segments("t", last=8)[::-1]
        assert store.rewrite("t", two, [joined(two)]) is True
        assert [(segment.first, segment.last) for segment in store.segments("t")] == [(9, 9), (1, 8)]

    def test_what_was_rewritten_meanwhile_is_left_alone(self, store: CheckpointStore) -> None:
        segments = history(store, 6)
        assert store.rewrite("t", segments[0:2], [joined(segments[0:2])]) is True
        before = store.segments("t")
        assert store.rewrite("t", segments[1:4], [joined(segments[1:4])]) is False
        assert store.rewrite("t", segments[0:2], []) is False
        assert store.segments("t") == before

    def test_the_newest_segment_is_never_rewritten(self, store: CheckpointStore) -> None:
        segments = history(store, 4)
        assert store.rewrite("t", segments[2:4], [joined(segments[2:4])]) is False
        assert store.segments("t")[::-1] == segments

    def test_rows_may_be_dropped(self, store: CheckpointStore) -> None:
        segments = history(store, 5)
        assert store.rewrite("t", segments[0:3], []) is True
        assert [segment.first for segment in store.segments("t")] == [5, 4]
        assert store.segments("t", first=2, last=2) == []
        assert [segment.first for segment in store.segments("t", first=1, last=4)] == [4]

    def test_rewriting_keeps_to_its_commits(self, store: CheckpointStore) -> None:
        segments = history(store, 5)
        with pytest.raises(StoreMisuse):
            store.rewrite("t", segments[1:3], [joined(segments[0:3])])
        with pytest.raises(StoreMisuse):
            store.rewrite("t", segments[1:3], [replace(joined(segments[1:3]), thread_id="other")])
        assert store.segments("t")[::-1] == segments

    def test_rewriting_what_is_not_there(self, store: CheckpointStore) -> None:
        segments = history(store, 3)
        store.commit([commit(4, status=Status.SUCCEEDED, release=True)])
        store.delete("t")
        assert store.rewrite("t", segments[:2], [joined(segments[:2])]) is False

    def test_a_lost_answer_is_found_beside_rewritten_segments(self, store: CheckpointStore) -> None:
        segments = history(store, 4)
        last = commit(5)
        store.commit([last])
        store.rewrite("t", segments[:3], [joined(segments[:3])])
        assert store.commit([last]) == [Committed(seq=5, inbox=0, repeated=True)]
