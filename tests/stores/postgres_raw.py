"""A look into a Postgres store's tables that does not go through the store."""

from __future__ import annotations

import psycopg
from psycopg import sql

from perdure.stores.base import CheckpointStore

SCHEMA = "perdure"

_OF_THREAD = "thread = (SELECT number FROM perdure.threads WHERE thread_id = %s)"
_PAYLOADS = {
    "segment": ("segments", "data", _OF_THREAD, "first"),
    "message": ("messages", "payload", _OF_THREAD, "number"),
    "run": ("runs", "error", _OF_THREAD, "run"),
    "graph": ("graphs", "body", "graph_key = %s", "graph_key"),
}


def ask(url: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """The rows of a query (or of nothing, for a statement that gives none), in a connection of its own."""
    with psycopg.connect(url, autocommit=True) as raw:
        cursor = raw.execute(sql.SQL(query), parameters or None)
        return cursor.fetchall() if cursor.description else []


def count(store: CheckpointStore, thread_id: str) -> dict[str, int]:
    """Rows of a thread, by table."""
    ((threads,),) = ask(store.url, "SELECT count(*) FROM perdure.threads WHERE thread_id = %s", thread_id)
    found = {"threads": threads}
    for table in ("runs", "messages", "segments"):
        ((found[table],),) = ask(store.url, f"SELECT count(*) FROM perdure.{table} WHERE {_OF_THREAD}", thread_id)
        # Rows of a thread that is gone belong to nobody: none may be left anywhere.
        orphans = f"SELECT count(*) FROM perdure.{table} WHERE thread NOT IN (SELECT number FROM perdure.threads)"
        assert ask(store.url, orphans) == [(0,)], table
    return {table: int(str(rows)) for table, rows in found.items()}


def flip(store: CheckpointStore, thread_id: str, what: str) -> None:
    """Change the last bit of a payload."""
    table, column, key, order = _PAYLOADS[what]
    ask(
        store.url,
        f"UPDATE perdure.{table} SET {column} = set_byte({column}, octet_length({column}) - 1, "
        f"get_byte({column}, octet_length({column}) - 1) # 1) "
        f"WHERE ctid = (SELECT ctid FROM perdure.{table} WHERE {key} ORDER BY {order} LIMIT 1)",
        thread_id,
    )
