"""Payloads that were changed behind the store's back, and values of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import Corrupt
from ..stores.operations import RunUpdate
from ..stores.records import GraphRecord, Status
from ..stores.segments import Kind, Row
from .harness import Harness, StoreSuite
from .samples import TOKEN, commit, history, message, new_thread
from .values import VALUES, same


class Integrity(StoreSuite):
    """A damaged payload is an error that names the record, never another value."""

    @pytest.mark.parametrize(
        ("what", "read"),
        [
            ("segment", lambda store: store.segments("t")),
            ("message", lambda store: store.messages("t", unread=False)),
            ("run", lambda store: store.runs("t")),
        ],
    )
    def test_a_flipped_bit_is_noticed(
        self, harness: Harness, store: CheckpointStore, what: str, read: Callable[[CheckpointStore], object]
    ) -> None:
        store.create(new_thread(), message("m-1", payload=b"input"))
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        failed = RunUpdate(run=1, status=Status.FAILED, end=1, error=b"trace")
        store.commit([commit(1, runs=(failed,))])
        read(store)
        harness.damage(store, "t", what)
        with pytest.raises(Corrupt, match="'t'"):
            read(store)

    def test_a_flipped_bit_of_a_graph_is_noticed(self, harness: Harness, store: CheckpointStore) -> None:
        store.put_graph(GraphRecord(graph_key="key-1", name="g", version="1", kind="pickle", body=b"code"))
        harness.damage(store, "key-1", "graph")
        with pytest.raises(Corrupt, match="key-1"):
            store.graph("key-1")

    def test_the_rest_stays_readable(self, harness: Harness, store: CheckpointStore) -> None:
        segments = history(store, 4)
        harness.damage(store, "t", "segment")
        assert store.segments("t", first=2)[::-1] == segments[1:]
        assert store.thread("t").seq == 4


class Values(StoreSuite):
    """Values come back equal and of the same type."""

    @pytest.mark.parametrize("name", VALUES)
    def test_a_value_comes_back(self, harness: Harness, store: CheckpointStore, name: str) -> None:
        codec = Codec()
        value = VALUES[name]
        encoding, payload = codec.encode(value)
        store.create(new_thread(), None)
        store.claim("t", epoch=0, token=TOKEN, owner="o")
        row = Row(Kind.VALUE, 1, "channel", 1, 0, "node", encoding, payload)
        store.commit([commit(1, rows=(row,))])
        (segment,) = harness.open().segments("t")
        assert segment.rows == (row,)
        assert same(codec.decode(segment.rows[0].encoding, segment.rows[0].payload), value)
