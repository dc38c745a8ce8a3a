"""What a run of the audit has done so far, read from the two places that cannot be wrong about it: the store, which has
what was committed, and the journal, in which every attempt at a file leaves a line before it begins."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from perdure import CheckpointStore, UnknownThread
from perdure.examples.audit_graph import ANALYSE, graph
from perdure.stores.records import Segment
from perdure.stores.segments import Kind


class Stored(NamedTuple):
    """A task's result in the store."""

    epoch: int
    """Of the owner that committed it."""
    seen: float
    """Unix seconds at which it was found there."""


class Attempt(NamedTuple):
    """A line of the journal: some process began with a file."""

    path: str
    pid: int
    at: float
    """Unix seconds."""


@dataclass
class FanOut:
    """The tasks of one thread's fan-out. `look` reads what was committed since the last look, and nothing twice."""

    store: CheckpointStore
    thread_id: str
    files: dict[str, str] = field(default_factory=dict)
    """The file of each task, by the task's path."""
    results: dict[str, Stored] = field(default_factory=dict)
    """Results of single tasks, by the task's path. Those that were ready at the step's end have no row of their own:
    they went into the step's checkpoint."""
    merged: int = 0
    """Epoch of the owner that committed the checkpoint after the fan-out; 0 before that."""
    bytes: int = 0
    """Size of the payloads of all commits read."""
    _seen: int = 0

    def look(self) -> int:
        """Read on; returns how many tasks are durable."""
        try:
            segments = self.store.segments(self.thread_id, first=self._seen + 1)
        except UnknownThread:
            return 0
        for segment in reversed(segments):
            self._take(segment)
        return len(self.files) if self.merged else len(self.results)

    def _take(self, segment: Segment) -> None:
        self._seen = segment.last
        for row in segment.rows:
            self.bytes += len(row.payload)
            if row.kind == Kind.SEND:
                self.files[row.channel] = graph.codec.decode(row.encoding, row.payload)
            elif row.kind == Kind.RESULT and row.channel in self.files:
                self.results[row.channel] = Stored(segment.epoch, time.time())
            elif row.kind == Kind.CHECKPOINT and self.files and not self.merged and row.checkpoint > self._fanned_out:
                self.merged = segment.epoch

    _fanned_out: int = 0


def attempts(journal: Path) -> list[Attempt]:
    """The lines of a journal, oldest first."""
    try:
        lines = journal.read_text().splitlines()
    except FileNotFoundError:
        return []
    found = (json.loads(line) for line in lines)
    return sorted((Attempt(one["path"], one["pid"], one["at"]) for one in found), key=lambda one: one.at)


def same_task(path: str) -> bool:
    """Whether a task's path is that of the analysis of a file."""
    return path.partition("#")[0] == ANALYSE
