"""V8: what a service holds when it is quiet again, and what is left of it when it has ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import ray

from perdure import Client
from perdure.actors.names import supervisor_name
from perdure.stores.processes import ProcessId
from tests.actors.services import key_of
from tests.chaos.places import Place

if TYPE_CHECKING:
    from tests.chaos.run import Report

QUIET = 20.0
"""Seconds in which everything has to be given back."""
FILES = 200
"""More files open in one process of ours would be a leak: each has some 60."""


class Leaks:
    """Looks at the service from outside."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._boss = supervisor_name(key_of(client))
        self._objects = _object_bytes()
        self._processes: set[ProcessId] = set()

    def check_running(self, report: Report) -> None:
        """Once nothing runs: a lease for each living actor and no other, no objects, no heaps of open files."""
        self._within("leases of dead owners", self._dead_leases, report)
        self._within("bytes of Ray objects", lambda: max(0, _object_bytes() - self._objects), report)
        self._within("files open", self._crowded, report)
        self._processes = {ProcessId(lease.pid, int(lease.started)) for lease in self._client.store.owners()}
        report.looked_at["V8 processes, each with its lease"] += len(self._processes)

    def check_ended(self, place: Place, report: Report) -> None:
        """Once the service has ended: no process and no connection of it."""
        self._within("processes", lambda: [one for one in self._processes if one.alive], report)
        self._within("connections", lambda: max(0, place.connections()), report)

    def _within(self, what: str, look: Callable[[], object], report: Report) -> None:
        deadline = time.monotonic() + QUIET
        while found := look():
            if time.monotonic() > deadline:
                report.broken.append(f"V8: {what} that outlived their use: {found}")
                return
            time.sleep(0.1)
        report.looked_at[f"V8 no {what} left"] += 1

    def _dead_leases(self) -> list[str]:
        names = {one["name"] for one in self._client.actors()} | {self._boss}
        leases = self._client.store.owners()
        dead = [lease.owner for lease in leases if not ProcessId(lease.pid, int(lease.started)).alive]
        return dead + [lease.owner for lease in leases if lease.owner not in names]

    def _crowded(self) -> dict[int, int]:
        pids = [lease.pid for lease in self._client.store.owners()]
        return {pid: count for pid in pids if (count := _files(pid)) > FILES}


def _files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0  # it ended meanwhile


def _object_bytes() -> int:
    """Bytes of the object store in use, as the cluster counts them."""
    total = ray.cluster_resources().get("object_store_memory", 0.0)  # type: ignore[no-untyped-call]  # Ray's own gap
    free = ray.available_resources().get("object_store_memory", 0.0)  # type: ignore[no-untyped-call]
    return int(total - free)
