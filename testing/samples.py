"""Records to give to a store."""

from __future__ import annotations

import os
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.operations import Commit, Expect
from ..stores.records import Message, Segment, Status, ThreadRecord
from ..stores.segments import Kind, Row

ANY = Expect(statuses=frozenset(Status))
"""What every thread fulfils."""

TOKEN = "token-1"
"""The owner's token in `owned` and `commit`."""


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


def history(store: CheckpointStore, commits: int, thread_id: str = "t") -> list[Segment]:
    """A thread with an owner and so many commits; its segments, oldest first."""
    owned(store, thread_id)
    for seq in range(1, commits + 1):
        store.commit([commit(seq, thread_id=thread_id, head=seq)])
    return store.segments(thread_id)[::-1]
