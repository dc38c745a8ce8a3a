"""What an error of psycopg means to a caller of the store."""

from __future__ import annotations

import psycopg

from .errors import Corrupt, StoreError, StoreFull, StoreMisuse, StoreUnavailable

READ_ONLY = "25006"
_FULL = frozenset({"53100", READ_ONLY})
_UNIQUE = "23505"
_CORRUPT = frozenset({"XX001", "XX002"})
_NO_SUCH = frozenset({"42P01", "3F000", "42703"})
_PREPARED = frozenset({"26000", "42P05"})
_PASSING = ("08", "40", "53", "55", "57", "58", "25P")
"""Classes of states that pass: connections, rollbacks, resources, locks, interventions, the system."""
_ACCESS = ("28", "3D", "42501")

_NEVER = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "certificate",
    "does not support SSL",
    "invalid connection option",
    "invalid integer value",
    "sslmode value",
    "is not permitted to log in",
)
"""Parts of the texts by which libpq tells that a connection will never be made: for these it gives no state."""


class Taken(StoreUnavailable):
    """Another process created the same thread at the same time; the call has to look again."""


def store_error(error: psycopg.Error, where: str) -> StoreError:
    """The store's error for one of the driver."""
    state = error.sqlstate or ""
    said = error.diag.message_primary or str(error).strip() or type(error).__name__
    if state in _FULL:
        return StoreFull(f"{where} cannot be written: {said}; free space or connect to a server that may be written")
    if state == _UNIQUE:
        if error.diag.constraint_name == "threads_thread_id_key":
            return Taken(f"{where}: another process created the same thread at the same time; try again")
        return Corrupt(f"{where}: its tables contradict each other: {said}; restore it from a backup")
    if state in _CORRUPT:
        return Corrupt(f"{where} is damaged: {said}; restore it from a backup")
    if state in _PREPARED:
        return StoreMisuse(
            f"{where} lost a prepared statement: {said}; behind a pooler like PgBouncer set prepare=False"
        )
    if state in _NO_SUCH:
        return StoreMisuse(f"{where} lacks its tables: {said}; open the store with create=True, or restore a backup")
    if state.startswith(_ACCESS) or (not state and any(part in str(error) for part in _NEVER)):
        return StoreMisuse(f"{where} cannot be used: {said}; check the user, the password, the database and its rights")
    if state.startswith(_PASSING) or (
        not state and isinstance(error, (psycopg.OperationalError, psycopg.InternalError))
    ):
        return StoreUnavailable(f"{where} did not answer: {said}; try again")
    return StoreMisuse(f"{where} cannot do this: {said}")
