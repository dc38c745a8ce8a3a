"""Channels: the keys of a graph's state, and how the updates of one step become one value.

A channel decides nothing about time or storage. It says what changed: a whole value, or a closed operation (`Delta`)
recorded after the reducer ran, so that a commit costs what changed and not what the state holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from ..stores.deltas import Delta, Op, append_delta
from ..stores.segments import Kind
from .annotations import describe
from .errors import InvalidUpdateError, node_of


class Missing(Enum):
    """Type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""Stands for a channel without a value. Never stored, never shown to a node."""

Reducer: TypeAlias = Callable[[Any, Any], Any]
Write: TypeAlias = tuple[str, Any]
"""(path of the task that wrote, its update)"""


class Change(NamedTuple):
    """One row's worth of change to a channel."""

    kind: Kind
    """VALUE or DELTA."""
    value: Any
    """The whole value, or a `stores.deltas.Delta`."""
    writer: str
    """Path of the task that wrote it; empty where several did."""


class Merge(NamedTuple):
    """What a step's updates make of a channel."""

    value: Any
    changes: tuple[Change, ...]
    tells_writes: bool
    """Whether `Channel.updates` reads every writer's own update off the changes."""


class Fold(NamedTuple):
    """A reducer whose effect is known in closed form."""

    apply: Callable[[Any, Sequence[Any]], tuple[Any, list[Delta]] | None]
    """Old value and updates in order -> new value and one delta per update; None where it does not know the types.
    Changes neither the old value nor the updates."""
    grows: bool
    """Its deltas only ever add to the value, so together they are never larger than it."""


