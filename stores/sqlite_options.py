"""Options of the store in a SQLite file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """How a SQLite file is used."""

    shared_path: bool = False
    """The file lies on a disk that all machines see under the same path, and on which locks work."""
