"""Graphs whose record in the store cannot be read: the service once started actors for them again for ever."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from perdure import Client, Paused
from perdure.actors.shipping import ship
from tests.actors.services import eventually, supervisor_process
from tests.actors.test_shipping import local_graph


def body(client: Client, key: str, new: bytes | None = None) -> bytes:
    """What the store keeps as the body of a graph, beneath its checks; `new` replaces it."""
    store: Any = client.store
    with closing(sqlite3.connect(store.path)) as file, file:
        found: bytes = file.execute("SELECT body FROM graphs WHERE graph_key = ?", (key,)).fetchone()[0]
        if new is not None:
            file.execute("UPDATE graphs SET body = ? WHERE graph_key = ?", (new, key))
    return found


def phases(client: Client) -> list[str]:
    return [actor["phase"] for actor in client._supervisors.ask("actors")[0]]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]), "is damaged: its checksum does not match"),
        (lambda kept: kept[:4] + b"\x63" + kept[5:], "has payload format 99"),
        (lambda kept: b"PRDE" + kept[4:], "is encrypted"),
    ],
    ids=["damaged", "newer", "sealed"],
)
def test_a_record_that_cannot_be_read_pauses_its_threads(
    client: Client, damage: Any, text: str, request: pytest.FixtureRequest
) -> None:
    graph = local_graph(name=request.node.callspec.id)
    record = ship(graph, signing_key=client._settings.signing_key, local=True)
    client.store.put_graph(record)
    good = body(client, record.graph_key)
    body(client, record.graph_key, damage(good))
    thread, other = client.submit(graph, {"n": 1}), client.submit(graph, {"n": 2})
    for one in (thread, other):
        with pytest.raises(Paused, match=text):
            one.result(timeout=30)
    other.cancel()
    try:
        eventually(lambda: other.status == "cancelled", 30, "the cancel")
    except AssertionError as error:
        seen = (client.store.thread(other.thread_id), phases(client), client._supervisors.stalled(other.thread_id))
        raise AssertionError(f"not cancelled: row, phases of actors, what the supervisor says: {seen}") from error
    eventually(lambda: "starting" not in phases(client), 30, "the roster")
    body(client, record.graph_key, good)
    thread.retry()
    assert thread.result(timeout=30) == {"n": 2}


def test_a_record_that_is_gone_pauses_its_threads(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = local_graph(name="gone")
    with monkeypatch.context() as patch:
        patch.setattr(client.store, "put_graph", lambda graph: None)
        thread = client.submit(graph, {"n": 1})
    with pytest.raises(Paused, match=r"no graph .* submit the graph again"):
        thread.result(timeout=30)
    client.store.put_graph(ship(graph, signing_key=client._settings.signing_key, local=True))
    thread.retry()
    assert thread.result(timeout=30) == {"n": 2}


def test_a_warm_actor_of_a_new_supervisor_does_not_hide_it(client: Client) -> None:
    graph = local_graph(name="warm")
    assert client.submit(graph, {"n": 1}).result(timeout=30) == {"n": 2}
    key = ship(graph, signing_key=client._settings.signing_key, local=True).graph_key
    good = body(client, key)
    body(client, key, good[:-1])
    old = supervisor_process(client)
    old.send(signal.SIGKILL)
    eventually(lambda: not old.alive, what="the supervisor's end")
    thread = client.submit(graph, {"n": 1})
    with pytest.raises(Paused, match="is damaged"):
        thread.result(timeout=60)
    body(client, key, good)
    thread.retry()
    assert thread.result(timeout=30) == {"n": 2}
