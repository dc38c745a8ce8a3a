"""Where a run stops: breakpoints, added and removed while it runs, and single steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..stores.codec import Codec
from ..stores.operations import Expect
from ..stores.records import PARKED, RUNNABLE, Message
from .clock import Clock
from .options import RunOptions, breakpoints
from .payloads import BREAKPOINTS, BreakpointsPayload, pack
from .plan import Limits
from .ports import Ports
from .topology import Topology

ACCEPTS_BREAKPOINTS = Expect(statuses=RUNNABLE | PARKED)
"""An ended thread has no run that could stop."""


@dataclass(frozen=True, slots=True)
class Breakpoints:
    """The nodes that a run stops at."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def breakpoints_message(codec: Codec, clock: Clock, change: BreakpointsPayload) -> Message:
    """The message that changes a run's breakpoints."""
    fields = (change.add_before, change.add_after, change.remove_before, change.remove_after)
    payload = pack(codec, *(list(one) for one in fields))
    return Message(message_id=clock.unique(), kind=BREAKPOINTS, payload=payload, created_at=clock.time())


def in_force(topology: Topology, options: RunOptions) -> Breakpoints:
    """The breakpoints of a run: its own, or else those that the graph was compiled with."""
    before, after = options.interrupt_before, options.interrupt_after
    return Breakpoints(
        tuple(sorted(topology.interrupt_before if before is None else breakpoints(topology, before))),
        tuple(sorted(topology.interrupt_after if after is None else breakpoints(topology, after))),
    )


def with_change(options: RunOptions, change: BreakpointsPayload, topology: Topology) -> RunOptions:
    """The options of a run after its breakpoints were changed."""
    now = in_force(topology, options)

    def changed(present: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted((frozenset(present) - breakpoints(topology, remove)) | breakpoints(topology, add)))

    return replace(
        options,
        interrupt_before=changed(now.before, change.add_before, change.remove_before),
        interrupt_after=changed(now.after, change.add_after, change.remove_after),
        pinned=True,
    )


def keep_pinned(options: RunOptions, data: Mapping[str, Any]) -> dict[str, Any]:
    """The options' data with which somebody goes on with a run, and the breakpoints that it was given meanwhile."""
    lists = ("interrupt_before", "interrupt_after")
    kept = options.to_data()
    others = {name: kept[name] for name in lists if name in kept and name not in data}
    return {**data, "pinned": True, **others} if options.pinned and others else dict(data)


def limits_of(
    topology: Topology, options: RunOptions, thread_id: str, ports: Ports, *, replays: bool = False
) -> Limits:
    """What bounds a run of a thread, for an owner with these ports. `replays`: it goes on as its original did, at
    breakpoints too unless they were given to itself."""
    stops = in_force(topology, options)
    # A fork inherits the options of the run that it goes on with, but not the single step that its origin took.
    stepping = options.stop_after is not None and options.stop_after[0] == thread_id
    return Limits(
        recursion_limit=options.recursion_limit,
        interrupt_before=frozenset(stops.before),
        interrupt_after=frozenset(stops.after),
        stop_after=options.stop_after[1] if stepping and options.stop_after is not None else None,
        replays=replays and not (options.pinned or stepping),
        stays=ports.history is None,
        mail_only=ports.limits.mail_only,
    )
