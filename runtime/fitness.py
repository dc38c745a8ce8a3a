"""Whether a version of a graph can go on with what another one has left."""

from __future__ import annotations

from collections.abc import Mapping

from ..stores.codec import Codec
from . import plan
from .position import Position
from .retyping import changed, misfit
from .topology import Topology
from .upgrading import upgrade


class Fitness:
    """Of one thread, from when it was restored; migrations are applied here. `types`: those of the channels when its
    run began (`retyping.types_of`)."""

    def __init__(self, at: Position, types: Mapping[str, str], topology: Topology, codec: Codec) -> None:
        self._at = at
        self._topology = topology
        self._no_way = upgrade(at, topology, codec)
        self._changed = changed(types, topology)

    def objection(self) -> str:
        """Why the graph cannot go on from where the thread is now; empty if it can."""
        at, topology = self._at, self._topology
        if self._no_way and at.version != topology.version:
            return self._no_way
        if not at.run_open:
            return ""
        return plan.fits(at.next, topology) or misfit(self._changed, at.values, topology)
