"""What makes a fork the re-run of its original: a mark in its row, given when it is made and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

import msgspec

from ..stores.records import BATCH, BATCH_MARK, RERUN, ThreadRecord
from .errors import InputError
from .snapshots import checkpoint_id


class Effects(StrEnum):
    """What becomes of the effects of a thread that is run again."""

    RECORDED = "recorded"
    """Results of `@task`, answers, signals and times that the original recorded are given again. What it has not
    recorded stops the run: nothing is sent, paid, awaited or slept twice."""
    LIVE = "live"
    """Everything is done anew."""


class _Mark(msgspec.Struct):
    """What `Rerun.to_data` makes."""

    thread: str
    made_at: float
    seq: int
    run: int
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """Which thread is run again, and from where."""

    thread_id: str
    seq: int
    """The checkpoint that it goes on from."""
    run: int
    """The run that it goes on with. Later ones have no original."""
    effects: Effects
    made_at: float
    """When the original was made (Unix seconds): another thread may have its id one day."""

    @property
    def strict(self) -> bool:
        """Whether nothing is done that the original did not record."""
        return self.effects is Effects.RECORDED

    @property
    def checkpoint_id(self) -> str:
        """Id of the checkpoint that it goes on from."""
        return checkpoint_id(self.seq)

    def to_data(self) -> dict[str, Any]:
        """The mark, as it is kept under `RERUN` in the thread's metadata (JSON)."""
        return {
            "thread": self.thread_id,
            "made_at": self.made_at,
            "seq": self.seq,
            "run": self.run,
            "recorded": self.strict,
        }

    @classmethod
    def of(cls, record: ThreadRecord) -> Self | None:
        """What a thread re-runs; None if it is no re-run, or has a mark that `to_data` never made."""
        try:
            mark = msgspec.convert(record.metadata.get(RERUN), _Mark)
        except msgspec.ValidationError:
            return None
        if not record.head:
            return None
        effects = Effects.RECORDED if mark.recorded else Effects.LIVE
        return cls(thread_id=mark.thread, seq=mark.seq, run=mark.run, effects=effects, made_at=mark.made_at)


class BatchMark(NamedTuple):
    """Tells the threads of a batch from all others, also from those of an earlier batch that had its id."""

    batch_id: str
    mark: str
    """Drawn anew for each batch."""

    def to_data(self) -> dict[str, Any]:
        """What the metadata of its threads holds (JSON)."""
        return {BATCH: self.batch_id, BATCH_MARK: self.mark}

    def on(self, record: ThreadRecord) -> bool:
        """Whether the batch has begun this thread."""
        return record.metadata.get(BATCH) == self.batch_id and record.metadata.get(BATCH_MARK, "") == self.mark


def read_effects(effects: str) -> Effects:
    """The effects that a caller names. Raises `InputError`."""
    try:
        return Effects(effects)
    except ValueError:
        known = ", ".join(f'"{one.value}"' for one in Effects)
        raise InputError(f"effects={effects!r} is unknown; choose one of {known}") from None


def new_rerun(original: ThreadRecord, seq: int, run: int, effects: Effects) -> Rerun:
    """The re-run of a thread from its checkpoint `seq`, which belongs to `run`. Raises `InputError` where what followed
    that was recorded by another thread."""
    inherited = original.origin is not None and seq <= original.origin.seq
    if inherited and effects is Effects.RECORDED:
        assert original.origin is not None, "only a fork inherits"
        raise InputError(
            f"thread {original.thread_id!r}: checkpoint {checkpoint_id(seq)} is not its own: it was forked from thread "
            f"{original.origin.thread_id!r} at {checkpoint_id(original.origin.seq)}. Re-run that thread from there, "
            "this one from a later checkpoint, or with effects='live'"
        )
    return Rerun(thread_id=original.thread_id, seq=seq, run=run, effects=effects, made_at=original.created_at)
