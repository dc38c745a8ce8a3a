"""What Ray's processes take of the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import ray

from perdure import Client
from perdure.actors.names import NAMESPACE, service_key, supervisor_name
from perdure.cluster.head import running_head
from perdure.stores.processes import ProcessId, family

from .cluster import Bench


def memory(bench: Bench) -> int:
    """Bytes that the head's processes have to themselves: Ray's own, the supervisor and all actors."""
    head = running_head(bench.head.folder)
    assert head is not None
    total = 0
    for member in family(head.process):
        try:
            total += psutil.Process(member.pid).memory_full_info().uss
        except psutil.NoSuchProcess:
            continue  # it has just ended
    return total


def supervisor(client: Client) -> ProcessId:
    """The process of the service's supervisor."""
    settings = client._settings
    name = supervisor_name(service_key(settings.store.identity, settings.session))
    actor = ray.get_actor(name, namespace=NAMESPACE)
    asked: Any = actor.__ray_call__.remote(lambda _: os.getpid())
    return ProcessId.of(ray.get(asked, timeout=60))


def until(holds: Callable[[], bool], otherwise: str, seconds: float = 120.0) -> None:
    """Wait for something. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.01)
