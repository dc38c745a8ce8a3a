"""The layouts of a SQLite store, and how a file gets from one to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from .statements import script
from .vault import PlainVault

APPLICATION_ID = 0x50726475
"""Marks the file as ours (`PRAGMA application_id`)."""
SCHEMA = 3
"""`PRAGMA user_version` of the layout that this code reads and writes."""


def layout_of(connection: sqlite3.Connection) -> int:
    """The file's layout; 0 if it has no tables yet, -1 if it is another program's."""
    # One snapshot: between two queries somebody else may be creating the tables.
    connection.execute("BEGIN")
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        connection.execute("COMMIT")
    if owner != APPLICATION_ID:
        return -1 if tables or owner or schema else 0
    return int(schema) if journal == "wal" else 0


def migrate(connection: sqlite3.Connection) -> list[int]:
    """Bring the file to `SCHEMA`, one transaction for each layout; the layouts applied. The caller holds the lock."""
    applied = []
    for layout in range(connection.execute("PRAGMA user_version").fetchone()[0] + 1, SCHEMA + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(script(f"sqlite_{layout:04d}.sql")):
                connection.execute(statement)
            _STEPS.get(layout, _nothing)(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {layout}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        applied.append(layout)
    return applied


def _statements(text: str) -> list[str]:
    """The statements of a script: `executescript` would commit between them."""
    found, pending = [], ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def _nothing(connection: sqlite3.Connection) -> None:
    """No data to change."""


def _seal(connection: sqlite3.Connection) -> None:
    """Give the payloads that layout 1 kept bare their checksums."""
    vault = PlainVault()
    for query, update, kind in (
        (
            "SELECT messages.rowid, payload, threads.thread_id, message_id FROM messages JOIN threads "
            "ON threads.number = messages.thread",
            "UPDATE messages SET payload = ? WHERE rowid = ?",
            "message",
        ),
        (
            "SELECT runs.rowid, error, threads.thread_id, CAST(runs.run AS TEXT) FROM runs JOIN threads "
            "ON threads.number = runs.thread",
            "UPDATE runs SET error = ? WHERE rowid = ?",
            "run",
        ),
        ("SELECT rowid, body, graph_key FROM graphs", "UPDATE graphs SET body = ? WHERE rowid = ?", "graph"),
    ):
        for row, payload, *names in connection.execute(query).fetchall():
            connection.execute(update, (vault.seal((kind, *names), payload), row))


_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {2: _seal}
