"""The rows that an owned thread's newest checkpoint is made of, so that whoever drives it next need not read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..stores.columns import size_of
from ..stores.lineage import KnownRows
from ..stores.segment_reading import COMMIT, tells
from ..stores.segments import Kind, Row
from ..stores.strands import Chain, chain_of
from .draft import Draft

_MANY = 128
"""Drafts that are held before they are looked through."""
_LARGE = 4 << 20
"""Bytes of drafts that are held before they are looked through."""


class KeptRows:
    """Follows what an owner reads and seals, to hand it to a cache. Beyond `most` bytes it keeps nothing: such a thread
    is read anew."""

    def __init__(self, known: KnownRows, most: int) -> None:
        self._known = known
        self._most = most
        self._channels: dict[str, list[Sequence[Row]]] = {}
        """For each channel the rows from its last whole value on, oldest first, in some pieces."""
        self._sizes: dict[str, int] = {}
        self._commits: dict[int, list[Row]] = {}
        """What else the commits hold, from the newest checkpoint on."""
        # Most of what is written is soon replaced, so drafts are looked through many at a time, newest first.
        self._drafts: list[Draft] = []
        self._bytes = 0

    def start(self, channels: Mapping[str, Sequence[Row]]) -> None:
        """Take the rows that recovery read."""
        for name, rows in channels.items():
            self._put(name, rows)
        self._bound()

    def add(self, draft: Draft) -> None:
        """Take a sealed draft. One that was taken back and is sealed again comes twice."""
        if self._most <= 0:
            return
        self._drafts.append(draft)
        self._bytes += draft.size
        if len(self._drafts) >= _MANY or self._bytes > min(_LARGE, self._most):
            self._look_through()

    def give(self) -> None:
        """Hand everything over, once it is durable."""
        self._look_through()
        for name, pieces in self._channels.items():
            for rows in pieces:
                self._known.put((name, _last(rows)), rows)
        for seq, rows in self._commits.items():
            self._known.put((COMMIT, seq), rows)

    def _look_through(self) -> None:
        newest: dict[str, list[Sequence[Row]]] = {}
        wanted: dict[str, int] = {}
        commits: dict[int, list[Row]] = {}
        seen = -1
        for draft in reversed(self._drafts):
            if draft.seq == seen:
                continue
            seen = draft.seq
            for name, rows in draft.values.items():
                # Others are of a branch that was left.
                if wanted.get(name, draft.seq) == draft.seq:
                    group = _from_whole(rows)
                    newest.setdefault(name, []).append(group)
                    wanted[name] = _base(group)
            if not self._headed(commits):
                commits[draft.seq] = [row for row in draft.rows if tells(row)]
        self._commits = commits if self._headed(commits) else {**self._commits, **commits}
        for name, groups in newest.items():
            self._put(name, [row for group in reversed(groups) for row in group])
        self._drafts, self._bytes = [], 0
        self._bound()

    def _put(self, name: str, rows: Sequence[Row]) -> None:
        older, base = self._channels.get(name, []), _base(rows)
        while older and _last(older[-1]) > base:
            last = chain_of(older.pop()).upto(base)
            if last is not None:
                older.append(last)
        if older and _last(older[-1]) == base:
            # Pieces of about one size are put together, so that there are few.
            while older and len(older[-1]) <= 2 * len(rows):
                rows = (*older.pop(), *rows)
            older.append(rows)
        else:
            # Either a whole value, or the rest of it has to be looked for elsewhere.
            self._channels[name] = older = [rows]
        self._sizes[name] = sum(map(size_of, older))

    def _headed(self, commits: Mapping[int, Sequence[Row]]) -> bool:
        """Whether these reach back to a checkpoint."""
        return any(row.kind == Kind.CHECKPOINT for row in commits[min(commits)]) if commits else False

    def _bound(self) -> None:
        told = sum(len(row.payload) for rows in self._commits.values() for row in rows)
        if told + sum(self._sizes.values()) > self._most:
            self._most = 0
            self._channels, self._sizes, self._commits = {}, {}, {}


def _base(rows: Sequence[Row]) -> int:
    """The version that these rows change; 0 if they hold a whole value."""
    if isinstance(rows, Chain):
        return rows.base
    return rows[0].prev if rows[0].kind == Kind.DELTA else 0


def _last(rows: Sequence[Row]) -> int:
    """The version that these rows make up."""
    return rows.last if isinstance(rows, Chain) else rows[-1].version


def _from_whole(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows from the last whole value on: what came before it is no part of the value."""
    for place in range(len(rows) - 1, 0, -1):
        if rows[place].kind != Kind.DELTA:
            return rows[place:]
    return rows
