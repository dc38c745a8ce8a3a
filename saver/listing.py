"""Lists a place's checkpoints by id, the highest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .places import Place, row_of
from .reader import Found, Reader, TaskWrite
from .sweep import sweep

Listed = tuple[Found, list[TaskWrite]]


class Listing:
    """What to list: checkpoints older than `before` whose metadata has these values."""

    def __init__(self, reader: Reader, *, before: str | None, equal: Mapping[str, Any]) -> None:
        self._reader = reader
        self._before = before
        self._equal = equal

    def of(self, place: Place, only: str | None = None) -> Iterator[Listed]:
        """The checkpoints of a place, or the one that is asked for."""
        if only is not None:
            asked = self._reader.asked_for(place, only)
            if asked is not None and self._wanted(asked[0]):
                yield asked[0], self._reader.writes(*asked)
            return
        row = row_of(self._reader.store, place)
        if row is None or not row.seq:
            return
        swept = sweep(self._reader, place, row.seq)
        if self._reader.tail(place, row.seq).ordered:
            yield from self._each_once(swept)
            return
        # Ids that did not come in order (several machines' clocks) have to be known all before the first is told.
        known: dict[str, Found] = {}
        for found, _ in swept:
            known.setdefault(found.record.id, found)
        for checkpoint_id in sorted(known, reverse=True):
            found = known[checkpoint_id]
            if self._wanted(found):
                yield found, self._reader.writes(found, row.seq)

    def _each_once(self, swept: Iterator[Listed]) -> Iterator[Listed]:
        last = ""
        for found, writes in swept:
            # What was put again lies side by side here, the one that counts first.
            if found.record.id != last and self._wanted(found):
                yield found, writes
            last = found.record.id

    def _wanted(self, found: Found) -> bool:
        if found.record.hidden or (self._before is not None and found.record.id >= self._before):
            return False
        if not self._equal:
            return True
        metadata = self._reader.metadata(found)
        return all(metadata.get(key) == value for key, value in self._equal.items())
