"""What messages to a thread say, and how they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..stores.codec import Codec, Encoding
from ..stores.errors import Corrupt
from ..stores.records import RUN_KINDS, Message
from .options import RunOptions

INPUT = "input"
REPLACE = "replace"
"""An input that ends the run in progress and takes its place."""
INPUTS = RUN_KINDS
RESUME = "resume"
CANCEL = "cancel"
PAUSE = "pause"
UPDATE = "update"
RETRY = "retry"
BREAKPOINTS = "breakpoints"
WAKE = "wake"
"""The time has come for which a parked thread waits."""


@dataclass(frozen=True, slots=True)
class InputPayload:
    """A run's input."""

    input: Any
    options: RunOptions
    parent: int = 0
    """Checkpoint to start from; 0 for the head."""


@dataclass(frozen=True, slots=True)
class ResumePayload:
    """An answer, or none for a static breakpoint or a pause."""

    interrupt_id: str
    """Empty: pass the breakpoint, or end the pause."""
    answer: Any = None
    update: Any = None
    """A state update that comes with the answer (`Command(resume=..., update=...)`)."""
    options: dict[str, Any] | None = None
    """Options that the run goes on with (`RunOptions.to_data`); None: those it has."""
    step: bool = False
    """Stop again after the next step."""


@dataclass(frozen=True, slots=True)
class RetryPayload:
    """Run what failed again."""

    options: dict[str, Any] | None = None
    """As in `ResumePayload`."""


@dataclass(frozen=True, slots=True)
class UpdatePayload:
    """A state update from outside."""

    values: Any
    as_node: str | None
    parent: int = 0
    """Checkpoint to fork from within the thread; 0 for the head."""
    expected: int = 0
    """The head that it was meant to change; 0 for any."""
    options: dict[str, Any] | None = None
    """As in `ResumePayload`."""


@dataclass(frozen=True, slots=True)
class BreakpointsPayload:
    """Changes the breakpoints of the run in progress: first some are removed, then some are added."""

    add_before: Sequence[str] = ()
    """Names of nodes; `*` is all of them."""
    add_after: Sequence[str] = ()
    remove_before: Sequence[str] = ()
    remove_after: Sequence[str] = ()
    options: dict[str, Any] | None = None
    """Options that take the place of the run's (`RunOptions.to_data`), with its breakpoints."""


@dataclass(frozen=True, slots=True)
class SignalPayload:
    """What a signal brings."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class WakePayload:
    """The time by which a thread was found due."""

    now: float
    """Unix seconds, on the clock of whoever found it."""


@dataclass(frozen=True, slots=True)
class ReasonPayload:
    """Why somebody pauses or cancels."""

    reason: str = ""


def pack(codec: Codec, *fields: Any) -> bytes:
    """Message payload of these fields. Raises `Unencodable`."""
    encoding, payload = codec.encode(list(fields))
    assert encoding == Encoding.MSGPACK
    return payload


def pack_input(codec: Codec, payload: InputPayload) -> bytes:
    """Payload of an input message. Raises `Unencodable`."""
    start = (payload.parent,) if payload.parent else ()
    return pack(codec, payload.input, payload.options.to_data(), *start)


def unpack(codec: Codec, message: Message) -> list[Any]:
    """The fields of a message. Raises `Corrupt`, `DisallowedType`."""
    fields = codec.decode(Encoding.MSGPACK, message.payload)
    if not isinstance(fields, list):
        raise Corrupt(f"message {message.number} ({message.kind}) does not decode to its fields")
    return fields


def unpack_input(codec: Codec, message: Message) -> InputPayload:
    """What an input message says."""
    value, options, *parent = unpack(codec, message)
    return InputPayload(value, RunOptions.from_data(options), *parent)
