"""The layouts of a Postgres store, and how a database gets from one to the next."""

from __future__ import annotations

import zlib

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from .errors import NewerFormat, StoreMissing, StoreMisuse
from .statements import script

LAYOUT = 2
"""The layout that this code reads and writes."""

_LOCK = 0x50726475
"""First half of the advisory lock's number; the schema's checksum is the other."""

_TABLE = """
SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = 'layouts'
"""

_Connection = psycopg.Connection[TupleRow]


def migrate(connection: _Connection, schema: str, where: str, *, create: bool) -> list[int]:
    """Bring the schema to `LAYOUT`, one transaction for each layout; the layouts applied.

    Any number of processes may do it at once. Raises `NewerFormat`; `StoreMissing` where there is no store and `create`
    is False.
    """
    present = layout_of(connection, schema)
    if present > LAYOUT:
        raise NewerFormat(
            f"{where} has layout {present}, but this Perdure knows only layouts up to {LAYOUT}; upgrade "
            "Perdure to open it"
        )
    if not present and not create:
        raise StoreMissing(f"{where}: there is no store in schema {schema!r}; submit a thread to create it")
    applied = []
    while present < LAYOUT:
        with connection.transaction():
            # One at a time; a lock of the transaction, since a pooler may give the next one to another session.
            key = zlib.crc32(schema.encode()) - (1 << 31)
            connection.execute("SELECT pg_advisory_xact_lock($1::integer, $2::integer)", (_LOCK, key), prepare=False)
            present = layout_of(connection, schema)
            if present < LAYOUT:
                present += 1
                _apply(connection, schema, present, where)
                applied.append(present)
    return applied


def layout_of(connection: _Connection, schema: str) -> int:
    """The schema's layout; 0 if there is none yet."""
    # The catalogue is read as a table: to_regclass may answer from a cache of before the lock was waited for.
    if connection.execute(_TABLE, (schema,), prepare=False).fetchone() is None:
        return 0
    query = sql.SQL("SELECT coalesce(max(layout), 0) FROM {}.layouts").format(sql.Identifier(schema))
    found = connection.execute(query, prepare=False).fetchone()
    return int(found[0]) if found else 0


def _apply(connection: _Connection, schema: str, layout: int, where: str) -> None:
    there = connection.execute("SELECT FROM pg_namespace WHERE nspname = $1", (schema,), prepare=False).fetchone()
    if there is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)), prepare=False)
    text = sql.SQL(script(f"postgres_{layout:04d}.sql"))
    try:
        connection.execute(text.format(schema=sql.Identifier(schema)), prepare=False)
    except psycopg.errors.DuplicateTable as error:
        raise StoreMisuse(
            f"{where}: schema {schema!r} holds tables that are not a store's: {error.diag.message_primary}; give the "
            "store a schema of its own (?schema=name)"
        ) from error
    query = sql.SQL("INSERT INTO {}.layouts (layout) VALUES ($1)").format(sql.Identifier(schema))
    connection.execute(query, (layout,), prepare=False)
