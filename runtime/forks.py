"""New threads that take off from a checkpoint of another: one row that refers to it, whatever the history's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.history import HistoryReader
from ..stores.records import BATCH, BATCH_MARK, RERUN, Message, Origin, Status, ThreadRecord
from ..stores.segments import Kind
from .clock import Clock
from .control import Control
from .errors import InputError
from .options import given_metadata
from .payloads import BREAKPOINTS, RETRY, UPDATE, pack
from .position import FORKED
from .reruns import BatchMark, Effects, new_rerun


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkWishes:
    """What a new thread is to be."""

    update: Any = None
    """Changes the state first, through its reducers."""
    as_node: str | None = None
    """As if this node had returned the update: what follows it is run next."""
    thread_id: str | None = None
    """Its id; by default that of its origin with a random ending."""
    metadata: Mapping[str, Any] | None = None
    """Its metadata; None for that of its origin."""
    start: bool = True
    """Run it; else it is paused until somebody resumes it."""
    batch: BatchMark | None = None
    """The batch that makes it."""
    effects: Effects | None = None
    """Make it a re-run of its origin, with these effects; None for a thread of its own, whose effects are live."""
    options: Mapping[str, Any] | None = None
    """Options that its run goes on with (`RunOptions.to_data`); None for those that it had at the checkpoint."""

    def __post_init__(self) -> None:
        if self.thread_id is not None and (not isinstance(self.thread_id, str) or not self.thread_id):
            raise InputError(f"thread_id={self.thread_id!r}: the id of a fork is a text, not empty")
        if not isinstance(self.metadata, Mapping | None):
            raise InputError(f"metadata={self.metadata!r}: the metadata of a fork is a dict")

    @property
    def updates(self) -> bool:
        """Whether the state is changed first."""
        return self.update is not None or self.as_node is not None


def new_fork(
    origin: ThreadRecord, seq: int, control: Control, wishes: ForkWishes, codec: Codec, clock: Clock, driver: str
) -> tuple[ThreadRecord, Message | None]:
    """The row and the first message of a thread that is forked from checkpoint `seq` of `origin`, to be run by
    `driver`. Raises `Unencodable`; `InputError` for a re-run from a checkpoint that is not the origin's own."""
    record = fork_record(origin, seq, control.run, wishes, clock, driver)
    kind, payload = _first_message(wishes, codec)
    if not kind:
        return record, None
    return record, Message(message_id=clock.unique(), kind=kind, payload=payload, created_at=record.created_at)


def fork_record(
    origin: ThreadRecord, seq: int, run: int, wishes: ForkWishes, clock: Clock, driver: str
) -> ThreadRecord:
    """The row of a thread that is forked from checkpoint `seq` of `origin`, which belongs to `run`. Raises
    `InputError`."""
    now = clock.time()
    same = driver == origin.driver
    return ThreadRecord(
        thread_id=wishes.thread_id or f"{origin.thread_id}-{clock.unique()[:8]}",
        graph=origin.graph,
        version=origin.version,
        graph_key=origin.graph_key if same else "",
        driver=driver,
        isolation=origin.isolation,
        status=Status.QUEUED if wishes.start else Status.PAUSED,
        reason="" if wishes.start else FORKED,
        run=run,
        runs=run,
        seq=seq,
        head=seq,
        origin=Origin(thread_id=origin.thread_id, seq=seq),
        metadata=_metadata(origin, seq, run, wishes),
        tags=origin.tags,
        created_at=now,
        updated_at=now,
    )


def _metadata(origin: ThreadRecord, seq: int, run: int, wishes: ForkWishes) -> dict[str, Any]:
    given = given_metadata(wishes.metadata) if wishes.metadata is not None else origin.metadata
    # A fork of a re-run is none, unless it is made one.
    metadata = {name: value for name, value in given.items() if name not in (RERUN, BATCH, BATCH_MARK)}
    if wishes.effects is not None:
        metadata[RERUN] = new_rerun(origin, seq, run, wishes.effects).to_data()
    if wishes.batch is not None:
        metadata.update(wishes.batch.to_data())
    return metadata


def options_since(store: CheckpointStore, origin: ThreadRecord, seq: int, codec: Codec) -> dict[str, Any] | None:
    """The options of a thread's run (`RunOptions.to_data`), if they were changed since its newest checkpoint, and that
    is `seq`. A fork inherits nothing that came after the checkpoint, but who forks what is now means these too."""
    if seq != origin.head:
        return None
    rows = HistoryReader(store, origin.thread_id, record=origin).pending(seq)
    changed = [row for row in rows if row.kind == Kind.OPTIONS]
    return dict(codec.decode(changed[-1].encoding, changed[-1].payload)) if changed else None


def _first_message(wishes: ForkWishes, codec: Codec) -> tuple[str, bytes]:
    """What a fork is told first; ("", b"") for nothing."""
    options = [dict(wishes.options)] if wishes.options is not None else []
    if wishes.updates:
        return UPDATE, pack(codec, wishes.update, wishes.as_node, 0, 0, *options)
    if wishes.start:
        return RETRY, pack(codec, *options) if options else b""
    return (BREAKPOINTS, pack(codec, [], [], [], [], *options)) if options else ("", b"")
