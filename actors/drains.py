"""What is being drained: kept in the store, so that a supervisor that is restarted goes on draining."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse

SETTING = "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Which part of a service takes no work."""

    service: bool = False
    """All of it, on whatever cluster."""
    nodes: frozenset[str] = frozenset()
    """Ids of nodes of a Ray cluster. A cluster that was started anew has other ids, so that they mean nothing there."""


def read_drain(store: CheckpointStore) -> Drain:
    """What the store says. Raises `StoreError`; `StoreMisuse` for what this version does not understand."""
    data: Any = store.setting(SETTING)
    if data is None:
        return Drain()
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list):
        raise StoreMisuse(f"the store's setting {SETTING!r} is no drain: {data!r}; set it anew: perdure drain --undo")
    return Drain(service=bool(data.get("service")), nodes=frozenset(map(str, data["nodes"])))


def write_drain(store: CheckpointStore, drain: Drain, living: Iterable[str]) -> None:
    """Keep it; nodes that are gone are left out. Raises `StoreError`."""
    nodes = sorted(drain.nodes & frozenset(living))
    store.put_setting(SETTING, {"service": drain.service, "nodes": nodes} if drain.service or nodes else None)
