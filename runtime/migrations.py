"""From one version of a graph to the next: what becomes of the state of threads that an older one has left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .errors import GraphValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Takes the state of a thread from one version of its graph to another.

    A graph that declares any takes over no checkpoint of another version without a way to its own: such a thread is
    paused with the reason. A graph that declares none goes on with whatever fits.
    """

    from_version: str
    to_version: str
    migrate: Callable[[dict[str, Any]], dict[str, Any]]
    """Is handed a copy of the state, and returns the state of the other version, all of it: a key that it leaves out is
    gone. Called whenever such a checkpoint is gone on from, perhaps more than once: it must depend on nothing else."""


def check_migrations(given: Iterable[Migration], version: str) -> tuple[Migration, ...]:
    """The migrations of a graph of this version. Raises `GraphValidationError`."""
    migrations = tuple(given)
    for one in migrations:
        if not isinstance(one, Migration) or not callable(one.migrate):
            raise GraphValidationError(f"compile(migrations=...) has {one!r}; give perdure.Migration(...)")
        if one.from_version == one.to_version:
            raise GraphValidationError(f"a migration leads from version {one.from_version!r} to itself")
    starts = [one.from_version for one in migrations]
    if twice := sorted({start for start in starts if starts.count(start) > 1}):
        raise GraphValidationError(f"two migrations lead away from version {twice[0]!r}; give one")
    for one in migrations:
        if not way(migrations, one.from_version, version):
            raise GraphValidationError(
                f"the migration from version {one.from_version!r} leads to {one.to_version!r}, and from there none to "
                f"this graph's version, {version!r}"
            )
    return migrations


def way(migrations: Iterable[Migration], start: str, end: str) -> tuple[Migration, ...]:
    """The migrations from one version to another, in order; empty if there are none."""
    by_start = {one.from_version: one for one in migrations}
    found: deque[Migration] = deque()
    while start != end and start in by_start and len(found) < len(by_start):
        found.append(by_start[start])
        start = found[-1].to_version
    return tuple(found) if start == end else ()
