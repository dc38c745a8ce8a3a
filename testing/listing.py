"""Listing threads with filters and cursors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    StoreMisuse,
)
from ..stores.operations import ThreadFilter
from ..stores.records import ENDED, PARKED, Status
from .harness import StoreSuite
from .samples import new_thread


def listed(store: CheckpointStore, where: ThreadFilter | None = None, limit: int = 100) -> list[str]:
    names: list[str] = []
    cursor = None
    while True:
        page = store.threads(where, limit=limit, cursor=cursor)
        assert len(page.threads) <= limit
        names += [row.thread_id for row in page.threads]
        cursor = page.cursor
        if cursor is None:
            return names
        assert len(page.threads) == limit


class Listing(StoreSuite):
    def test_listing_thousands_with_filters_and_cursors(self, store: CheckpointStore) -> None:
        statuses = list(Status)
        names = [f"t{i}" for i in range(self.listed)]

        def create(i: int) -> None:
            metadata = {"user": f"u{i % 10}", "n": i % 3, "flag": i % 2 == 0, "team": ["a", i % 5]}
            tags = ("even",) if i % 2 == 0 else ()
            fields = {"status": statuses[i % 9], "graph": f"g{i % 4}", "owner": f"o{i % 7}"}
            store.create(new_thread(names[i], metadata=metadata, tags=tags, **fields))

        # Several at once, as most of it is waiting for a disk; of the last ones alone the order is known.
        serial = range(max(self.listed - 500, 0), self.listed)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(create, range(serial.start)))
        for i in serial:
            create(i)
        order = [int(name[1:]) for name in listed(store, limit=self.listed)]
        assert sorted(order) == list(range(self.listed))
        assert order[: len(serial)] == list(reversed(serial))
        expected: list[tuple[ThreadFilter, Callable[[int], bool]]] = [
            (ThreadFilter(), lambda i: True),
            (ThreadFilter(statuses=frozenset({Status.PAUSED})), lambda i: statuses[i % 9] is Status.PAUSED),
            (ThreadFilter(statuses=PARKED), lambda i: statuses[i % 9] in PARKED),
            (ThreadFilter(statuses=frozenset()), lambda i: False),
            (ThreadFilter(graph="g1", tag="even"), lambda i: False),
            (ThreadFilter(graph="g2", tag="even", statuses=ENDED), lambda i: i % 4 == 2 and statuses[i % 9] in ENDED),
            (ThreadFilter(owner="o3", driver="service"), lambda i: i % 7 == 3),
            (ThreadFilter(driver="inprocess"), lambda i: False),
            (ThreadFilter(metadata={"user": "u4", "n": 1}), lambda i: i % 10 == 4 and i % 3 == 1),
            (ThreadFilter(metadata={"flag": True}), lambda i: i % 2 == 0),
            (ThreadFilter(metadata={"team": ["a", 2]}), lambda i: i % 5 == 2),
        ]
        for where, keep in expected:
            assert listed(store, where, limit=137) == [names[i] for i in order if keep(i)]
        assert store.threads(limit=self.listed).cursor is None

    def test_a_listing_while_threads_come_and_go(self, store: CheckpointStore) -> None:
        for i in range(30):
            store.create(new_thread(f"t{i}", status=Status.FAILED))
        page = store.threads(limit=10)
        store.create(new_thread("new"))
        store.delete("t19")
        store.delete("t25")
        rest = store.threads(limit=30, cursor=page.cursor)
        assert [row.thread_id for row in rest.threads] == [f"t{i}" for i in range(18, -1, -1)]
        store.delete("t29")
        store.create(new_thread("t29"))
        assert listed(store)[:2] == ["t29", "new"]

    def test_metadata_is_compared_as_json(self, store: CheckpointStore) -> None:
        values = [1, 1.5, True, False, None, "1", "true", "", [1], [True], {"a": 1}, 0, "null", 2**53 + 1, "é"]
        for i, value in enumerate(values):
            store.create(new_thread(f"t{i}", metadata={"k": value, "other": [value]}))
        store.create(new_thread("without"))
        for i, value in enumerate(values):
            assert listed(store, ThreadFilter(metadata={"k": value})) == [f"t{i}"], value
            assert listed(store, ThreadFilter(metadata={"other": [value]})) == [f"t{i}"], value
        assert listed(store, ThreadFilter(metadata={"k": 1.0})) == ["t0"]
        assert listed(store, ThreadFilter(metadata={"absent": None})) == []
        for key in ('a"b', "$.k", "k.x", "k'", "🦊", ""):
            assert listed(store, ThreadFilter(metadata={key: 1})) == []
            store.create(new_thread(f"key {key}", metadata={key: 1}))
            assert listed(store, ThreadFilter(metadata={key: 1})) == [f"key {key}"]

    @pytest.mark.parametrize(("limit", "cursor"), [(0, None), (-1, None), (5, "x"), (5, "-1"), (5, ""), (5, "9" * 30)])
    def test_listings_that_are_refused(self, store: CheckpointStore, limit: int, cursor: str | None) -> None:
        with pytest.raises(StoreMisuse):
            store.threads(limit=limit, cursor=cursor)
