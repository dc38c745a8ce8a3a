"""Graphs whose record in the store cannot be read: the service once started actors for them again for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure import Client, Paused, open_store
from perdure.actors.shipping import ship
from perdure.stores.base import CheckpointStore
from perdure.stores.errors import FINAL
from tests.actors.services import eventually
from tests.actors.test_shipping import KEY, local_graph


def body(store: Any, key: str, new: bytes | None = None) -> bytes:
    """What the store keeps as the body of a graph, beneath its checks; `new` replaces it."""
    with closing(sqlite3.connect(store.path)) as file, file:
        found: bytes = file.execute("SELECT body FROM graphs WHERE graph_key = ?", (key,)).fetchone()[0]
        if new is not None:
            file.execute("UPDATE graphs SET body = ? WHERE graph_key = ?", (new, key))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_store(f"sqlite:///{tmp_path}/graphs.db") as opened:
        yield opened


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]), "is damaged: its checksum does not match"),
        (lambda kept: kept[:-1], "is damaged"),
        (lambda kept: kept[:4] + b"\x63" + kept[5:], "has payload format 99"),
        (lambda kept: b"PRDE" + kept[4:], "is encrypted"),
    ],
    ids=["damaged", "cut", "newer", "sealed"],
)
def test_what_is_wrong_with_a_record_is_final(
    store: CheckpointStore, damage: Callable[[bytes], bytes], text: str
) -> None:
    record = ship(local_graph(), signing_key=KEY, local=True)
    store.put_graph(record)
    body(store, record.graph_key, damage(body(store, record.graph_key)))
    with pytest.raises(FINAL, match=text):
        store.graph(record.graph_key)


def test_a_record_that_is_gone_is_final(store: CheckpointStore) -> None:
    with pytest.raises(FINAL, match=r"no graph .* submit the graph again"):
        store.graph("gone")


def test_a_record_that_cannot_be_read_pauses_its_threads(client: Client) -> None:
    graph = local_graph(name="damaged")
    record = ship(graph, signing_key=client._settings.signing_key, local=True)
    client.store.put_graph(record)
    good = body(client.store, record.graph_key)
    body(client.store, record.graph_key, good[:-1] + bytes([good[-1] ^ 1]))
    thread, other = client.submit(graph, {"n": 1}), client.submit(graph, {"n": 2})
    for one in (thread, other):
        with pytest.raises(Paused, match=r"its graph cannot be read: .*its checksum does not match"):
            one.result(timeout=60)
    other.cancel()
    eventually(lambda: other.status == "cancelled", 30, "the cancel")
    body(client.store, record.graph_key, good)
    thread.retry()
    assert thread.result(timeout=60) == {"n": 2}
