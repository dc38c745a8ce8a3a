"""What thread actors tell their supervisor of threads that their nodes have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from ..stores.records import ThreadRecord
from .names import NAMESPACE, supervisor_name
from .settings import ServiceSettings
from .shards import shard_key


class Hints:
    """Of the actors of one shard of a service."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._name = supervisor_name(shard_key(settings))
        self._supervisor: Any = None

    def submitted(self, rows: Sequence[ThreadRecord]) -> None:
        """Threads were created, as these rows say; waits for nothing. Without it the next sweep finds them."""
        if not rows:
            return
        try:
            if self._supervisor is None:
                self._supervisor = ray.get_actor(self._name, namespace=NAMESPACE)
            self._supervisor.submitted.remote(list(rows))
        except (RayError, ValueError):
            self._supervisor = None  # it is being restarted, and then it sweeps
