"""A look into a Redis store past the store: keys and what they hold, on every node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from redis import Redis

from perdure.stores.base import CheckpointStore
from perdure.stores.redis import RedisStore

OWN = ("row", "runs", "messages", "unread", "segments", "data", "forks")
PARKED = (b"interrupted", b"sleeping", b"waiting", b"paused")


def clients(store: CheckpointStore) -> list[Any]:
    # Any: half of the driver is without types.
    assert isinstance(store, RedisStore)
    return [client for _, client in store._connections.nodes()]


def dump(store: CheckpointStore) -> dict[str, Any]:
    """Every key of the server and what it holds, with its time to live if it has one."""
    return {key: held for client in clients(store) for key, held in _dump(client)}


def _dump(client: Redis) -> Iterator[tuple[str, Any]]:
    keys = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.type(key)
            pipeline.pttl(key)
        told = pipeline.execute()
        for key, kind in zip(keys, told[::2], strict=True):
            if kind == b"hash":
                pipeline.hgetall(key)
            elif kind == b"zset":
                pipeline.zrange(key, 0, -1, withscores=True)
            else:
                pipeline.get(key)
        kept = pipeline.execute()
    for key, held, left in zip(keys, kept, told[1::2], strict=True):
        yield key.decode(), held
        if left != -1:
            yield f"{key.decode()} expires", left > 0


def key(store: RedisStore, kind: str, thread_id: str) -> str:
    found = dict(zip(OWN, store._keys.thread(thread_id), strict=False))
    return found[kind]


def count(store: CheckpointStore, thread_id: str) -> dict[str, int]:
    kept = dump(store)
    check_whole(kept)
    found = {key.split(":", 3)[2]: held for key, held in kept.items() if _is_of(key, thread_id)}
    return {
        "threads": int("row" in found),
        "runs": sum(field.endswith(b":made") for field in found.get("runs", ())),
        "messages": sum(field.isdigit() for field in found.get("messages", ())),
        "segments": len(found.get("segments", ())),
    }


def _is_of(key: str, thread_id: str) -> bool:
    _, _, kind, *rest = key.split(":", 3)
    return kind in OWN and rest == [thread_id]


def check_whole(kept: dict[str, Any]) -> None:
    """Nothing belongs to no thread, and the indexes say what the rows do."""
    kept = {key: held for key, held in kept.items() if not key.endswith(" expires")}
    rows = {tuple(key.split(":", 3)[1::2]): held for key, held in kept.items() if key.split(":", 3)[2] == "row"}
    entries: dict[str, set[bytes]] = {}
    due: dict[str, set[tuple[bytes, float]]] = {}
    for (tag, thread_id), row in rows.items():
        place = row[b"number"] + thread_id.encode()
        assert row[b"thread"] == thread_id.encode()
        entries.setdefault(tag, set()).update(
            {
                b"n\0\0" + place + b"\0" + row[b"graph"],
                b"g\0" + row[b"graph"] + b"\0" + place,
                b"s\0" + row[b"status"] + b"\0" + place,
            }
        )
        if row[b"status"] in PARKED and float(row[b"wake_at"]) > 0:
            due.setdefault(tag, set()).add((place, float(row[b"wake_at"])))
        _check_sizes(kept, tag, thread_id, row)
    for key, held in kept.items():
        _, tag, kind, *rest = key.split(":", 3)
        if kind in OWN:
            assert (tag, *rest) in rows, key
        elif kind == "index":
            assert {member for member, _ in held} == entries.pop(tag), key
        elif kind == "due":
            assert set(held) == due.pop(tag), key
    assert not entries
    assert not due


def _check_sizes(kept: dict[str, Any], tag: str, thread_id: str, row: dict[bytes, bytes]) -> None:
    prefix = next(iter(kept)).split(":", 1)[0]
    held = {kind: kept.get(f"{prefix}:{tag}:{kind}:{thread_id}", {}) for kind in OWN}
    data, messages = held["data"], held["messages"]
    assert {member.split(b":")[0] for member, _ in held["segments"]} == set(data)
    assert int(row.get(b"segment_bytes", 0)) == sum(map(len, data.values()))
    numbers = {field for field in messages if field.isdigit()}
    assert int(row.get(b"messages", 0)) == len(numbers)
    assert {member for member, _ in held["unread"]} == {n for n in numbers if n + b":applied" not in messages}


def flip(store: CheckpointStore, thread_id: str, what: str) -> None:
    """Change the last bit of a payload."""
    (client,) = [each for each in clients(store) if _key(each, thread_id, what)]
    key = _key(client, thread_id, what)
    if what == "segment":
        first = str(min(map(int, client.hkeys(key))))
        client.hset(key, first, flipped(held(client, key, first)))
        return
    field, place = {"message": ("1", 3), "run": ("1:now", 3), "graph": (thread_id, 3)}[what]
    record = msgspec.msgpack.decode(held(client, key, field))
    record[place] = flipped(record[place])
    client.hset(key, field, msgspec.msgpack.encode(record))


def _key(client: Redis, thread_id: str, what: str) -> str:
    if what == "graph":
        pattern = "*:{graphs}:records"
    else:
        pattern = f"*:{{p*}}:{ {'segment': 'data', 'message': 'messages', 'run': 'runs'}[what] }:{thread_id}"
    keys = client.keys(pattern)
    found: Any = keys[0] if keys else b""
    return str(found.decode())


def held(client: Redis, key: str, field: str) -> bytes:
    found = client.hget(key, field)
    assert isinstance(found, bytes)
    return found


def flipped(payload: bytes) -> bytes:
    return payload[:-1] + bytes([payload[-1] ^ 1])
