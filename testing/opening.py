"""What belongs to the whole store: its URL, its graphs, its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    StoreMisuse,
)
from ..stores.records import (
    GraphRecord,
)
from .harness import Harness, StoreSuite
from .samples import owned


class Opening(StoreSuite):
    def test_a_graph_is_kept_once(self, store: CheckpointStore) -> None:
        graph = GraphRecord(
            graph_key="k", name="n", version="1", kind="pickle", body=b"\x00body", signature=b"s", paths=("/a", "/b'")
        )
        store.put_graph(graph)
        store.put_graph(replace(graph, body=b"other"))
        assert store.graph("k") == graph
        with pytest.raises(StoreMisuse):
            store.graph("none")

    def test_the_url_opens_the_same_store(self, harness: Harness, store: CheckpointStore) -> None:
        owned(store)
        if harness.shared:
            with harness.open() as other:
                assert other.url == store.url
                assert other.thread("t") == store.thread("t")
        store.close()
        store.close()
