"""The JSON documents that `--json` prints. Their keys are an interface: they may be added to, never renamed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from ...runtime.commands import Interrupt
from ...runtime.diffs import StateDiff
from ...runtime.failures import Failure
from ...runtime.snapshots import StateSnapshot, checkpoint_id
from ...stores.records import RunRecord, ThreadRecord

_TOLD = frozenset({"source", "step", "run", "version", "writes", "thread_id"})
"""Metadata of a checkpoint that its document has under keys of its own."""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: lists for tuples, the value of an enum that is text or a number, text for keys; and
    the `repr` of all that JSON has no form for (bytes, sets, dates, NaN, instances of classes)."""
    if isinstance(value, Enum) and isinstance(value, str | int):
        return value.value
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {key if type(key) is str else repr(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return repr(value)


def thread_document(record: ThreadRecord) -> dict[str, Any]:
    """A thread's row."""
    origin = record.origin
    return {
        "thread_id": record.thread_id,
        "graph": record.graph,
        "version": record.version,
        "status": record.status.value,
        "reason": record.reason,
        "run": record.run,
        "checkpoint_id": _checkpoint(record.head),
        "waits": list(record.waits),
        "wake_at": iso(record.wake_at) if record.wake_at else None,
        "driver": record.driver,
        "owner": record.owner,
        "epoch": record.epoch,
        "crashes": record.crashes,
        "origin": {"thread_id": origin.thread_id, "checkpoint_id": checkpoint_id(origin.seq)} if origin else None,
        "metadata": plain(dict(record.metadata)),
        "tags": list(record.tags),
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
    }


def run_document(run: RunRecord) -> dict[str, Any]:
    """One run."""
    return {
        "run": run.run,
        "status": run.status.value,
        "reason": run.reason,
        "checkpoint_id": _checkpoint(run.end),
        "created_at": iso(run.created_at),
        "ended_at": iso(run.ended_at),
    }


def interrupts_document(interrupts: Sequence[Interrupt]) -> list[dict[str, Any]]:
    """Open interrupts: the id to answer by, and what was asked."""
    return [{"id": one.id, "value": plain(one.value)} for one in interrupts]


def checkpoint_document(snapshot: StateSnapshot, *, values: bool) -> dict[str, Any]:
    """One checkpoint of a history, with its values if they are asked for."""
    parent = snapshot.parent_config
    document = {
        "checkpoint_id": snapshot.checkpoint_id,
        "parent_id": parent["configurable"]["checkpoint_id"] if parent else None,
        "thread_id": snapshot.metadata["thread_id"],
        "run": snapshot.metadata["run"],
        "step": snapshot.metadata["step"],
        "source": snapshot.metadata["source"],
        "nodes": snapshot.metadata["writes"],
        "next": list(snapshot.next),
        "interrupts": interrupts_document(snapshot.interrupts),
        "tasks": [{"id": task.id, "node": task.name} for task in snapshot.tasks],
        "version": snapshot.version,
        "metadata": plain({key: value for key, value in snapshot.metadata.items() if key not in _TOLD}),
        "created_at": snapshot.created_at,
    }
    return {**document, "values": plain(snapshot.values)} if values else document


def diff_document(diff: StateDiff) -> dict[str, Any]:
    """What differs between two checkpoints."""
    return {
        "before": diff.before,
        "after": diff.after,
        "added": plain(diff.added),
        "removed": plain(diff.removed),
        "changed": {key: {"before": plain(one.before), "after": plain(one.after)} for key, one in diff.changed.items()},
        "appended": plain(diff.appended),
    }


def failure_document(failure: Failure) -> dict[str, Any]:
    """The error that ended a run."""
    return {
        "type": failure.type,
        "message": failure.message,
        "node": failure.node,
        "step": failure.step,
        "traceback": failure.traceback,
    }


def error_document(error: BaseException, message: str, code: int) -> dict[str, Any]:
    """A command that ended by an error. `thread_id` is there where the error is about a thread."""
    document: dict[str, Any] = {"error": {"type": type(error).__name__, "message": message}, "exit_code": code}
    thread_id = getattr(error, "thread_id", "")
    return {"thread_id": thread_id, **document} if thread_id else document


def iso(at: float) -> str | None:
    """A time as ISO 8601, UTC; None for one that has not come."""
    return datetime.fromtimestamp(at, UTC).isoformat() if at else None


def _checkpoint(seq: int) -> str | None:
    return checkpoint_id(seq) if seq else None
