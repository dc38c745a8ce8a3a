"""Pause a thread without running it: for what nobody can load or restore."""

from __future__ import annotations

from ..runtime.clock import Clock
from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.records import Commit, Status, ThreadRecord


def park(store: CheckpointStore, claimed: ThreadRecord, clock: Clock, reason: str) -> None:
    """Give a claimed thread up as paused with `reason`. Mail that comes meanwhile is read by the next owner.

    Raises `StoreError`.
    """
    results = store.commit(
        [
            Commit(
                thread_id=claimed.thread_id,
                epoch=claimed.epoch,
                token=claimed.token,
                commit_id=clock.unique(),
                first=claimed.seq + 1,
                last=claimed.seq + 1,
                status=Status.PAUSED,
                reason=reason,
                release=True,
                at=clock.time(),
            )
        ]
    )
    if isinstance(results[0], StoreError):
        raise results[0]
