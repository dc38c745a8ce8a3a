"""The stores under test, with a look at what they keep that does not go through them, and makers of records."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.records import (
    Commit,
    Expect,
    Message,
    Status,
    ThreadRecord,
)
from perdure.stores.segments import Kind, Row
from perdure.stores.urls import open_store

ANY = Expect(statuses=frozenset(Status))
TOKEN = "token-1"


@dataclass
class Backend:
    """One store and how to look into it from outside."""

    url: str
    shared: bool
    """Whether opening the URL again gives the same store."""
    count: Callable[[CheckpointStore, str], dict[str, int]]
    """Raw: rows kept for a thread, by table."""
    opened: list[CheckpointStore] = field(default_factory=list)

    def open(self) -> CheckpointStore:
        if self.opened and not self.shared:
            return self.opened[0]
        self.opened.append(open_store(self.url))
        return self.opened[-1]

    def close(self) -> None:
        for store in self.opened:
            store.close()


def memory_backend() -> Backend:
    def count(store: CheckpointStore, thread_id: str) -> dict[str, int]:
        assert isinstance(store, MemoryStore)
        kept = store._threads.get(thread_id)
        if kept is None:
            return {"threads": 0, "runs": 0, "messages": 0, "segments": 0}
        return {"threads": 1, "runs": len(kept.runs), "messages": len(kept.messages), "segments": len(kept.segments)}

    return Backend("memory://", False, count)


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

    return Backend(f"sqlite:///{path}", True, count)


def new_thread(thread_id: str = "t", **fields: Any) -> ThreadRecord:
    return ThreadRecord(**{"thread_id": thread_id, "graph": "g", "version": "1", "created_at": 1.5, **fields})


def message(message_id: str = "m", kind: str = "input", **fields: Any) -> Message:
    return Message(message_id=message_id, kind=kind, **fields)


def delta(seq: int, payload: bytes = b"x", *, channel: str = "log", prev: int | None = None) -> Row:
    return Row(Kind.DELTA, seq, channel, seq, seq - 1 if prev is None else prev, "node", 0, payload)


def commit(first: int, last: int | None = None, *, thread_id: str = "t", epoch: int = 1, **fields: Any) -> Commit:
    """A commit of the owner that `owned` made, one delta for each step."""
    last = first if last is None else last
    rows = tuple(delta(seq) for seq in range(first, last + 1))
    given: dict[str, Any] = {
        "thread_id": thread_id,
        "epoch": epoch,
        "token": TOKEN,
        "commit_id": os.urandom(16).hex(),
        "first": first,
        "last": last,
        "rows": rows,
    }
    return Commit(**{**given, **fields})


def owned(store: CheckpointStore, thread_id: str = "t", **fields: Any) -> ThreadRecord:
    """A new thread with an owner."""
    store.create(new_thread(thread_id, **fields))
    return store.claim(thread_id, epoch=fields.get("epoch", 0), token=TOKEN, owner="owner")
