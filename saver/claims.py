"""Who writes a thread: any number of processes may, since LangGraph knows no owners.

The one that comes last claims the thread from the one before, which learns of it with its next commit (it is fenced,
and nothing of it was written), claims it back, and makes its commit anew from what it finds then. The threads of one
process queue for a lock, since claims would not tell them apart.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from ..stores.base import CheckpointStore
from ..stores.errors import ClaimLost, Fenced, StoreFull, StoreMisuse, StoreUnavailable, ThreadExists, UnknownThread
from ..stores.operations import Commit, Committed
from .memory import Draft, Drafter, Held, Memory, Pending
from .places import Place, row_of
from .reader import Reader

_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.5
"""Seconds between attempts, drawn at random: processes that write one thread must not keep step."""


class Claims:
    """Commits to threads, claiming them as needed."""

    def __init__(self, store: CheckpointStore, reader: Reader, memory: Memory, patience: timedelta) -> None:
        self.store = store
        self.reader = reader
        self.memory = memory
        self._patience = patience
        self._owner = f"langgraph:{socket.gethostname()}:{os.getpid()}"

    def write(self, place: Place, draft: Drafter) -> int:
        """Commit what `draft` makes of the thread as it is; it is asked again whenever somebody else came first.

        What this process writes meanwhile goes into the next commit together. Returns the draft's seq. Raises `Fenced`
        or `ClaimLost` if others kept coming first for as long as the saver's patience lasts, `StoreUnavailable` if the
        store stayed away for as long, and what `draft` raises.
        """
        thread_id, pending = place.thread_id, Pending(draft)
        queues = self.memory.queues
        queues.add(thread_id, pending)
        with self.memory.lock(thread_id):
            if not pending.done:
                group = queues.take(thread_id, pending)
                try:
                    self._commit(place, group)
                except BaseException:
                    # This caller was interrupted: the others do it themselves. To be written twice harms nothing.
                    queues.put_back(thread_id, [each for each in group if each is not pending])
                    raise
        if pending.error is not None:
            raise pending.error
        return pending.seq

    def write_alone(self, place: Place, draft: Drafter) -> int:
        """The same with nothing else in the commit. Under the thread's lock only."""
        pending = Pending(draft)
        self._commit(place, [pending])
        if pending.error is not None:
            raise pending.error
        return pending.seq

    def hold(self, place: Place) -> Held | None:
        """The thread claimed by this saver; None if there is no such thread. Under the thread's lock only."""
        held = self.memory.held.get(place.thread_id)
        return held or (self._claim(place) if row_of(self.store, place) is not None else None)

    def patiently(self, attempt: Callable[[], None], again: Callable[[BaseException], bool]) -> None:
        """Call `attempt` until it does not raise what is to be tried again, or the patience is spent."""
        try:
            return attempt()
        except Exception as error:
            if not again(error):
                raise
        retrying = Retrying(
            retry=retry_if_exception(again),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            stop=stop_after_delay(self._patience),
            reraise=True,
        )
        return retrying(attempt)

    def forget(self, place: Place) -> None:
        """Claim the thread anew before the next commit."""
        self.memory.held.drop(place.thread_id)

    def _commit(self, place: Place, group: Sequence[Pending]) -> None:
        try:
            self.patiently(lambda: self._attempt(place, group), _again)
        except Exception as error:  # noqa: BLE001 — each caller raises it
            for pending in group:
                pending.seq = 0
                pending.error = pending.error or error

    def _attempt(self, place: Place, group: Sequence[Pending]) -> None:
        held = self.memory.held.get(place.thread_id) or self._claim(place)
        first = held.seq + 1
        try:
            drafts = [draft for pending in group if (draft := self._drafted(held, pending)) is not None]
            if drafts:
                # An answer that was lost is asked for again with the same commit: it is written once.
                commit = _commit(place, held, first, drafts)
                self.patiently(lambda: self._send(commit), _transient)
        except BaseException:
            # Fenced, or not known to be written: the next attempt looks.
            self.forget(place)
            raise

    def _drafted(self, held: Held, pending: Pending) -> Draft | None:
        """The draft on top of those before it; None for one that fails for itself."""
        try:
            made = pending.draft(held)
        except (StoreUnavailable, UnknownThread):
            raise
        except Exception as error:  # noqa: BLE001 — its caller raises it; the others' are written all the same
            pending.error = error
            return None
        pending.error = None
        self._settle(held, made)
        pending.seq = held.seq
        return made

    def _send(self, commit: Commit) -> None:
        result = self.store.commit([commit])[0]
        if not isinstance(result, Committed):
            raise result

    def _settle(self, held: Held, made: Draft) -> None:
        held.seq += 1
        held.tail = made.tail
        if made.moves:
            held.head = made.lead
        if made.put is not None:
            held.note(made.put)
            self.memory.seqs.put((made.put.place.thread_id, made.put.record.id), made.put.seq)
        for channel, (base, weight) in made.bases.items():
            self.memory.bases.put((held.token, channel), base, weight)

    def _claim(self, place: Place) -> Held:
        row = row_of(self.store, place)
        if row is None:
            self._create(place)
            row = row_of(self.store, place)
        if row is None:
            raise StoreMisuse(
                f"thread {place.thread!r} is being copied from another; wait for copy_thread to end or, if that died, "
                "call it again"
            )
        token = uuid.uuid4().hex
        row = self.store.claim(place.thread_id, epoch=row.epoch, token=token, owner=self._owner, at=time.time())
        tail, head = self.reader.tail(place, row.seq), self.reader.head(place, row)
        held = Held(row.epoch, token, row.seq, tail, head)
        self.memory.held.put(place.thread_id, held)
        return held

    def _create(self, place: Place) -> None:
        for each in dict.fromkeys((place.root, place)):
            try:
                self.store.create(each.record(time.time()))
            except ThreadExists:
                continue


def _commit(place: Place, held: Held, first: int, drafts: Sequence[Draft]) -> Commit:
    moved = [draft for draft in drafts if draft.moves]
    lead = moved[-1].lead if moved else None
    return Commit(
        thread_id=place.thread_id,
        epoch=held.epoch,
        token=held.token,
        commit_id=uuid.uuid4().hex,
        first=first,
        last=held.seq,
        rows=tuple(row for draft in drafts for row in draft.rows),
        head=(lead.seq if lead else 0) if moved else None,
        at=time.time(),
    )


def _transient(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreFull)


def _again(error: BaseException) -> bool:
    return isinstance(error, (Fenced, ClaimLost, UnknownThread)) or _transient(error)
