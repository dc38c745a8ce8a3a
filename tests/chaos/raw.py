"""The final store as its database has it, read past the store's own code."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure.stores.base import CheckpointStore
from perdure.stores.postgres import PostgresStore
from perdure.stores.redis import RedisStore
from perdure.stores.sqlite import SqliteStore
from tests.stores import postgres_raw, redis_raw

NUMBERS = ("epoch", "seq", "head", "inbox", "run", "runs", "crashes", "wake_at")
TEXTS = ("status", "reason", "owner", "token")


@dataclass(slots=True)
class RawThread:
    """One thread's rows."""

    row: dict[str, Any]
    """`NUMBERS` and `TEXTS`."""
    segments: list[tuple[int, int, int, str]] = field(default_factory=list)
    """(first, last, epoch, commit id), oldest first."""
    messages: list[tuple[int, str, str, str, int]] = field(default_factory=list)
    """(number, message id, kind, name, applied), in order."""
    runs: list[tuple[int, str, int]] = field(default_factory=list)
    """(run, status, end), in order."""


def read_raw(store: CheckpointStore) -> dict[str, RawThread]:
    """Everything, by thread id."""
    if isinstance(store, RedisStore):
        return _of_redis(store)
    if isinstance(store, PostgresStore):
        return _of_tables(lambda query: postgres_raw.ask(store.url, query.format(schema="perdure.")))
    assert isinstance(store, SqliteStore)
    with closing(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)) as raw:
        return _of_tables(lambda query: raw.execute(query.format(schema="")).fetchall())


def _of_tables(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> dict[str, RawThread]:
    columns = ", ".join((*NUMBERS, *TEXTS))
    found: dict[int, RawThread] = {}
    ids: dict[str, RawThread] = {}
    for number, thread_id, *cells in ask(f"SELECT number, thread_id, {columns} FROM {{schema}}threads ORDER BY number"):
        kept = RawThread(dict(zip((*NUMBERS, *TEXTS), cells, strict=True)))
        found[number] = ids[thread_id] = kept
    for thread, *cells in ask(
        "SELECT thread, first, last, epoch, commit_id FROM {schema}segments ORDER BY thread, first"
    ):
        found[thread].segments.append((cells[0], cells[1], cells[2], cells[3]))
    for thread, *cells in ask(
        "SELECT thread, number, message_id, kind, name, applied FROM {schema}messages ORDER BY thread, number"
    ):
        found[thread].messages.append((cells[0], cells[1], cells[2], cells[3], cells[4]))
    for thread, *cells in ask('SELECT thread, run, status, "end" FROM {schema}runs ORDER BY thread, run'):
        found[thread].runs.append((cells[0], cells[1], cells[2]))
    return ids


def _of_redis(store: RedisStore) -> dict[str, RawThread]:
    kept = redis_raw.dump(store)
    redis_raw.check_whole(kept)
    by_thread: dict[str, dict[str, Any]] = {}
    for key, held in kept.items():
        parts = key.split(":", 3)
        if len(parts) == 4 and parts[2] in redis_raw.OWN and not key.endswith(" expires"):
            by_thread.setdefault(parts[3], {})[parts[2]] = held
    return {thread_id: _of_hashes(held) for thread_id, held in by_thread.items()}


def _of_hashes(held: Mapping[str, Any]) -> RawThread:
    row = held["row"]
    numbers = {name: float(row[name.encode()]) if name == "wake_at" else int(row[name.encode()]) for name in NUMBERS}
    thread = RawThread({**numbers, **{name: row[name.encode()].decode() for name in TEXTS}})
    for member, _ in held.get("segments", ()):
        first, last, epoch, commit_id = member.decode().split(":", 3)
        thread.segments.append((int(first), int(last), int(epoch), commit_id))
    messages = held.get("messages", {})
    for number in sorted(int(name) for name in messages if name.isdigit()):
        message_id, kind, name, *_ = msgspec.msgpack.decode(messages[str(number).encode()])
        applied = int(messages.get(f"{number}:applied".encode(), 0))
        thread.messages.append((number, message_id, kind, name, applied))
    runs = held.get("runs", {})
    for run in sorted(int(name.partition(b":")[0]) for name in runs if name.endswith(b":made")):
        now = runs.get(f"{run}:now".encode())
        status, end = msgspec.msgpack.decode(now)[:2] if now else ("queued", 0)
        thread.runs.append((run, status, end))
    thread.segments.sort()
    return thread
