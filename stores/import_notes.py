"""What an import notes in the store's settings, so that it is known again: by itself when it broke off, and by others
who run the same one at the same time.

It begins with one note, and makes another when all of its threads are there, before it lets the first of them go. From
then on nobody brings any in: one that is not there any more had been let go, and ended or was deleted since.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from .base import CheckpointStore


@dataclass(frozen=True, slots=True)
class Stage:
    """How far an import has come."""

    attempt: str = ""
    """Set from its beginning to its end, however often it breaks off and goes on meanwhile."""
    whole: bool = False
    """All of its threads are there; they are being let go."""
    skipped: frozenset[str] = frozenset()
    """Threads that were not brought in, by their ids in the store."""

    @property
    def begun(self) -> bool:
        """Whether it has begun, and nobody has brought it to its end."""
        return bool(self.attempt)


class ImportNotes:
    """The notes of one import, by its key."""

    def __init__(self, store: CheckpointStore, key: str) -> None:
        self._store = store
        self._begun, self._whole = f"import:{key}", f"import:{key}:whole"

    def read(self) -> Stage:
        """How far it has come."""
        note = self._store.setting(self._begun)
        if note is None:
            return Stage()
        whole = self._store.setting(self._whole)
        return Stage(note["attempt"], whole == note["attempt"], frozenset(note["skipped"]))

    def begin(self, file: str, at: float, skipped: Sequence[str]) -> None:
        """It begins, or goes on before all was there; without the threads that are skipped."""
        attempt = self.read().attempt or secrets.token_hex(8)
        self._store.put_setting(self._begun, {"attempt": attempt, "file": file, "at": at, "skipped": list(skipped)})

    def all_there(self) -> None:
        """All of its threads are there, unless another one has already come to its end."""
        stage = self.read()
        if stage.begun:
            self._store.put_setting(self._whole, stage.attempt)

    def end(self) -> None:
        """All of its threads were let go. Who breaks off between the two leaves one that has still to be ended; a note
        that another one, at this moment, leaves behind it is of an attempt that is over."""
        self._store.put_setting(self._whole, None)
        self._store.put_setting(self._begun, None)
