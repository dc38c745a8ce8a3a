"""Give a thread up without running it: for what nobody can load or restore."""

from __future__ import annotations

from ..runtime.clock import Clock
from ..runtime.payloads import CANCEL
from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.records import RUN_KINDS, UNDELIVERED, Commit, RunUpdate, Status, ThreadRecord


def park(store: CheckpointStore, claimed: ThreadRecord, clock: Clock, reason: str) -> None:
    """Give a claimed thread up as paused with `reason`; or, if somebody has asked for that, as cancelled. Other mail is
    read by the next owner.

    Raises `StoreError`.
    """
    seq = claimed.seq + 1
    status = Status.PAUSED
    runs: tuple[RunUpdate, ...] = ()
    applied: tuple[tuple[int, int], ...] = ()
    mail = store.messages(claimed.thread_id)
    if any(message.kind == CANCEL for message in mail):
        status, reason = Status.CANCELLED, f"cancelled; it could not have gone on: {reason}"
        applied = tuple((one.number, seq if one.kind == CANCEL else UNDELIVERED) for one in mail)
        queued = {message.run for message in mail if message.kind in RUN_KINDS}
        open_runs = {run.run for run in store.runs(claimed.thread_id) if not run.status.ended}
        runs = tuple(
            RunUpdate(run=run, status=Status.CANCELLED, end=claimed.head, reason=reason)
            for run in sorted(queued | open_runs)
        )
    commit = Commit(
        thread_id=claimed.thread_id,
        epoch=claimed.epoch,
        token=claimed.token,
        commit_id=clock.unique(),
        first=seq,
        last=seq,
        status=status,
        reason=reason,
        runs=runs,
        applied=applied,
        release=True,
        at=clock.time(),
    )
    result = store.commit([commit])[0]
    if isinstance(result, StoreError):
        raise result
