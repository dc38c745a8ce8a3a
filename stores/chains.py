"""Which rows make up a channel's value, and which rows of a history the checkpoints that are kept still need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from .segments import VALUES, Kind, Row

Key = tuple[str, int]
"""A channel and a version of it."""


def by_version(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """Rows that hold values, by channel and version, in the order written.

    Several writers of one step leave a delta each. Where a whole value is there too, what came before it is only a
    record of who wrote what; what follows it (in a commit of several steps) changes it.
    """
    found: dict[Key, list[Row]] = {}
    for row in rows:
        if row.kind in VALUES and not row.namespace:
            key = (row.channel, row.version)
            if row.kind == Kind.DELTA:
                found.setdefault(key, []).append(row)
            else:
                found[key] = [row]
    return found


def base_of(group: Sequence[Row]) -> int:
    """The version that a group of one version's rows changes; 0 where it stands alone."""
    first = group[0]
    return first.prev if first.kind == Kind.DELTA else 0


class Sieve:
    """Goes through a thread's segments from the newest to the oldest and tells which of their rows stay.

    Kept are the commits from `floor` on as they are; below it the checkpoints in `safe`, with what belongs to their
    tasks, and every row that the value of a channel at some kept checkpoint is made of. As a delta only refers to older
    versions, one pass does: what is needed of the older segments is known when they are reached.
    """

    def __init__(self, floor: int, safe: Collection[int], manifest: Callable[[Row], Mapping[str, int]]) -> None:
        self._floor = floor
        self._safe = frozenset(safe)
        self._manifest = manifest
        self._needed: dict[Key, int] = {}

    @property
    def needed(self) -> Mapping[Key, int]:
        """What the segments seen so far need of older ones: a checkpoint that needs it, by channel and version."""
        return self._needed

    def require(self, needed: Mapping[Key, int]) -> None:
        """Others need these too, such as forks of the thread."""
        self._needed.update(needed)

    def sift(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of the next older segment that stay."""
        for row in rows:
            if row.kind == Kind.CHECKPOINT and self.keeps(row.checkpoint):
                for key in self._manifest(row).items():
                    if key[1] > 0:
                        self._needed.setdefault(key, row.checkpoint)
        useful = self._follow(by_version(rows))
        return [row for row in rows if row.checkpoint >= self._floor or row.namespace or self._stays(row, useful)]

    def keeps(self, checkpoint: int) -> bool:
        """Whether a checkpoint is kept."""
        return checkpoint >= self._floor or checkpoint in self._safe

    def _stays(self, row: Row, useful: set[int]) -> bool:
        # What is known of a task carries the number of the checkpoint that it belongs to as its version.
        return id(row) in useful if row.kind in VALUES else row.version in self._safe

    def _follow(self, groups: Mapping[Key, list[Row]]) -> set[int]:
        """Take what is needed off the list and put what it leads to on it; the identities of the rows taken."""
        useful: set[int] = set()
        for key in sorted(groups, key=lambda key: -key[1]):
            checkpoint = self._needed.pop(key, None)
            if checkpoint is not None:
                useful.update(map(id, groups[key]))
                base = base_of(groups[key])
                if base:
                    self._needed.setdefault((key[0], base), checkpoint)
        return useful
