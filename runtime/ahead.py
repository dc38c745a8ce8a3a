"""Decode what nodes are going to read, before they start."""

from __future__ import annotations

from collections.abc import Iterable

from .topology import Topology
from .values import LazyValues, Values


class Ahead:
    """Remembers for which nodes the values of a restored thread are decoded."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._values: LazyValues | None = None
        self._nodes: set[str] = set()

    def decode(self, values: Values, nodes: Iterable[str]) -> None:
        """Decode what these nodes and their conditional edges are handed. What does not decode stops the owner: it is
        no failure of a node. Raises `Corrupt`, `DisallowedType`."""
        if not isinstance(values, LazyValues):
            return
        if values is not self._values:
            self._values, self._nodes = values, set()
        for node in set(nodes) - self._nodes:
            for schema in self._topology.read_by(node):
                for name in schema.fields:
                    values.get(name)
            self._nodes.add(node)
