"""Segments: what was committed is read back, whole, also while others write."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    StoreMisuse,
)
from .harness import Harness, StoreSuite
from .samples import commit, delta, owned


class Segments(StoreSuite):
    def test_rows_come_back(self, store: CheckpointStore) -> None:
        owned(store)
        rows = tuple(delta(seq, bytes([seq]) * seq, channel=f"c'{seq}🦊") for seq in range(1, 6))
        store.commit([commit(1, 5, rows=rows)])
        store.commit([commit(6, rows=())])
        store.commit([commit(7)])
        segments = store.segments("t")
        assert [(segment.first, segment.last, segment.epoch) for segment in segments] == [
            (7, 7, 1),
            (6, 6, 1),
            (1, 5, 1),
        ]
        assert segments[2].rows == rows
        assert segments[1].rows == ()

    def test_segments_that_overlap(self, store: CheckpointStore) -> None:
        owned(store)
        for first, last in ((1, 3), (4, 4), (5, 9), (10, 10)):
            store.commit([commit(first, last)])

        def firsts(**bounds: Any) -> list[int]:
            return [segment.first for segment in store.segments("t", **bounds)]

        assert firsts() == [10, 5, 4, 1]
        assert firsts(first=3) == [10, 5, 4, 1]
        assert firsts(first=4) == [10, 5, 4]
        assert firsts(first=6, last=7) == [5]
        assert firsts(last=5) == [5, 4, 1]
        assert firsts(last=4, limit=1) == [4]
        assert firsts(first=11) == []
        assert firsts(last=0) == []
        assert firsts(limit=2) == [10, 5]
        with pytest.raises(StoreMisuse):
            store.segments("t", limit=0)

    def test_a_value_of_64_mebibytes(self, store: CheckpointStore) -> None:
        owned(store)
        payload = b"0123456789abcdef" * (4 << 20)
        store.commit([commit(1, rows=(delta(1, payload),))])
        (segment,) = store.segments("t")
        assert bytes(segment.rows[0].payload) == payload

    def test_readers_see_whole_commits(self, harness: Harness, store: CheckpointStore) -> None:
        owned(store)
        done = threading.Event()
        wrong: list[str] = []

        def look(reader: CheckpointStore) -> int:
            row = reader.thread("t")
            segments = reader.segments("t", first=1, last=row.seq or 1)
            if row.seq and (segments[0].last < row.seq or sum(len(segment.rows) for segment in segments) < row.seq):
                wrong.append(f"seq {row.seq} with segments to {segments[0].last}")
            if row.head != row.seq:
                wrong.append(f"head {row.head}, seq {row.seq}")
            return row.seq

        def read() -> list[int]:
            reader = harness.open() if harness.shared else store
            seen = [look(reader)]
            while not done.is_set():
                seen.append(look(reader))
            return [*seen, look(reader)]

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for first in range(1, 120, 3):
                    store.commit([commit(first, first + 2, head=first + 2)])
            finally:
                done.set()
            for seen in (reader.result() for reader in readers):
                assert seen == sorted(seen)
                assert seen[-1] == 120
        assert wrong == []
