"""What owners do, noted down by their own processes at the moment when they do it, outside the store.

The graph's module is user code that runs in every process that loads the graph. `install()`, called there, has the
process of a thread actor note each claim, each acknowledged commit and each launch of a task, in one file a thread. Its
path is in the thread's metadata. The lines are those of `tests.recovery.faults`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import ray

from perdure.actors.fanout import RayExecutor
from perdure.actors.inline import InlineExecutor
from perdure.stores.backed import BackedStore
from perdure.stores.base import CommitResult, TakeResult
from perdure.stores.operations import Claim, Claimed, Commit, Committed
from perdure.stores.processes import ProcessId
from perdure.stores.records import ThreadRecord
from tests.recovery.faults import note

LOG = "log"
"""The key in a thread's metadata and in its configuration."""

_LOGS: dict[str, str] = {}  # of this process: where the threads that it has claimed have their logs


def install() -> None:
    """Wrap the store and the executors, if this is the process of an actor; once."""
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return
    if hasattr(BackedStore.take, "__wrapped__"):
        return
    for kind, name, noting in (
        (BackedStore, "take", _noting_claims),
        (BackedStore, "commit", _noting_commits),
        (InlineExecutor, "run", _noting_launches),
        (RayExecutor, "_launch", _noting_launches),
    ):
        setattr(kind, name, noting(getattr(kind, name)))


def _noting_claims(take: Callable[..., list[TakeResult]]) -> Callable[..., list[TakeResult]]:
    @functools.wraps(take)
    def noting(store: BackedStore, claims: Sequence[Claim]) -> list[TakeResult]:
        results = take(store, claims)
        for one in results:
            if isinstance(one, Claimed) and (log := _log_of(one.thread)):
                note(log, claimed=one.thread.epoch, started=ProcessId.own().started)
        return results

    return noting


def _noting_commits(commit: Callable[..., list[CommitResult]]) -> Callable[..., list[CommitResult]]:
    @functools.wraps(commit)
    def noting(store: BackedStore, commits: Sequence[Commit]) -> list[CommitResult]:
        results = commit(store, commits)
        for one, result in zip(commits, results, strict=True):
            if isinstance(result, Committed) and (log := _LOGS.get(one.thread_id)):
                note(log, committed=[one.first, one.last, one.commit_id], epoch=one.epoch)
        return results

    return noting


def _noting_launches(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def noting(executor: Any, *args: Any) -> Any:
        for task in args[-1] if isinstance(args[-1], list) else [args[-1]]:
            if log := _LOGS.get(task.key.partition("\n")[0]):
                note(log, launch=task.key)
        return method(executor, *args)

    return noting


def _log_of(row: ThreadRecord) -> str:
    log: str = row.metadata.get(LOG, "")
    if log:
        _LOGS[row.thread_id] = log
    return log
