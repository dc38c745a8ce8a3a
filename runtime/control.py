"""The control record of a checkpoint: all that is needed to go on from it, apart from the channels' values."""

from __future__ import annotations

from typing import Any

import msgspec

from ..stores.errors import Corrupt, NewerFormat
from .measures import Measures

FORMAT = 1
RUN_CHANNEL = "__run__"
"""Reserved channel: the options of the run in progress (configurable values, limits), so that forks and recovery have
them; and among them, under `TYPES`, the types of the channels as it began."""
TYPES = "__types__"
"""See `retyping.types_of`. Absent in what older versions wrote."""


class Next(msgspec.Struct, frozen=True, array_like=True):
    """A task that a checkpoint leaves to be run."""

    path: str
    """Unique in its step: the node's name, or `node#i` for the i-th `Send` of the step before."""
    node: str
    send: bool = False
    """Whether its input is a `Send` argument (kept in a row of kind SEND) rather than the state."""


class Control(msgspec.Struct, frozen=True, array_like=True):
    """One checkpoint."""

    format: int
    step: int
    """Counts the thread's supersteps over all its runs; an input or an update is a step of its own."""
    since: int
    """Step at which the run's `recursion_limit` began to count (its input, or its last resume)."""
    run: int
    source: str
    """input, loop, update or fork."""
    parent: int
    """Seq of the checkpoint it was made from; 0 for the first."""
    at: float
    """Unix seconds."""
    version: str
    """The graph's version."""
    next: tuple[Next, ...]
    joins: dict[str, tuple[str, ...]]
    """For each barrier edge that waits: the starts that have finished."""
    manifest: dict[str, int]
    """For each channel that has a value: the seq at which it got it."""
    done: tuple[tuple[str, str], ...]
    """(path, node) of the tasks whose results were merged."""
    branch: int = 0
    """Seq of the checkpoint with which a fork within the thread began; 0 before the first."""
    born: int | None = None
    """Step of the checkpoint that made `next` the tasks to run; None if it was this one (or an older version's)."""
    lag: int = 0
    """Of the thread's steps those that ran no task and took none's place: updates that left the tasks as they were.
    `step - lag` is the same in a re-run as in its original, whatever either was told from outside."""
    measures: Measures = {}
    """What nodes have measured so far, by name."""

    @property
    def place(self) -> int:
        """See `lag`."""
        return self.step - self.lag


# Bytes that are not ours also fail as text (a ValueError) and by their depth.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Control)
_FORMAT_DECODER: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[Any])


def encode_control(control: Control) -> bytes:
    """The record as bytes (msgpack)."""
    return _ENCODER.encode(control)


def decode_control(payload: bytes, where: str) -> Control:
    """The record that `payload` holds; `where` names the thread and checkpoint in errors.

    Raises `Corrupt`; `NewerFormat` for a record that a later version wrote.
    """
    try:
        control = _DECODER.decode(payload)
        found: int | None = control.format
    except _MALFORMED as error:
        found = _format_of(payload)
        if found is None or found <= FORMAT:
            raise Corrupt(f"{where}: its control record does not decode: {error}") from None
    if found is not None and found > FORMAT:
        raise NewerFormat(
            f"{where} was written in checkpoint format {found}; this Perdure reads up to {FORMAT}: upgrade it"
        )
    return control


def _format_of(payload: bytes) -> int | None:
    try:
        fields = _FORMAT_DECODER.decode(payload)
    except _MALFORMED:
        return None
    return fields[0] if fields and isinstance(fields[0], int) else None
