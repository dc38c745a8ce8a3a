"""The stores under test, with a look at what they keep that does not go through them.

A new store is one more entry of `BACKENDS`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.urls import open_store
from perdure.testing import Harness
from perdure.testing.samples import ANY, TOKEN, commit, delta, message, new_thread, owned
from tests.stores import postgres_raw, redis_raw

__all__ = [
    "ANY",
    "BACKENDS",
    "TOKEN",
    "Backend",
    "commit",
    "delta",
    "memory_backend",
    "message",
    "new_thread",
    "owned",
    "postgres_backend",
    "redis_backend",
    "sqlite_backend",
]


class Backend(Harness):
    """The store that a URL names. `look` counts a thread's rows, by table, in the raw database; `flip` damages a
    payload there."""

    def __init__(
        self,
        url: str,
        shared: bool,
        look: Callable[[CheckpointStore, str], dict[str, int]],
        flip: Callable[[CheckpointStore, str, str], None],
    ) -> None:
        super().__init__()
        self.url = url
        self.shared = shared
        self._look = look
        self._flip = flip

    def connect(self) -> CheckpointStore:
        return open_store(self.url)

    def count(self, store: CheckpointStore, thread_id: str) -> dict[str, int]:
        return self._look(store, thread_id)

    def damage(self, store: CheckpointStore, thread_id: str, what: str) -> None:
        self._flip(store, thread_id, what)


def flipped(payload: bytes) -> bytes:
    """The payload with its last bit changed."""
    return payload[:-1] + bytes([payload[-1] ^ 1])


def memory_backend() -> Backend:
    def count(store: CheckpointStore, thread_id: str) -> dict[str, int]:
        assert isinstance(store, MemoryStore)
        kept = store._threads.get(thread_id)
        if kept is None:
            return {"threads": 0, "runs": 0, "messages": 0, "segments": 0}
        return {"threads": 1, "runs": len(kept.runs), "messages": len(kept.messages), "segments": len(kept.segments)}

    def flip(store: CheckpointStore, thread_id: str, what: str) -> None:
        assert isinstance(store, MemoryStore)
        if what == "graph":
            graph = store._graphs[thread_id]
            store._graphs[thread_id] = replace(graph, body=flipped(graph.body))
            return
        kept = store._threads[thread_id]
        if what == "segment":
            kept.segments[0] = kept.segments[0]._replace(data=flipped(kept.segments[0].data))
        elif what == "message":
            kept.messages[0] = replace(kept.messages[0], payload=flipped(kept.messages[0].payload))
        else:
            kept.runs[1] = replace(kept.runs[1], error=flipped(kept.runs[1].error))

    return Backend("memory://", False, count, flip)


def sqlite_backend(folder: Path) -> Backend:
    path = folder / "store.db"

    def count(store: CheckpointStore, thread_id: str) -> dict[str, int]:
        with closing(sqlite3.connect(path)) as raw:
            counts = {"threads": raw.execute("SELECT count(*) FROM threads WHERE thread_id = ?", (thread_id,))}
            for table in ("runs", "messages", "segments"):
                counts[table] = raw.execute(
                    f"SELECT count(*) FROM {table} WHERE thread = (SELECT number FROM threads WHERE thread_id = ?)",
                    (thread_id,),
                )
            found = {table: cursor.fetchone()[0] for table, cursor in counts.items()}
            # Rows of a thread that is gone belong to nobody: none may be left anywhere.
            for table in ("runs", "messages", "segments"):
                orphans = f"SELECT count(*) FROM {table} WHERE thread NOT IN (SELECT number FROM threads)"
                assert raw.execute(orphans).fetchone()[0] == 0, table
            return found

    def flip(store: CheckpointStore, thread_id: str, what: str) -> None:
        table, column, key, order = {
            "segment": ("segments", "data", "thread", "first"),
            "message": ("messages", "payload", "thread", "number"),
            "run": ("runs", "error", "thread", "run"),
            "graph": ("graphs", "body", "graph_key", "graph_key"),
        }[what]
        owner = "?" if what == "graph" else "(SELECT number FROM threads WHERE thread_id = ?)"
        with closing(sqlite3.connect(path)) as raw:
            row, payload = raw.execute(
                f"SELECT rowid, {column} FROM {table} WHERE {key} = {owner} ORDER BY {order} LIMIT 1", (thread_id,)
            ).fetchone()
            raw.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (flipped(payload), row))
            raw.commit()

    return Backend(f"sqlite:///{path}", True, count, flip)


def postgres_backend(url: str) -> Backend:
    return Backend(url, True, postgres_raw.count, postgres_raw.flip)


def redis_backend(url: str) -> Backend:
    return Backend(url, True, redis_raw.count, redis_raw.flip)


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": lambda request: memory_backend(),
    "sqlite": lambda request: sqlite_backend(request.getfixturevalue("tmp_path")),
    "postgres": lambda request: postgres_backend(request.getfixturevalue("postgres_url")),
    "redis": lambda request: redis_backend(request.getfixturevalue("redis_url")),
    "redis cluster": lambda request: redis_backend(request.getfixturevalue("redis_cluster_url")),
}
"""Name -> how to make an empty one. Those with a server take its URL: `request.getfixturevalue("postgres_url")`."""
