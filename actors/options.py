"""How the service of a store was last started: kept in the store, so that one that is started anew, on whatever
cluster, is as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.errors import StoreMisuse
from .settings import ServiceSettings

SETTING = "service"
KEPT = (
    "lease",
    "spares",
    "max_actors",
    "shards",
    "shared_actors",
    "shared_threads",
    "crash_budget",
    "cancel_grace",
    "housekeeping",
)
"""Fields of `ServiceSettings` that a user may choose."""
_DEFAULTS: Mapping[str, Any] = {one.name: one.default for one in fields(ServiceSettings) if one.name in KEPT}


def read_options(store: CheckpointStore) -> dict[str, Any]:
    """The options, by field, with which the store's service was last started; those that were at their default, and
    those of a newer version, are left out. Raises `StoreError`; `StoreMisuse` for what this version does not
    understand."""
    data: Any = store.setting(SETTING)
    found: dict[str, Any] = {}
    for name, value in (data if isinstance(data, dict) else {} if data is None else {"": data}).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not name or (name in KEPT and not number):
            raise StoreMisuse(
                f"the store's setting {SETTING!r} holds {name}={value!r}, which is no option of a service; take it "
                f"away: store.put_setting({SETTING!r}, None)"
            )
        if name in KEPT:
            found[name] = timedelta(seconds=value) if isinstance(_DEFAULTS[name], timedelta) else int(value)
    return found


def keep_options(store: CheckpointStore, settings: ServiceSettings) -> None:
    """Note how a service runs. Raises `StoreError`."""
    given = {name: getattr(settings, name) for name in KEPT}
    data = {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in given.items()
        if value != _DEFAULTS[name]
    }
    if store.setting(SETTING) != (data or None):
        store.put_setting(SETTING, data or None)
