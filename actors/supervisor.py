"""The supervisor actor: a `Service` on an event loop of its own, detached, named, and restarted by Ray when it dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from ..stores.records import ThreadRecord
from .key_proof import KeyProof, prove
from .names import NAMESPACE, supervisor_name
from .service import STORE_CALLS, Service
from .settings import ServiceSettings
from .shards import shard_key


class Supervisor:
    """The actor around a `Service`: a detached, named Ray actor that Ray restarts when it dies."""

    def __init__(self, settings: ServiceSettings, busy_file: str = "") -> None:
        self._loop = asyncio.new_event_loop()
        # Many threads: while a stopped process holds the store's lock every write hangs in one, and the sentry's reads,
        # which free the lock, must still find one.
        self._loop.set_default_executor(ThreadPoolExecutor(STORE_CALLS, thread_name_prefix="perdure-store"))
        own_file = Path(f"{busy_file}-{settings.shard}" if settings.shard else busy_file) if busy_file else None
        self._service = Service(settings, own_file)
        if settings.shard == 0:
            _start_others(settings, busy_file)
        threading.Thread(target=self._serve, name="perdure-supervisor", daemon=True).start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._service.run())
        except BaseException as error:  # noqa: BLE001 — a supervisor without its loop would be deaf
            self._service.chores.crash(error)

    def _ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def notify(self, thread_id: str) -> None:
        """See `Service.notify`."""
        self._ask(self._service.notify(thread_id))

    def submitted(self, rows: Sequence[ThreadRecord]) -> None:
        """See `Service.submitted`."""
        self._ask(self._service.submitted(rows))

    def stalled(self, thread_id: str) -> str:
        """See `Service.stalled`."""
        reason: str = self._ask(self._service.stalled(thread_id))
        return reason

    def actors(self) -> list[dict[str, Any]]:
        """See `Service.actors`."""
        return self._service.actors()

    def look_around(self) -> None:
        """See `Service.look_around`."""
        self._ask(self._service.look_around())

    def at_work(self, node: str) -> int:
        """See `Service.at_work`."""
        return self._service.at_work(node)

    def settings(self) -> ServiceSettings:
        """How the service was started; its keys are left out."""
        settings = self._service.settings
        return replace(settings, store=replace(settings.store, keys=None, allow_plaintext=False), signing_key=b"")

    def prove_keys(self, challenge: bytes) -> KeyProof:
        """See `key_proof.prove`. Raises `StoreMisuse`."""
        return prove(self._service.settings.store, challenge)

    def stop(self) -> None:
        """See `Service.stop`."""
        self._ask(self._service.stop())


def _start_others(settings: ServiceSettings, busy_file: str) -> None:
    """Start the other shards' supervisors, unless they are there."""
    for shard in range(1, settings.shards):
        own = replace(settings, shard=shard)
        name = supervisor_name(shard_key(own))
        SupervisorClass.options(name=name, namespace=NAMESPACE, **SUPERVISOR_OPTIONS).remote(own, busy_file)


SupervisorClass = ray.remote(Supervisor)
SUPERVISOR_OPTIONS = {
    "num_cpus": 0,
    "max_restarts": -1,
    "max_task_retries": 0,
    "max_concurrency": 64,
    "lifetime": "detached",
    "get_if_exists": True,
}
