"""Which rows of which histories a table is to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict, get_args

from ..runtime.errors import InputError
from ..stores.operations import ThreadFilter
from ..stores.records import Status
from .dataset_rows import HistoryKind
from .statuses import read_statuses


class HistoryOptions(TypedDict, total=False):
    """Which rows of which histories. All conditions that are given must hold."""

    threads: str | Sequence[str] | None
    """Ids; all threads by default. Not together with a condition on threads."""
    kind: HistoryKind
    """What a row is. "checkpoints" (default): one checkpoint, with a column `state.<name>` for each of `channels`, in
    its own Arrow type where its values have one, else JSON text. "values": a channel's value as JSON text, where it
    differs from that in the thread's row before. "writes": what one node returned for one channel, as JSON text."""
    channels: Sequence[str] | None
    """Which channels are decoded; by default none for checkpoints, else all."""
    status: Status | str | Sequence[Status | str] | None
    graph: str | None
    tag: str | None
    metadata: Mapping[str, Any] | None
    """Conditions on threads, as in `Client.threads`."""
    runs: Sequence[int] | None
    """Numbers of runs."""
    since: datetime | None
    until: datetime | None
    """Checkpoints made from `since` on and before `until`; both with a time zone."""
    only_heads: bool
    """Only the newest checkpoint of each thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """`HistoryOptions`, checked. Raises `InputError`."""

    threads: str | Sequence[str] | None = None
    kind: HistoryKind = "checkpoints"
    channels: Sequence[str] | None = None
    status: Status | str | Sequence[Status | str] | None = None
    graph: str | None = None
    tag: str | None = None
    metadata: Mapping[str, Any] | None = None
    runs: Sequence[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    only_heads: bool = False
    where: ThreadFilter = field(init=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(HistoryKind):
            raise InputError(f"kind is {self.kind!r}; give one of {', '.join(get_args(HistoryKind))}")
        if isinstance(self.channels, str):
            raise InputError(f"channels is {self.channels!r}; give a list of names")
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.utcoffset() is None:
                raise InputError(f"{name} is {moment.isoformat()} without a time zone; add tzinfo=datetime.UTC")
        conditions = (self.status, self.graph, self.tag, self.metadata or None)
        if self.threads is not None and any(condition is not None for condition in conditions):
            raise InputError("give either ids of threads or conditions (status, graph, tag, metadata), not both")
        where = ThreadFilter(
            statuses=read_statuses(self.status),
            graph=self.graph,
            tag=self.tag,
            metadata=dict(self.metadata or {}),
        )
        object.__setattr__(self, "where", where)

    @property
    def columns(self) -> tuple[str, ...]:
        """Channels that have a column of their own."""
        return tuple(dict.fromkeys(self.channels or ())) if self.kind == "checkpoints" else ()

    def takes(self, run: int, at: float) -> bool:
        """Whether a checkpoint's rows are wanted."""
        return (
            (self.runs is None or run in self.runs)
            and (self.since is None or at >= self.since.timestamp())
            and (self.until is None or at < self.until.timestamp())
        )
