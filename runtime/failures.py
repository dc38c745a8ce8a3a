"""Why a run failed, as it is kept, and as the error that its readers get."""

from __future__ import annotations

import msgspec

from ..stores.errors import Corrupt, StoreError
from .errors import GraphRecursionError, NodeFailed, PerdureError
from .task import Failed


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A run's end by an error."""

    type: str
    message: str
    node: str = ""
    path: str = ""
    step: int = 0
    traceback: str = ""
    limit: int = 0
    """The recursion limit, where that is what was reached."""
    call: int | None = None
    """See `Failed.call`."""


# Bytes that are not ours also fail as text (a ValueError) and by their depth.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Failure)


def encode_failure(failure: Failure) -> bytes:
    """The record as bytes (msgpack)."""
    return _ENCODER.encode(failure)


def decode_failure(payload: bytes) -> Failure:
    """The record. Raises `Corrupt`."""
    try:
        return _DECODER.decode(payload)
    except _MALFORMED as error:
        raise Corrupt(f"a run's error record does not decode: {error}") from None


def of_task(failed: Failed, step: int) -> Failure:
    """A failed task's record."""
    return Failure(
        type=failed.type,
        message=failed.message,
        node=failed.node,
        path=failed.path,
        step=step,
        traceback=failed.traceback,
        call=failed.call,
    )


def of_error(error: PerdureError | StoreError, step: int) -> Failure:
    """The record of an engine's own error, such as two writes to a plain key."""
    limit = error.limit if isinstance(error, GraphRecursionError) else 0
    return Failure(type=type(error).__qualname__, message=str(error), step=step, limit=limit)


def as_error(failure: Failure, graph: str, thread_id: str) -> PerdureError:
    """The error that a reader of the run's result gets."""
    if failure.limit:
        return GraphRecursionError(failure.limit, thread_id=thread_id)
    cause = f"{failure.type}: {failure.message}" if failure.message else failure.type
    if failure.node:
        return NodeFailed(graph, failure.node, thread_id, failure.step, cause, trace=failure.traceback)
    return PerdureError(f"thread {thread_id!r}: the run failed in step {failure.step}: {cause}")
