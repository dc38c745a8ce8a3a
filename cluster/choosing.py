"""Which threads a batch takes, and from which checkpoint of each it goes on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from ..runtime.control import Control, decode_control
from ..runtime.errors import InputError
from ..runtime.snapshots import checkpoint_id, checkpoint_seq
from ..stores.base import CheckpointStore
from ..stores.history import HistoryReader
from ..stores.records import RERUN, Status, ThreadRecord
from .amounts import check_sample, check_whole
from .dataset import history_batches
from .handle import ThreadHandle
from .reader import Reader
from .statuses import read_statuses

At: TypeAlias = str | Callable[[ThreadHandle], str | None]
"""Which checkpoint: "latest", "before:NODE" (the first of the thread's newest run after which that node runs), "step:K"
(that superstep's), or a function of the thread's handle that returns a checkpoint id, or None to skip the thread."""


class Where(TypedDict, total=False):
    """Which threads; all conditions that are given must hold."""

    threads: Sequence[str]
    """Ids."""
    graph: str
    status: Status | str | Sequence[Status | str]
    tag: str
    metadata: Mapping[str, Any]
    since: datetime
    until: datetime
    """Threads made from `since` on and before `until`; both with a time zone."""
    error: str
    """A part of the reason why the thread failed, was paused or cancelled."""
    history: pc.Expression
    """Over the rows of `client.history_table(channels=...)`: threads that have one for which it holds."""
    channels: Sequence[str]
    """The channels that `history` looks at, as `state.<name>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`Where`, checked. Raises `InputError`."""

    threads: Sequence[str] | None = None
    graph: str | None = None
    status: Status | str | Sequence[Status | str] | None = None
    tag: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    history: pc.Expression | None = None
    channels: Sequence[str] | None = None
    statuses: frozenset[Status] | None = field(init=False)

    def __post_init__(self) -> None:
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and not isinstance(moment, datetime):
                raise InputError(f"{name} is {moment!r}; give a datetime with a time zone")
            if moment is not None and moment.utcoffset() is None:
                raise InputError(f"{name} is {moment.isoformat()} without a time zone; add tzinfo=datetime.UTC")
        for name, text in (("graph", self.graph), ("tag", self.tag), ("error", self.error)):
            if not isinstance(text, str | None) or text == "":
                raise InputError(f"{name} is {text!r}; give a text that is not empty, or leave {name} out")
        for name, texts in (("threads", self.threads), ("channels", self.channels)):
            object.__setattr__(self, name, _texts(name, texts))
        if not isinstance(self.metadata, Mapping):
            raise InputError(f"metadata is {self.metadata!r}; give a dict of keys and values")
        object.__setattr__(self, "statuses", read_statuses(self.status))
        if self.history is not None and not isinstance(self.history, pc.Expression):
            raise InputError(f"history is {self.history!r}; give an expression, as pyarrow.compute.field('step') > 3")
        if self.channels is not None and self.history is None:
            raise InputError("channels are what `history` looks at, and it is not given; alone they choose nothing")

    @classmethod
    def of(cls, where: Where | None, *, graph: str | None = None) -> Choice:
        """The choice that `where` describes; if that names no graph, of the threads of `graph`. Raises `InputError`."""
        given: Mapping[str, Any] = {} if where is None else where
        if not isinstance(given, Mapping):
            raise InputError(
                f"where is {where!r}; give a dict of conditions, as {{'graph': 'audit', 'status': 'failed'}}"
            )
        if unknown := sorted(given.keys() - Where.__annotations__.keys()):
            known = ", ".join(Where.__annotations__)
            raise InputError(f"where has {unknown[0]!r}, which is no condition; there are {known}")
        if unset := [name for name, value in given.items() if value is None]:
            # Whoever deletes the threads of a graph whose name is unset does not mean those of all graphs.
            raise InputError(f"where has {unset[0]}=None; leave {unset[0]} out to take threads whatever it is")
        return cls(**{"graph": graph, **given})

    def listed(self, store: CheckpointStore) -> Iterator[ThreadRecord]:
        """The threads for which all holds but `history`, newest first; those that are named, in that order. Re-runs
        are taken only if they are named, or looked for by their metadata. Raises `UnknownThread`."""
        if self.threads is not None:
            found: Iterator[ThreadRecord] = map(store.thread, dict.fromkeys(self.threads))
        else:
            found = Reader(store).threads(
                status=self.statuses, graph=self.graph, tag=self.tag, metadata=self.metadata or None
            )
        return (record for record in found if self._takes(record))

    def _takes(self, record: ThreadRecord) -> bool:
        return (
            (self.threads is not None or bool(self.metadata) or RERUN not in record.metadata)
            and (self.statuses is None or record.status in self.statuses)
            and (self.graph is None or record.graph == self.graph)
            and (self.tag is None or self.tag in record.tags)
            and all(record.metadata.get(name) == value for name, value in self.metadata.items())
            and (self.since is None or record.created_at >= self.since.timestamp())
            and (self.until is None or record.created_at < self.until.timestamp())
            and (self.error is None or self.error in record.reason)
        )


def _texts(name: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{name} is {given!r}; give a list of {'ids' if name == 'threads' else 'names'}")
    texts = tuple(given)
    for one in texts:
        if not isinstance(one, str):
            raise InputError(f"{name} has {one!r}; give texts")
    return texts


def chosen(
    store: CheckpointStore, choice: Choice, *, limit: int | None, sample: int | float | None, seed: str
) -> list[ThreadRecord]:
    """The threads that are chosen: of all that fit a random `sample` (a number of them, or a share below 1; the same
    for the same `seed`), of that the first `limit`. Raises `InputError`, `UnknownThread`."""
    check_whole("limit", limit, least=0)
    check_sample(sample)
    records = list(choice.listed(store))
    if choice.history is not None:
        fitting = _with_row(store, choice.history, choice.channels, [record.thread_id for record in records])
        records = [record for record in records if record.thread_id in fitting]
    if sample is not None:
        # Of a share of few one is left: no check in a pipeline is to pass because it looked at nothing.
        count = sample if isinstance(sample, int) else max(1, round(sample * len(records)))
        picked = random.Random(seed).sample(range(len(records)), min(count, len(records)))
        records = [records[index] for index in sorted(picked)]
    return records if limit is None else records[:limit]


def _with_row(
    store: CheckpointStore, wanted: pc.Expression, channels: Sequence[str] | None, ids: Sequence[str]
) -> set[str]:
    """The threads that have a row in the history for which the expression holds. Raises `InputError`."""
    found: set[str] = set()
    if not ids:
        return found
    with history_batches(store, threads=ids, channels=channels) as batches:
        for batch in batches:
            try:
                rows = pa.Table.from_batches([batch]).filter(wanted)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                raise InputError(
                    f"where: history cannot be asked for {wanted}: {error}; name channels as `state.<name>`, "
                    "and in `channels`"
                ) from error
            found.update(map(str, rows.column("thread_id").to_pylist()))
    return found


_AT = re.compile("latest|before:.+|step:-?[0-9]{1,18}", re.DOTALL)


class Skip(Exception):
    """A thread has nothing to go on from."""


class Place(NamedTuple):
    """A checkpoint to go on from, and the run that it belongs to."""

    seq: int
    run: int


def names_function(at: str) -> bool:
    """Whether a text names a function, as MODULE:FUNCTION, rather than a checkpoint: latest, before:NODE, step:K."""
    module, colon, _ = at.partition(":")
    return bool(colon) and module not in ("before", "step")


def check_at(at: At) -> None:
    """Raise `InputError` for what names no checkpoint."""
    if callable(at) or (isinstance(at, str) and _AT.fullmatch(at)):
        return
    raise InputError(f'at={at!r} names no checkpoint; give "latest", "before:NODE", "step:K" or a function')


def place_of(store: CheckpointStore, record: ThreadRecord, at: At, handle: Callable[[str], ThreadHandle]) -> Place:
    """Where a thread is to go on from. Raises `Skip`; what a function raises; `CheckpointNotFound`, `Corrupt`."""
    if not record.head:
        raise Skip("it has no checkpoint yet")
    if callable(at):
        named = at(handle(record.thread_id))
        if named is None:
            raise Skip("at() chose no checkpoint of it")
        wanted = checkpoint_seq(record.thread_id, named)
        return _newest(store, record, lambda seq, one: seq == wanted, f"checkpoint {named} did not lead to its head")
    if at == "latest":
        return _newest(store, record, lambda seq, one: True, "its newest checkpoint is gone")
    kind, _, rest = at.partition(":")
    if kind == "step":
        return _newest(store, record, lambda seq, one: one.step == int(rest), f"it has no checkpoint at step {rest}")
    return _first_before(store, record, rest)


def _newest(store: CheckpointStore, record: ThreadRecord, fits: Callable[[int, Control], bool], why: str) -> Place:
    for seq, control in led_to_head(store, record):
        if fits(seq, control):
            if not control.next:
                raise Skip(f"nothing was left to run at its checkpoint {checkpoint_id(seq)}; choose an earlier one")
            return Place(seq, control.run)
    raise Skip(why)


def _first_before(store: CheckpointStore, record: ThreadRecord, node: str) -> Place:
    found: Place | None = None
    for seq, control in led_to_head(store, record):
        if control.run != record.run:
            break
        if any(task.node == node for task in control.next):
            found = Place(seq, control.run)
    if found is None:
        raise Skip(f"node {node!r} was not to run in its run {record.run}")
    return found


def led_to_head(store: CheckpointStore, record: ThreadRecord) -> Iterator[tuple[int, Control]]:
    """The checkpoints that the present state came from, newest first, as far back as they are kept."""
    wanted = record.head
    for thread_id, row in HistoryReader(store, record.thread_id, record=record).checkpoints():
        if row.checkpoint > wanted:
            continue  # of a branch that was left
        if row.checkpoint < wanted or not wanted:
            return
        control = decode_control(row.payload, f"checkpoint {row.checkpoint} of thread {thread_id!r}")
        yield row.checkpoint, control
        wanted = control.parent
