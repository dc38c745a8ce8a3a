"""Give a thread up without running it: for what nobody can load or restore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..runtime.clock import Clock
from ..runtime.payloads import CANCEL
from ..stores.base import CheckpointStore
from ..stores.errors import InboxChanged, StoreError
from ..stores.operations import Commit, RunUpdate
from ..stores.records import RUN_KINDS, UNDELIVERED, Message, Status, ThreadRecord


def park(store: CheckpointStore, claimed: ThreadRecord, clock: Clock, reason: str) -> None:
    """Give a claimed thread up as paused with `reason`; or, if somebody has asked for that, as cancelled. Other mail is
    read by the next owner. One that was parked or had ended when it was claimed is given back as it was.

    Raises `StoreError`.
    """
    while True:
        mail = store.messages(claimed.thread_id)
        result = store.commit([_end(store, claimed, mail, clock, reason)])[0]
        if isinstance(result, InboxChanged):
            continue  # a cancel that came in between would lie unread in a thread that nobody looks at any more
        if isinstance(result, StoreError):
            raise result
        return


def _end(store: CheckpointStore, claimed: ThreadRecord, mail: Sequence[Message], clock: Clock, reason: str) -> Commit:
    """The commit with which the thread is given up by who has read this mail."""
    seq = claimed.seq + 1
    commit = Commit(
        thread_id=claimed.thread_id,
        epoch=claimed.epoch,
        token=claimed.token,
        commit_id=clock.unique(),
        first=seq,
        last=seq,
        release=True,
        at=clock.time(),
    )
    if not claimed.status.runnable:
        return commit  # somebody was first: what was sent to it since then must find it as that left it
    inbox = max(claimed.inbox, mail[-1].number if mail else 0)
    if not any(message.kind == CANCEL for message in mail):
        return replace(commit, status=Status.PAUSED, reason=reason, expect_inbox=inbox)
    reason = f"cancelled; it could not have gone on: {reason}"
    queued = {message.run for message in mail if message.kind in RUN_KINDS}
    open_runs = {run.run for run in store.runs(claimed.thread_id) if not run.status.ended}
    return replace(
        commit,
        status=Status.CANCELLED,
        reason=reason,
        runs=tuple(
            RunUpdate(run=run, status=Status.CANCELLED, end=claimed.head, reason=reason)
            for run in sorted(queued | open_runs)
        ),
        applied=tuple((one.number, seq if one.kind == CANCEL else UNDELIVERED) for one in mail),
        expect_inbox=inbox,
    )
