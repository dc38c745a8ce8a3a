"""The rows that an owned thread's newest checkpoint is made of, so that whoever drives it next need not read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ..stores.history import COMMIT, KnownRows, tells
from ..stores.segments import Kind, Row
from .draft import Draft


class KeptRows:
    """Follows what an owner reads and seals, to hand it to a cache. Beyond `most` bytes it keeps nothing: such a thread
    is read anew."""

    def __init__(self, known: KnownRows, most: int) -> None:
        self._known = known
        self._most = most
        self._bytes = 0
        self._full = False
        self._channels: dict[str, dict[int, Sequence[Row]]] = {}
        """For each channel, by version: the rows from its last whole value on."""
        self._commits: dict[int, Sequence[Row]] = {}
        """What else the commits hold, from the newest checkpoint on."""

    def start(self, channels: Mapping[str, Sequence[Row]]) -> None:
        """Take the rows that recovery read."""
        for name, rows in channels.items():
            for version, group in groupby(rows, key=lambda row: row.version):
                self._add(name, version, tuple(group))

    def add(self, draft: Draft) -> None:
        """Take a sealed draft; one that was taken back and sealed again takes its own place."""
        if self._full:
            return
        if draft.checkpoint:
            self._commits.clear()
        self._commits[draft.seq] = [row for row in draft.rows if tells(row)]
        for name, rows in draft.values.items():
            self._add(name, draft.seq, rows)

    def give(self) -> None:
        """Hand everything over, once it is durable."""
        for name, versions in self._channels.items():
            for version, rows in versions.items():
                self._known.put((name, version), rows)
        for seq, rows in self._commits.items():
            self._known.put((COMMIT, seq), rows)

    def _add(self, name: str, version: int, rows: Sequence[Row]) -> None:
        versions = self._channels.setdefault(name, {})
        whole = [place for place, row in enumerate(rows) if row.kind != Kind.DELTA]
        if whole:
            # What came before a whole value is no part of it.
            self._bytes -= sum(map(_size, versions.values()))
            versions.clear()
        kept = tuple(rows[whole[-1] :] if whole else rows)
        self._bytes += _size(kept) - _size(versions.get(version, ()))
        versions[version] = kept
        if self._bytes > self._most:
            self._full = True
            self._channels.clear()
            self._commits.clear()


def _size(rows: Sequence[Row]) -> int:
    return sum(len(row.payload) for row in rows)
