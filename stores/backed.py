"""A store of bytes behind the interface: arguments are checked, payloads encoded and sealed, here and once for all.

A backend supplies the calls that begin with an underscore. It is handed checked arguments and sealed bytes, moves them
in one transaction, and hands back what it kept.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .arguments import (
    canonical_json,
    check_amendment,
    check_claim,
    check_commit,
    check_different,
    check_due,
    check_id,
    check_json,
    check_lease,
    check_message,
    check_thread,
)
from .base import CheckpointStore, CommitResult, NewThread, TakeResult
from .errors import ClaimLost, StoreMisuse, ThreadExists, UnknownThread
from .operations import (
    Amendment,
    Claim,
    Claimed,
    Commit,
    Delivery,
    Expect,
    Reached,
    ThreadFilter,
    ThreadImage,
    ThreadPage,
)
from .records import GraphRecord, Message, OwnerRecord, RunRecord, Segment, ThreadRecord
from .sealing import Encoded, Sealing, StoredSegment
from .vault import PlainVault, Vault, sealing_key


class BackedStore(CheckpointStore):
    """Checks, encodes and seals; the backend stores."""

    where: str
    """What messages call this store, without a password."""
    vault: Vault = PlainVault()

    # -- what a backend supplies -----------------------------------------------------------------------------------

    @abstractmethod
    def _create(self, thread: ThreadRecord, message: Message | None) -> Delivery:
        """`create`."""

    def _create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        """`create_many`, of at least one."""
        made: list[Delivery | ThreadExists] = []
        for thread, message in threads:
            try:
                made.append(self._create(thread, message))
            except ThreadExists as present:
                made.append(present)
        return made

    @abstractmethod
    def _claim(self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool, at: float) -> ThreadRecord:
        """`claim`."""

    def _take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        """`take`, of at least one; errors, reasons and payloads sealed."""
        taken: list[TakeResult] = []
        for claim in claims:
            try:
                row = self._claim(
                    claim.thread_id,
                    epoch=claim.epoch,
                    token=claim.token,
                    owner=claim.owner,
                    crashed=claim.crashed,
                    at=claim.at,
                )
            except (ClaimLost, UnknownThread) as refusal:
                taken.append(refusal)
            else:
                taken.append(self._with_mail(row))
        return taken

    def _with_mail(self, row: ThreadRecord) -> Claimed:
        runs, messages = self._runs(row.thread_id), self._messages(row.thread_id, True)
        return Claimed(thread=row, runs=tuple(runs), messages=tuple(messages))

    @abstractmethod
    def _commit(self, group: Sequence[Encoded]) -> list[CommitResult]:
        """`commit`, of at least one."""

    @abstractmethod
    def _deliver(self, thread_id: str, message: Message, expect: Expect, graph: GraphRecord | None) -> Delivery:
        """`deliver`."""

    @abstractmethod
    def _delete(self, thread_id: str, seen: ThreadRecord | None) -> None:
        """`delete`."""

    @abstractmethod
    def _read_thread(self, thread_id: str) -> ThreadRecord:
        """`thread`."""

    @abstractmethod
    def _list_threads(self, where: ThreadFilter, limit: int, cursor: str | None) -> ThreadPage:
        """`threads`."""

    @abstractmethod
    def _due(self, before: float, limit: int) -> Sequence[ThreadRecord]:
        """`due`."""

    @abstractmethod
    def _runs(self, thread_id: str) -> Sequence[RunRecord]:
        """`runs`, errors and reasons sealed."""

    @abstractmethod
    def _messages(self, thread_id: str, unread: bool) -> Sequence[Message]:
        """`messages`, payloads sealed."""

    @abstractmethod
    def _segments(self, thread_id: str, first: int, last: int | None, limit: int | None) -> list[StoredSegment]:
        """`segments`, as they are kept."""

    @abstractmethod
    def _renew(self, lease: OwnerRecord) -> None:
        """`renew`."""

    @abstractmethod
    def _put_graph(self, graph: GraphRecord) -> None:
        """`put_graph`, its body sealed."""

    @abstractmethod
    def _graph(self, graph_key: str) -> GraphRecord | None:
        """`graph`, its body sealed; None if there is none."""

    @abstractmethod
    def _amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        """`amend`."""

    @abstractmethod
    def _rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[StoredSegment]) -> bool:
        """`rewrite`, of at least one old segment."""

    @abstractmethod
    def _graft(self, fork: ThreadRecord, segments: Sequence[StoredSegment]) -> bool:
        """`graft`, of at least one segment."""

    @abstractmethod
    def _image(self, thread_id: str) -> ThreadImage:
        """`image`, payloads sealed."""

    @abstractmethod
    def _load(
        self, image: ThreadImage, segments: Sequence[StoredSegment], after: Reached | None, complete: bool
    ) -> bool:
        """`load`, payloads sealed."""

    @abstractmethod
    def _put_setting(self, name: str, value: Any) -> None:
        """`put_setting`."""

    # -- running threads -------------------------------------------------------------------------------------------

    def create(self, thread: ThreadRecord, message: Message | None = None) -> Delivery:
        check_thread(thread)
        if message is not None:
            check_message(message)
            message = self._sealing.message(thread.thread_id, message)
        created = self._create(self._sealing.thread(owned_metadata(thread)), message)
        return self._sealing.opened_delivery(created)

    def create_many(self, threads: Sequence[NewThread]) -> list[Delivery | ThreadExists]:
        check_different("create_many", [thread.thread_id for thread, _ in threads])
        sealing, sealed = self._sealing, list[NewThread]()
        for thread, message in threads:
            check_thread(thread)
            if message is not None:
                check_message(message)
                message = sealing.message(thread.thread_id, message)  # noqa: PLW2901 — the same, sealed
            sealed.append((sealing.thread(owned_metadata(thread)), message))
        made = self._create_many(sealed) if sealed else []
        return [one if isinstance(one, ThreadExists) else sealing.opened_delivery(one) for one in made]

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        check_claim(thread_id, token, owner)
        row = self._claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)
        return self._sealing.opened_thread(row)

    def take(self, claims: Sequence[Claim]) -> list[TakeResult]:
        check_different("take", [claim.thread_id for claim in claims])
        for claim in claims:
            check_claim(claim.thread_id, claim.token, claim.owner)
        taken = self._take(claims) if claims else []
        return [self._opened_claimed(one) if isinstance(one, Claimed) else one for one in taken]

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        for commit in commits:
            check_commit(commit)
        if not commits:
            return []
        # Encoded before any lock is taken: nobody waits for another's compression.
        return self._commit([self._sealing.commit(commit) for commit in commits])

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        check_id("thread id", thread_id)
        check_message(message)
        delivery = self._deliver(thread_id, self._sealing.message(thread_id, message), expect, graph)
        return self._sealing.opened_delivery(delivery)

    def delete(self, thread_id: str, *, seen: ThreadRecord | None = None) -> None:
        check_id("thread id", thread_id)
        self._delete(thread_id, seen)

    def due(self, before: float, *, limit: int = 100) -> tuple[ThreadRecord, ...]:
        check_due(before, limit)
        return tuple(map(self._sealing.opened_thread, self._due(before, limit)))

    def renew(self, lease: OwnerRecord) -> None:
        check_lease(lease)
        self._renew(lease)

    # -- reading ---------------------------------------------------------------------------------------------------

    def thread(self, thread_id: str) -> ThreadRecord:
        return self._sealing.opened_thread(self._read_thread(thread_id))

    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        page = self._list_threads(where or ThreadFilter(), limit, cursor)
        return replace(page, threads=tuple(map(self._sealing.opened_thread, page.threads)))

    def runs(self, thread_id: str) -> tuple[RunRecord, ...]:
        check_id("thread id", thread_id)
        return tuple(map(self._sealing.opened_run, self._runs(thread_id)))

    def messages(self, thread_id: str, *, unread: bool = True) -> tuple[Message, ...]:
        check_id("thread id", thread_id)
        sealing = self._sealing
        return tuple(sealing.opened_message(thread_id, message) for message in self._messages(thread_id, unread))

    def segments(
        self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
    ) -> list[Segment]:
        check_id("thread id", thread_id)
        if limit is not None and limit < 1:
            raise StoreMisuse(f"thread {thread_id!r}: a limit of segments must be at least 1, not {limit}")
        return [self._decoded(thread_id, stored) for stored in self._segments(thread_id, first, last, limit)]

    # -- graphs ----------------------------------------------------------------------------------------------------

    def put_graph(self, graph: GraphRecord) -> None:
        check_id("graph key", graph.graph_key)
        self._put_graph(self._sealing.graph(graph))

    def graph(self, graph_key: str) -> GraphRecord:
        graph = self._graph(graph_key)
        if graph is None:
            raise StoreMisuse(f"no graph {graph_key!r} in {self.where}; submit the graph again to register it")
        return self._sealing.opened_graph(graph)

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def amend(self, thread_id: str, change: Amendment) -> ThreadRecord:
        check_id("thread id", thread_id)
        check_amendment(thread_id, change)
        return self._sealing.opened_thread(self._amend(thread_id, change))

    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        check_id("thread id", thread_id)
        if not old:
            return True
        first, last = old[0].first, old[-1].last
        if any(segment.thread_id != thread_id or not first <= segment.first <= segment.last <= last for segment in new):
            raise StoreMisuse(f"thread {thread_id!r}: commits {first}..{last} are rewritten only by segments of theirs")
        return self._rewrite(thread_id, old, list(map(self._sealing.segment, new)))

    def graft(self, fork: ThreadRecord, segments: Sequence[Segment]) -> bool:
        inherited = fork.origin.seq if fork.origin is not None else 0
        if any(segment.thread_id != fork.thread_id or segment.last > inherited for segment in segments):
            raise StoreMisuse(f"thread {fork.thread_id!r} inherits only commits up to {inherited}")
        return not segments or self._graft(fork, list(map(self._sealing.segment, segments)))

    def image(self, thread_id: str) -> ThreadImage:
        check_id("thread id", thread_id)
        image = self._image(thread_id)
        sealing = self._sealing
        return ThreadImage(
            thread=sealing.opened_thread(image.thread),
            runs=tuple(map(sealing.opened_run, image.runs)),
            messages=tuple(sealing.opened_message(thread_id, message) for message in image.messages),
        )

    def load(
        self,
        image: ThreadImage,
        segments: Sequence[Segment] = (),
        *,
        after: Reached | None = None,
        complete: bool = False,
    ) -> bool:
        check_thread(image.thread)
        for message in image.messages:
            check_message(message)
        thread_id, sealing = image.thread.thread_id, self._sealing
        sealed = ThreadImage(
            thread=sealing.thread(owned_metadata(image.thread)),
            runs=tuple(map(sealing.run, image.runs)),
            messages=tuple(sealing.message(thread_id, message) for message in image.messages),
        )
        return self._load(sealed, list(map(sealing.segment, segments)), after, complete)

    def put_setting(self, name: str, value: Any) -> None:
        check_id("setting", name)
        check_json(f"setting {name!r}", value)
        self._put_setting(name, value)

    def key_ids(self, thread_id: str) -> frozenset[str]:
        """Ids of the keys that a thread's payloads are encrypted with, "" among them if some are not encrypted: what is
        left to be written anew before a key can be given up. Reads all of the thread, decrypts nothing."""
        check_id("thread id", thread_id)
        kept = [stored.data for stored in self._segments(thread_id, 1, None, None)]
        kept += [message.payload for message in self._messages(thread_id, False)]
        kept += [run.error for run in self._runs(thread_id) if run.error]
        return frozenset(sealing_key(data) or "" for data in kept)

    def _opened_claimed(self, taken: Claimed) -> Claimed:
        sealing, thread_id = self._sealing, taken.thread.thread_id
        return Claimed(
            thread=sealing.opened_thread(taken.thread),
            runs=tuple(map(sealing.opened_run, taken.runs)),
            messages=tuple(sealing.opened_message(thread_id, message) for message in taken.messages),
        )

    @property
    def _sealing(self) -> Sealing:
        return Sealing(self.vault, self.where)

    def _decoded(self, thread_id: str, stored: StoredSegment) -> Segment:
        return self._sealing.opened_segment(thread_id, stored)


def owned_metadata(thread: ThreadRecord) -> ThreadRecord:
    """The row with metadata of its own: what a store keeps and answers is not the caller's dict, which may change."""
    return replace(thread, metadata=json.loads(canonical_json(thread.metadata)), names=dict(thread.names))
