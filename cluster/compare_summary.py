"""The sums of a comparison: of a batch of any size, as its rows go by."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from .comparing import in_common

_POINTS = 1000
"""Pairs that are kept of each number, for plots: a random choice, the same each time."""
_ROWS = 100
"""Threads that are kept as examples."""
_MEASURES = 100
"""Names of what nodes measured that are shown."""
_REASONS = 1000
"""Reasons that are counted each by itself."""


@dataclass(slots=True)
class Pairs:
    """A number that was compared."""

    label: str
    old: str
    """Its columns."""
    new: str
    count: int = 0
    """Threads of which both sides are known."""
    lower: int = 0
    higher: int = 0
    """In how many of them the new one is lower, or higher."""
    old_sum: float = 0.0
    new_sum: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    """(old, new) of at most 1,000 threads."""
    _random: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    @property
    def old_mean(self) -> float | None:
        """The mean of the originals; None without any."""
        return self.old_sum / self.count if self.count else None

    @property
    def new_mean(self) -> float | None:
        """The mean of the re-runs; None without any."""
        return self.new_sum / self.count if self.count else None

    def add(self, old: float | None, new: float | None) -> None:
        """Take a thread in. What is unknown or not finite is left out."""
        if old is None or new is None or not (math.isfinite(old) and math.isfinite(new)):
            return
        self.count += 1
        self.lower += new < old
        self.higher += new > old
        self.old_sum += old
        self.new_sum += new
        if len(self.points) < _POINTS:
            self.points.append((old, new))
        elif (place := self._random.randrange(self.count)) < _POINTS:
            self.points[place] = (old, new)


class Comparison:
    """What a batch came to beside its originals, in sums."""

    def __init__(self, batch_id: str, measures: tuple[str, ...] = ()) -> None:
        self.batch_id = batch_id
        self.rows = 0
        self.same = 0
        """Threads with the same status and final state."""
        self.differing = 0
        self.problems = 0
        """Threads with nothing to compare."""
        self.statuses: Counter[tuple[str, str]] = Counter()
        """How many went from which status to which."""
        self.reasons: Counter[tuple[str, str]] = Counter()
        """How many have which outcome for which reason: those that have not succeeded, were not begun, or could not be
        compared. In a reason that names the thread, its original or the checkpoint these are left out."""
        self.keys: Counter[str] = Counter()
        """In how many threads each key of the state differs."""
        self.spent = [Pairs("steps", "old_steps", "new_steps"), Pairs("seconds", "old_seconds", "new_seconds")]
        self._asked = {name: Pairs(name, f"old.{name}", f"new.{name}") for name in measures}
        self._measured: dict[str, Pairs] = {}
        """What nodes of both threads measured, besides."""
        self.examples: list[dict[str, Any]] = []
        """The rows of the first hundred threads that differ, or could not be compared."""

    @property
    def measures(self) -> list[Pairs]:
        """The numbers that were asked for, and what nodes of both threads measured by `measure()`, of at most 100
        names."""
        return [*self._asked.values(), *self._measured.values()]

    @property
    def numbers(self) -> list[Pairs]:
        """Steps, seconds and measures."""
        return [*self.spent, *self.measures]

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row in."""
        self.rows += 1
        if row["problem"] is not None:
            self.problems += 1
        elif row["same"]:
            self.same += 1
        else:
            self.differing += 1
        if row["old_status"] is not None and row["new_status"] is not None:
            self.statuses[row["old_status"], row["new_status"]] += 1
        self.count_reason(row)
        self.keys.update(row["keys"] or ())
        for pairs in (*self.spent, *self._asked.values()):
            pairs.add(row[pairs.old], row[pairs.new])
        self._add_measures(dict(row["old_measures"] or ()), dict(row["new_measures"] or ()))
        if not row["same"] and len(self.examples) < _ROWS:
            self.examples.append(dict(row))

    def _add_measures(self, old: Mapping[str, float], new: Mapping[str, float]) -> None:
        for name in new:
            if name not in old or name in self._asked:
                continue
            if name not in self._measured and len(self._measured) < _MEASURES:
                self._measured[name] = Pairs(name, f"old.{name}", f"new.{name}")
            if name in self._measured:
                self._measured[name].add(old[name], new[name])

    def count_reason(self, row: Mapping[str, Any]) -> None:
        """Take in why a row's item has not succeeded, or could not be compared, if there is a reason."""
        reason = row["reason"] or row["problem"]
        if reason is None:
            return
        told = (row["outcome"] or NO_OUTCOME, in_common(row, reason))
        if told not in self.reasons and len(self.reasons) >= _REASONS:
            told = (told[0], OTHERS)
        self.reasons[told] += 1


NO_OUTCOME = "not ended"
OTHERS = "(other reasons)"


def summed(batches: pa.RecordBatchReader, into: Comparison) -> Iterator[pa.RecordBatch]:
    """The batches, each once it was taken into the sums."""
    for batch in batches:
        for row in batch.to_pylist():
            into.add(row)
        yield batch
