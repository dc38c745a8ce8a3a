"""LangGraph's `config` dict, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .checkpoints import Checkpoints
from .errors import InputError
from .options import DEFAULT_RECURSION_LIMIT, Durability, RunOptions, given_metadata, node_list
from .snapshots import checkpoint_seq

_KNOWN = frozenset(
    {"configurable", "recursion_limit", "metadata", "tags", "run_name", "callbacks", "max_concurrency", "run_id"}
)
_OURS = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns"})


@dataclass(frozen=True, slots=True)
class Config:
    """What a caller's config says."""

    thread_id: str
    """Empty if it names none."""
    checkpoint: int
    """Seq of the checkpoint it names; 0 for the newest."""
    options: RunOptions


def read_config(
    config: Mapping[str, Any] | None,
    *,
    durability: str | None = None,
    checkpoints: Checkpoints | None = None,
    interrupt_before: Sequence[str] | str | None = None,
    interrupt_after: Sequence[str] | str | None = None,
) -> Config:
    """The config of a call, with what the call itself says. Raises `InputError`, `CheckpointNotFound`."""
    if not isinstance(config, Mapping | None):
        raise InputError(f"config is {config!r}; give {{'configurable': {{'thread_id': ...}}}}")
    given = dict(config or {})
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        raise InputError(
            f"config has the key {unknown[0]!r}; a graph's own settings belong into config={{'configurable': {{...}}}}"
        )
    if not isinstance(given.get("configurable"), Mapping | None):
        raise InputError(f"config['configurable'] is {given['configurable']!r}; it must be a dict")
    configurable = dict(given.get("configurable") or {})
    if namespace := configurable.get("checkpoint_ns"):
        raise InputError(
            f"config['configurable']['checkpoint_ns'] is {namespace!r}; only '' is known: subgraphs have no "
            "checkpoints of their own yet"
        )
    thread_id = configurable.get("thread_id", "")
    if isinstance(thread_id, int | UUID) and not isinstance(thread_id, bool):
        thread_id = str(thread_id)
    if not isinstance(thread_id, str):
        raise InputError(f"config['configurable']['thread_id'] is a {type(thread_id).__name__}; it must be a str")
    chosen = configurable.get("checkpoint_id")
    data: dict[str, Any] = {
        "recursion_limit": given.get("recursion_limit", DEFAULT_RECURSION_LIMIT),
        "durability": durability or Durability.ASYNC,
        "checkpoints": checkpoints,
        "interrupt_before": node_list(interrupt_before) if interrupt_before is not None else None,
        "interrupt_after": node_list(interrupt_after) if interrupt_after is not None else None,
        "configurable": {key: value for key, value in configurable.items() if key not in _OURS},
        "metadata": given_metadata(given.get("metadata")),
        "tags": tuple(given.get("tags") or ()),
    }
    seq = checkpoint_seq(thread_id, chosen) if chosen not in (None, "") else 0
    return Config(thread_id, seq, RunOptions.from_data(data))
