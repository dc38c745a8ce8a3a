"""Rows: what a commit is made of. A store keeps those of a commit as one segment (`segment_codec`), an Arrow record
batch of `SCHEMA`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import pyarrow as pa


class Kind(IntEnum):
    """What a row holds. Numbers are stored: never reuse one."""

    CHECKPOINT = 0
    """A checkpoint's control record (step, run, next tasks, versions of the channels)."""
    VALUE = 1
    """A channel's whole value."""
    DELTA = 2
    """A closed operation on the channel's value at version `prev`."""
    SNAPSHOT = 3
    """A channel's whole value, written where a delta would have done, so that reads stay short."""
    WRITE = 4
    """What a node returned for a channel, where the channel's own row does not tell it."""
    SEND = 5
    """The argument of a task that is still to run; `channel` is the task's path."""
    RESULT = 6
    """The result of one task of an unfinished step; `channel` is the task's path."""
    INTERRUPT = 7
    """The interrupts at which a task stopped; `channel` is the task's path."""
    ANSWER = 8
    """Answers that a task's interrupts were given; `channel` is the task's path. Written before there was CALL."""
    PASS = 9
    """A static breakpoint was passed."""
    OPTIONS = 10
    """Options of the run, where a resume changed them."""
    CALL = 11
    """A call of a task that has been answered; `channel` is the task's path."""
    WAIT = 12
    """The sleep, or the wait for a signal, at which a task stopped; `channel` is the task's path."""
    BEAT = 13
    """What a task said of its progress; `channel` is the task's path."""


VALUES = frozenset({Kind.VALUE, Kind.DELTA, Kind.SNAPSHOT})
"""Kinds of rows that a channel's value is made of."""


class Row(NamedTuple):
    """One row of a commit."""

    kind: int
    checkpoint: int
    """Seq of the commit that wrote it."""
    channel: str
    version: int
    """Seq at which the channel got this value; for other kinds, that of the checkpoint they belong to."""
    prev: int
    """For a delta: version of the value that it changes. Otherwise the channel's version before, 0 for none."""
    writer: str
    """Path of the task that wrote it, empty for the engine itself."""
    encoding: int
    """How the payload is encoded (codec.Encoding)."""
    payload: bytes
    namespace: str = ""
    """Empty for the root graph; subgraphs will have theirs."""


_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("thread", pa.utf8()),
    ("namespace", pa.utf8()),
    ("checkpoint", pa.int64()),
    ("channel", pa.utf8()),
    ("version", pa.int64()),
    ("prev", pa.int64()),
    ("kind", pa.uint8()),
    ("writer", pa.utf8()),
    ("encoding", pa.uint8()),
    ("payload", pa.binary()),
)
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS])
"""Columns of a segment. Part of formats 1 and 2."""
