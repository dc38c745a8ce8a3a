"""What is done to many threads at once, chosen as for a batch re-run: each gets it alone, and is told of alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.clock import Clock, SystemClock
from ..runtime.compiled import CompiledGraph
from ..runtime.errors import InputError, PerdureError
from ..runtime.payloads import pack
from ..runtime.signals import signal_message
from ..stores.arguments import check_id
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.deletion import delete_thread
from ..stores.errors import FINAL, Refused, ThreadReferenced, UnknownThread
from ..stores.operations import Amendment
from ..stores.records import ThreadRecord
from .amounts import check_whole
from .choosing import Choice, Where, chosen
from .handle import UNSET, ThreadHandle

_REFUSALS = (PerdureError, Refused, ThreadReferenced, UnknownThread, *FINAL)
"""What concerns one thread and none of the others. An outage of the store is none of these: it stops the operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an operation on many threads has come to."""

    operation_id: str
    """Empty of deletions and tags, which are safe to repeat anyhow."""
    done: tuple[str, ...]
    """Ids of the threads that it was done to; with `dry_run`, of those that it would be tried on."""
    refused: dict[str, str]
    """By thread: why it was not."""


_KEPT = "many:"
"""Begins the name of the store's setting that lists the threads of an operation that has a limit."""


class _Numbered(SystemClock):
    """Gives ids by which the messages of one operation are known again: each thread gets them once."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._count = 0

    @property
    def first(self) -> str:
        """The first of them."""
        return f"{self._operation}:1"

    def unique(self) -> str:
        """The next of them."""
        self._count += 1
        return f"{self._operation}:{self._count}"


class ManyThreads(ABC):
    """The part of `Client` that steers threads in batches.

    All take `where`, which chooses the threads (see `Where`; `{}` for all that are no re-runs), `limit` for the first
    so many, and `dry_run` to only tell which. A thread that is in no state for it is left as it is, and told of under
    `refused`; the others go on. Each call returns once all is in the store.

    With an `operation_id`, of your choice, a call that broke off can be made again: no thread gets it twice, and those
    that had got it count as done. The id counts for one kind of call (of signals: for one name); what is sent does not
    count: a thread that had the first value does not get another. With a `limit` too, all calls together take so many
    threads at most: which ones is kept in the store, so that those that fit no more, since they were reached, are not
    replaced by others.

    Raise `InputError`, `Unencodable`, `StoreMisuse` before anything is done; `StoreUnavailable` in the middle.
    """

    store: CheckpointStore
    _clock: SystemClock

    def cancel_many(
        self,
        where: Where,
        reason: str = "",
        *,
        limit: int | None = None,
        dry_run: bool = False,
        operation_id: str | None = None,
    ) -> Applied:
        """End the runs of many threads, also in the middle of a node; see `ThreadHandle.cancel`."""
        return self._to_each(where, lambda one: one.cancel(reason), _Call("cancel", limit, dry_run, operation_id))

    def resume_many(
        self,
        where: Where,
        answer: Any = UNSET,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        operation_id: str | None = None,
    ) -> Applied:
        """Give many threads the same answer; without one, pass a breakpoint or end a pause. A thread that waits at
        several interrupts is refused. See `ThreadHandle.resume`."""
        if answer is not UNSET:
            pack(Codec(opaque=True), answer)
        return self._to_each(where, lambda one: one.resume(answer), _Call("resume", limit, dry_run, operation_id))

    def signal_many(
        self,
        where: Where,
        name: str,
        value: Any = None,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        operation_id: str | None = None,
    ) -> Applied:
        """Send many threads the same signal; see `ThreadHandle.signal`."""
        signal_message(Codec(opaque=True), self._clock, name, value)
        call = _Call(f"signal:{name}", limit, dry_run, operation_id)
        return self._to_each(where, lambda one: one.signal(name, value), call)

    def tag_many(
        self,
        where: Where,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        limit: int | None = None,
        dry_run: bool = False,
    ) -> Applied:
        """Put tags on many threads, and take others off, whatever they are doing. Safe to repeat."""
        return tag_each(self.store, where, add=add, remove=remove, limit=limit, dry_run=dry_run)

    def delete_many(self, where: Where, *, limit: int | None = None, dry_run: bool = False) -> Applied:
        """Delete many threads with their histories, the youngest first, so that forks go before what they were forked
        from; see `Client.delete`. Those that run are refused. Broken off, a repetition goes on."""
        return delete_each(self.store, where, limit=limit, dry_run=dry_run)

    @abstractmethod
    def _handle(
        self, thread_id: str, run: int, graph: CompiledGraph | None, clock: Clock | None = None
    ) -> ThreadHandle:
        """The handle of a thread, whose messages have their ids from a clock."""

    def _to_each(self, where: Where, act: Callable[[ThreadHandle], None], call: _Call) -> Applied:
        name = call.operation_id or self._clock.unique()
        operation = f"{name}:{call.kind}"
        again = call.operation_id is not None
        check_id("operation id", f"{_KEPT}{_Numbered(operation).first}")
        if again and call.limit is not None:
            records = self._within(where, call.limit, f"{_KEPT}{operation}", call.dry_run)
        else:
            records = _chosen(self.store, where, call.limit)

        def tell(record: ThreadRecord) -> None:
            clock = _Numbered(operation)
            if again and self._has(record.thread_id, clock.first):
                return
            act(self._handle(record.thread_id, record.runs, None, clock))

        return _each(records, tell, name, call.dry_run)

    def _within(self, where: Where, limit: int, setting: str, dry_run: bool) -> list[ThreadRecord]:
        """The threads that earlier calls of the operation have taken, whether or not they still fit, and of the others
        as many as are left to it; which ones is noted before the first of them is reached."""
        check_whole("limit", limit, least=0)
        fitting = _chosen(self.store, where, None)
        taken: list[str] = self.store.setting(setting) or []
        known = set(taken)
        added = [record for record in fitting if record.thread_id not in known][: max(0, limit - len(taken))]
        if added and not dry_run:
            self.store.put_setting(setting, [*taken, *(record.thread_id for record in added)])
        before = self.store.find(taken[:limit])
        return [*(before[name] for name in taken[:limit] if name in before), *added]

    def _has(self, thread_id: str, message_id: str) -> bool:
        """Whether an earlier attempt of an operation has reached the thread, wherever that stands now."""
        return any(one.message_id == message_id for one in self.store.messages(thread_id, unread=False))


@dataclass(frozen=True, slots=True)
class _Call:
    """How one call of an operation was made."""

    kind: str
    """What it does. Part of the messages' ids: with the same `operation_id` another kind is another operation."""
    limit: int | None
    dry_run: bool
    operation_id: str | None


