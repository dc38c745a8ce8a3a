"""Takes a condition out of a statement of a store that is open, as a careless change would."""

from __future__ import annotations

import hashlib

from perdure.stores.base import CheckpointStore
from perdure.stores.postgres import PostgresStore
from perdure.stores.redis import RedisStore


def edit(store: CheckpointStore, statement: str, condition: str, instead: str) -> None:
    """Put `instead` in the place of `condition`, which has to be there once."""
    if isinstance(store, PostgresStore):
        text = store._sql[statement].decode()
        store._sql = {**store._sql, statement: _edited(text, condition, instead).encode()}
    else:
        assert isinstance(store, RedisStore)
        connections = store._connections
        text = _edited(connections._scripts[statement], condition, instead)
        connections._scripts = {**connections._scripts, statement: text}
        connections._digests[statement] = hashlib.sha1(text.encode()).hexdigest()


def _edited(text: str, condition: str, instead: str) -> str:
    assert text.count(condition) == 1, f"{condition!r} is there {text.count(condition)} times"
    return text.replace(condition, instead)
