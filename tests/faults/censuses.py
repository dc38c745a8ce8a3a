"""What a service holds: processes, files, sockets, objects of Ray, memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray._private.internal_api import node_stats

from perdure import Client
from tests.actors.services import pool, supervisor_process


@dataclass(frozen=True, slots=True)
class Holding:
    """Of one process."""

    memory: int
    """Bytes of its own: what it shares with others does not count."""
    files: int
    sockets: int
    threads: int
    refs: int
    """References to objects of Ray that are in its scope."""
    owned: int
    """Objects of Ray that it owns."""


@dataclass(frozen=True, slots=True)
class Census:
    """The service's processes by name, and the objects in Ray's stores."""

    processes: dict[str, Holding]
    objects: int

    @classmethod
    def of(cls, client: Client) -> Census:
        """Of now. The service should be at rest."""
        stats = _stats()
        workers = {worker.pid: worker for one in stats for worker in one.core_workers_stats}
        pids = {"client": psutil.Process().pid, "supervisor": supervisor_process(client).pid, **pool(client)}
        return cls(
            {name: _holding(pid, workers.get(pid)) for name, pid in pids.items()},
            _count(stats),
        )

    def grown(self, before: Census) -> dict[str, Counter[str]]:
        """How much more each process holds that is in both; negative for less."""
        return {
            name: Counter(
                {part: getattr(self.processes[name], part) - getattr(was, part) for part in Holding.__slots__}
            )
            for name, was in before.processes.items()
            if name in self.processes
        }


def objects() -> int:
    """The objects in Ray's stores, whosever they are."""
    return _count(_stats())


def _stats() -> list[Any]:
    return [
        node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])  # type: ignore[no-untyped-call]  # the same
        for node in ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own gap
        if node["Alive"]
    ]


def _count(stats: list[Any]) -> int:
    return sum(one.store_stats.num_local_objects for one in stats)


def _holding(pid: int, worker: Any) -> Holding:
    process = psutil.Process(pid)
    with process.oneshot():
        return Holding(
            memory=process.memory_full_info().uss,
            files=process.num_fds(),
            sockets=len(process.net_connections("all")),
            threads=process.num_threads(),
            refs=worker.num_object_refs_in_scope if worker is not None else 0,
            owned=worker.num_owned_objects if worker is not None else 0,
        )
