"""What a run of the audit has done so far, read from the two places that cannot be wrong about it: the store, which has
what was committed, and the journal, in which every attempt at a file leaves a line before it begins."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from perdure import CheckpointStore
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
    """A line of the journal: a process began with a file."""

    path: str
    pid: int
    at: float
    """Unix seconds."""


class FanOut:
    """The tasks of a thread's fan-out. `look` reads what was committed since the last look, and nothing twice."""

    def __init__(self, store: CheckpointStore, thread_id: str) -> None:
        self.files: dict[str, str] = {}
        """The file of each task, by the task's path."""
        self.results: dict[str, Stored] = {}
        """Results by the task's path. Those that were ready together with the step's end have no row of their own: they
        went into the checkpoint that ended the step."""
        self.merged: Stored | None = None
        """The checkpoint after the fan-out."""
        self.bytes = 0
        """Size of the payloads of all of the thread's own commits so far."""
        self._store = store
        self._thread_id = thread_id
        self._began = 0
        self._seen = 0

    def look(self) -> int:
        """Read on; returns how many tasks are durable."""
        for segment in reversed(self._store.segments(self._thread_id, first=self._seen + 1)):
            self._take(segment)
        return len(self.files) if self.merged else len(self.results)

    def _take(self, segment: Segment) -> None:
        self._seen = segment.last
        now = Stored(segment.epoch, time.time())
        for row in segment.rows:
            self.bytes += len(row.payload)
            if row.kind == Kind.SEND and row.channel.startswith(f"{ANALYSE}#"):
                self._began = row.checkpoint
                self.files[row.channel] = graph.codec.decode(row.encoding, row.payload)
            elif row.kind == Kind.RESULT and row.channel in self.files:
                self.results[row.channel] = now
            elif row.kind == Kind.CHECKPOINT and 0 < self._began < row.checkpoint:
                self.merged = self.merged or now


def attempts(journal: Path) -> list[Attempt]:
    """The lines of a journal, oldest first."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return sorted((Attempt(**json.loads(line)) for line in lines), key=lambda attempt: attempt.at)


def progress_bar(console: Console) -> Progress:
    """A bar that counts the tasks whose results are durable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
