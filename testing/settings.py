"""Settings, graph keys, statistics."""

from __future__ import annotations

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse
from ..stores.records import (
    GraphRecord,
    Status,
)
from .harness import StoreSuite
from .samples import history, message, new_thread


class Settings(StoreSuite):
    def test_settings(self, store: CheckpointStore) -> None:
        assert store.setting("s") is None
        for value in ({"a": [1, 2.5, None, "ü"]}, False, 0, "", [1]):
            store.put_setting("s", value)
            assert store.setting("s") == value
        store.put_setting("s", None)
        store.put_setting("s", None)
        assert store.setting("s") is None
        with pytest.raises(StoreMisuse):
            store.put_setting("s", object())
        with pytest.raises(StoreMisuse):
            store.put_setting("", 1)

    def test_graph_keys_are_sorted(self, store: CheckpointStore) -> None:
        assert store.graph_keys() == ()
        for key in ("b", "a", "ä"):
            store.put_graph(GraphRecord(graph_key=key, name="g", version="1", kind="reference", body=b"x"))
        assert store.graph_keys() == ("a", "b", "ä")

    def test_statistics(self, store: CheckpointStore) -> None:
        empty = store.stats()
        assert (dict(empty.threads), empty.segments, empty.messages, empty.graphs, empty.owners) == ({}, 0, 0, 0, 0)
        history(store, 3)
        store.create(new_thread("other"), message(payload=b"12345"))
        stats = store.stats()
        assert dict(stats.threads) == {Status.RUNNING: 1, Status.QUEUED: 1}
        assert (stats.segments, stats.messages) == (3, 1)
        assert stats.segment_bytes >= 3
        assert stats.message_bytes >= 5
