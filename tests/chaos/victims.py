"""The processes of a service, as they are found from outside: its leases and the system's table of processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from perdure import Client
from perdure.actors.names import supervisor_name
from perdure.stores.processes import ProcessId, parent, pids
from tests.actors.services import key_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cast:
    """Who there is."""

    owners: tuple[ProcessId, ...]
    """Actors with threads, by the last renewal of their leases."""
    spares: tuple[ProcessId, ...]
    """Actors without."""
    supervisor: tuple[ProcessId, ...]
    workers: tuple[ProcessId, ...]
    """Ray's workers that are no actors of the service."""


def cast_of(client: Client) -> Cast:
    """Everybody alive, each group in a fixed order. Raises `StoreUnavailable`."""
    boss = supervisor_name(key_of(client))
    leases = sorted(client.store.owners(), key=lambda lease: lease.owner)
    alive = {one: lease for lease in leases if (one := ProcessId(lease.pid, int(lease.started))).alive}
    actors = {one: lease for one, lease in alive.items() if lease.owner != boss}
    return Cast(
        owners=tuple(one for one, lease in actors.items() if lease.threads),
        spares=tuple(one for one, lease in actors.items() if not lease.threads),
        supervisor=tuple(one for one, lease in alive.items() if lease.owner == boss),
        workers=tuple(_workers(alive)),
    )


def _workers(actors: Iterable[ProcessId]) -> list[ProcessId]:
    """Ray's other workers below the same raylets: those that run tasks or wait for one."""
    known = {one.pid for one in actors}
    raylets = {parent(pid) for pid in known}
    found = []
    for pid in sorted(pids()):
        if pid not in known and title(pid).startswith(("ray::run_group", "ray::IDLE")):
            try:
                if parent(pid) in raylets:
                    found.append(ProcessId.of(pid))
            except OSError:
                continue  # it ended meanwhile
    return found


def title(pid: int) -> str:
    """What a process calls itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def chosen(among: Sequence[T], choice: float) -> T | None:
    """One of them, by its place; None if there is none."""
    return among[min(int(choice * len(among)), len(among) - 1)] if among else None