class Channel(ABC):
    """One key of the state. Immutable."""

    reducer: Reducer | None = None
    grows: bool = False
    """Its deltas together are never larger than its value: it needs no snapshots."""

    def __init__(self, name: str, annotation: Any, default: Callable[[], Any] | None = None) -> None:
        self.name = name
        self.annotation = annotation
        self.default = default
        """Makes the default that the state class gives the key; None if it gives none."""

    @property
    def signature(self) -> str:
        """Its type and reducer as text, the same in every process: what a stored value was written under."""
        return describe(self.annotation)

    @abstractmethod
    def initial(self) -> Any:
        """Its value before the first write, made anew; MISSING if it has none."""

    @abstractmethod
    def merge(self, old: Any, writes: Sequence[Write]) -> Merge:
        """Apply one step's writes, at least one, in their order, to the old value (MISSING if it was never written).

        Changes neither. Raises `InvalidUpdateError` naming the channel and the nodes.
        """

    @abstractmethod
    def updates(self, changes: Sequence[Change]) -> dict[str, Any]:
        """Each writer's update, read off the changes of a merge that had `tells_writes`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {self.signature})"


class PlainChannel(Channel):
    """A key without a reducer: it holds the last value, and takes one write a step."""

    def initial(self) -> Any:
        return MISSING if self.default is None else self.default()

    def merge(self, old: Any, writes: Sequence[Write]) -> Merge:
        if len(writes) != 1:
            raise self._conflict(writes)
        writer, update = writes[0]
        return Merge(update, (Change(Kind.VALUE, update, writer),), True)

    def updates(self, changes: Sequence[Change]) -> dict[str, Any]:
        return {change.writer: change.value for change in changes}

    def _conflict(self, writes: Sequence[Write]) -> InvalidUpdateError:
        paths = [writer for writer, _ in writes]
        nodes = tuple(dict.fromkeys(map(node_of, paths)))
        who = f"nodes {' and '.join(map(repr, nodes))}" if len(nodes) > 1 else f"node {nodes[0]!r}, {len(paths)} times,"
        return InvalidUpdateError(
            f"key {self.name!r} was written by {who} in one step, but it can take one value a step; let only one of "
            f"them write it, or give it a reducer: {self.name}: Annotated[{self.signature}, reducer], e.g. "
            "operator.add for a list",
            channel=self.name,
            nodes=nodes,
        )


class ReducerChannel(Channel):
    """A key with a reducer (old, update) -> new, applied once for every write."""

    reducer: Reducer

    def __init__(
        self,
        name: str,
        annotation: Any,
        default: Callable[[], Any] | None = None,
        *,
        reducer: Reducer,
        empty: Callable[[], Any] | None = None,
        fold: Fold | None = None,
    ) -> None:
        super().__init__(name, annotation, default)
        self.reducer = reducer
        self.empty = empty
        """Makes the empty value of its type, from which it starts without a default; None if the type has none."""
        self.fold = fold
        self.grows = fold is not None and fold.grows

    @property
    def signature(self) -> str:
        return f"{describe(self.annotation)} by {_reducer_name(self.reducer)}"

    def initial(self) -> Any:
        start = self.default or self.empty
        return MISSING if start is None else start()

    def merge(self, old: Any, writes: Sequence[Write]) -> Merge:
        start = self.initial() if old is MISSING else old
        folded = self._folded(start, writes)
        if folded is None:
            return self._whole(start, writes)
        value, deltas = folded
        told = len(writes) == 1 or len({writer for writer, _ in writes}) == len(writes)
        told = told and all(delta.op in _TELLING for delta in deltas)
        fresh = old is MISSING or not start
        if fresh and (len(writes) == 1 or not told):
            # A delta applies to what is stored, and neither a default nor an empty start need be. Nor would it save
            # anything.
            alone = writes[0][0] if len(writes) == 1 else ""
            return Merge(value, (Change(Kind.VALUE, value, alone),), told and not start)
        changes = [Change(Kind.DELTA, delta, write[0]) for delta, write in zip(deltas, writes, strict=True)]
        if fresh:
            # Several writers: the start and each one's delta are half of the value and each one's update.
            changes.insert(0, Change(Kind.VALUE, start, ""))
        return Merge(value, tuple(changes), told)

    def updates(self, changes: Sequence[Change]) -> dict[str, Any]:
        told = [change for change in changes if change.writer]
        return {
            change.writer: update_of(change.value) if change.kind == Kind.DELTA else change.value for change in told
        }

    def _folded(self, start: Any, writes: Sequence[Write]) -> tuple[Any, list[Delta]] | None:
        if self.fold is None or start is MISSING:
            return None
        try:
            return self.fold.apply(start, [update for _, update in writes])
        except Exception as error:
            raise self._failed(writes, error) from error

    def _whole(self, old: Any, writes: Sequence[Write]) -> Merge:
        alone = writes[0][0] if len(writes) == 1 else ""
        if old is MISSING:  # no empty value to start from: the first update is the value
            value, rest = writes[0][1], writes[1:]
            if not rest:
                return Merge(value, (Change(Kind.VALUE, value, alone),), True)
        else:
            value, rest = old, writes
        # Many reducers change the old value in place; it still belongs to the checkpoint before.
        before = value
        value = copy(value) if type(value) in _COPIED else value
        for write in rest:
            try:
                value = self.reducer(value, write[1])
            except Exception as error:
                raise self._failed([write], error) from error
        delta = _safe_append(before, value) if old is not MISSING else None
        change = Change(Kind.VALUE, value, alone) if delta is None else Change(Kind.DELTA, delta, alone)
        return Merge(value, (change,), False)

    def _failed(self, writes: Sequence[Write], error: Exception) -> InvalidUpdateError:
        nodes = tuple(dict.fromkeys(node_of(writer) for writer, _ in writes))
        given = ", ".join(dict.fromkeys(type(update).__name__ for _, update in writes))
        return InvalidUpdateError(
            f"key {self.name!r} ({self.signature}): the reducer could not take the update ({given}) of node "
            f"{' or '.join(map(repr, nodes))}: {type(error).__name__}: {error}",
            channel=self.name,
            nodes=nodes,
        )


_COPIED = frozenset({list, dict, set, bytearray})
_ATOMS = frozenset({str, bytes, int, float, bool, type(None)})
_TELLING = frozenset({Op.APPEND, Op.CONCAT, Op.UNION, Op.MERGE})
"""Operations whose operand is the update itself."""


def update_of(delta: Delta) -> Any:
    return delta.operand[0] if delta.op == Op.MERGE else delta.operand


def _safe_append(old: Any, new: Any) -> Delta | None:
    """What an unknown reducer appended, if that can be told: items that it might have changed in place cannot be
    compared with what they were, so only for items that cannot be changed."""
    delta = append_delta(old, new)
    return delta if delta is not None and all(type(item) in _ATOMS for item in old) else None


def _reducer_name(reducer: Reducer) -> str:
    return str(getattr(reducer, "__qualname__", None) or type(reducer).__qualname__)