def tag_each(
    store: CheckpointStore,
    where: Where,
    *,
    add: Sequence[str],
    remove: Sequence[str],
    limit: int | None,
    dry_run: bool,
) -> Applied:
    """See `ManyThreads.tag_many`."""
    if isinstance(add, str) or isinstance(remove, str):
        raise InputError(f"add={add!r}, remove={remove!r}: give lists of tags")
    if both := set(add) & set(remove):
        raise InputError(f"tag {min(both)!r} cannot be both added and removed")
    tags = dict.fromkeys(add, True) | dict.fromkeys(remove, False)
    if not tags:
        raise InputError("name tags to add or to remove")
    for tag in tags:
        check_id("tag", tag)

    def put(record: ThreadRecord) -> None:
        store.amend(record.thread_id, Amendment(tags=tags, made_at=record.created_at))

    return _each(_chosen(store, where, limit), put, "", dry_run)


def delete_each(store: CheckpointStore, where: Where, *, limit: int | None, dry_run: bool) -> Applied:
    """See `ManyThreads.delete_many`."""
    records = sorted(_chosen(store, where, limit), key=lambda record: -record.created_at)
    return _each(records, lambda record: delete_thread(store, record.thread_id, record), "", dry_run)


def _chosen(store: CheckpointStore, where: Where, limit: int | None) -> list[ThreadRecord]:
    if where is None:
        raise InputError("where is None; say which threads, or give {} for all of them")
    return chosen(store, Choice.of(where), limit=limit, sample=None, seed="")


def _each(records: list[ThreadRecord], act: Callable[[ThreadRecord], object], name: str, dry_run: bool) -> Applied:
    done: list[str] = []
    refused: dict[str, str] = {}
    for record in records:
        try:
            if not dry_run:
                act(record)
        except _REFUSALS as error:
            refused[record.thread_id] = str(error)
        else:
            done.append(record.thread_id)
    return Applied(operation_id=name, done=tuple(done), refused=refused)
