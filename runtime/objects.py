"""Graphs without a store: the engine's ports with nothing behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..stores.base import CommitResult
from ..stores.codec import Codec, Encoding
from ..stores.operations import Commit, Committed
from ..stores.records import Message, Status, ThreadRecord
from .clock import Clock
from .drive import Driver
from .errors import PerdureError
from .loop import ThreadLoop
from .options import RunOptions
from .payloads import INPUT, InputPayload, pack_input
from .ports import Executor, Gate, Observer, Ports
from .position import Position
from .restore import Restored
from .settled import Settled
from .topology import Topology
from .writer import Writer


class _Held(bytes):
    """Stands for an object where a payload is expected."""

    value: Any


class ObjectCodec(Codec):
    """Keeps values as the objects they are: without a store nothing has to be written down, so anything may be a
    value."""

    def encode(self, value: object) -> tuple[int, bytes]:
        """The object itself, dressed as a payload."""
        held = _Held()
        held.value = value
        return Encoding.MSGPACK, held

    def decode(self, encoding: int, payload: bytes | memoryview) -> Any:
        """The object that `encode` dressed."""
        assert isinstance(payload, _Held)
        return payload.value


class _Nothing:
    """A store that keeps nothing and has no mail."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [Committed(seq=commit.last, inbox=1) for commit in commits]

    def messages(self, thread_id: str) -> tuple[Message, ...]:
        return ()


def run_without_store(
    topology: Topology,
    value: Any,
    options: RunOptions,
    *,
    clock: Clock,
    executor: Callable[[], Executor],
    observer: Observer | None = None,
    gate: Gate | None = None,
) -> Settled:
    """Run a graph once, keeping nothing: neither its steps nor, if it is interrupted, the place where it stopped."""
    codec = ObjectCodec()
    payload = pack_input(codec, InputPayload(value, options))
    mail = [Message(message_id="", kind=INPUT, payload=payload, number=1, run=1)]
    record = ThreadRecord(thread_id="", graph=topology.name, version=topology.version, inbox=1)
    nothing = _Nothing()
    writer = Writer(nothing, clock)
    nodes = executor()
    ports = Ports(nothing, None, nodes, clock, gate or Gate(), observer=observer)
    loop = ThreadLoop(record, Restored(Position(mail=mail), {}), topology, codec, ports)
    driver = Driver(loop, writer)
    loop.attach(writer.lane("", 0, "", driver.post), driver.post)
    try:
        settled = driver.run()
    finally:
        nodes.stop()
    if settled.status is Status.WAITING:
        names = sorted({repr(stop.name) for stop in settled.position.stops.values() if stop.name})
        raise PerdureError(
            f"graph {topology.name!r} waits for a signal ({', '.join(names)}) that nobody can send: it was compiled "
            "without a store; give compile(checkpointer=open_store(url)) one, or receive(..., timeout=...) a timeout"
        )
    return settled
