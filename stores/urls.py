"""Opens the store that a URL names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any
from urllib.parse import unquote, urlsplit

from .base import CheckpointStore
from .errors import StoreMisuse
from .memory import MemoryStore
from .sqlite import SqliteStore

_LATER = frozenset({"postgres", "postgresql", "redis", "rediss"})


def open_store(url: str, **options: Any) -> CheckpointStore:
    """Open `memory://`, `sqlite:///relative.db` or `sqlite:////absolute.db`, creating what is not there.

    Options are those of the store's class: for SQLite `shared_path` (bool) and `create` (bool; False leaves alone what
    is not there and raises `StoreMissing`), none for memory. Raises `StoreMisuse` for a URL or an option that is not
    known, and what opening the store may raise.
    """
    openers: Mapping[str, Callable[..., CheckpointStore]] = {"memory": _open_memory, "sqlite": _open_sqlite}
    scheme = url.partition("://")[0] if isinstance(url, str) and "://" in url else ""
    if scheme in _LATER:
        raise StoreMisuse(f"{scheme}:// stores are not in this version; use sqlite:///file.db")
    if scheme not in openers:
        shown = f"{scheme}://..." if scheme else repr(url)
        raise StoreMisuse(
            f"{shown} is not the URL of a store; known are memory://, sqlite:///relative.db and sqlite:////absolute.db"
        )
    known = list(signature(openers[scheme]).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise StoreMisuse(
            f"a {scheme} store has no option {', '.join(unknown)}; its options: {', '.join(known) or 'none'}"
        )
    return openers[scheme](url, **options)


def _open_memory(url: str) -> CheckpointStore:
    if url != "memory://":
        raise StoreMisuse(f"{url!r}: a memory store has no name; write memory://")
    return MemoryStore()


def _open_sqlite(url: str, *, shared_path: bool = False, create: bool = True) -> CheckpointStore:
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or path.startswith(":memory:") or "\0" in path:
        raise StoreMisuse(
            f"{url!r} names no file; write sqlite:///relative.db, sqlite:////absolute.db, or memory:// for one in "
            "memory"
        )
    if parts.query or parts.fragment:
        raise StoreMisuse(f"{url!r}: give options as arguments, and write ? and # in a path as %3F and %23")
    return SqliteStore(path, shared_path=shared_path, create=create)
