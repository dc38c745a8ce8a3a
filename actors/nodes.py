"""The nodes of the Ray cluster: which there are."""

from __future__ import annotations

from dataclasses import dataclass

import ray


@dataclass(frozen=True, slots=True)
class Node:
    """A living node."""

    node_id: str
    """Ray's id, in hex."""
    address: str
    host: str
    """The machine's name."""
    name: str
    """As it was given when the node was started; by default the address."""
    cpus: int
    """That Ray has to give there; at least 1."""

    def is_called(self, given: str) -> bool:
        """Whether somebody means this node: by its id's first digits (at least 6), name, machine or address."""
        return given in (self.address, self.host, self.name) or (len(given) >= 6 and self.node_id.startswith(given))


def living_nodes() -> list[Node]:
    """The nodes that are alive. Asks the cluster's head."""
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["NodeManagerHostname"],
            node["NodeName"],
            max(1, int(node["Resources"].get("CPU", 1))),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own gap
        if node["Alive"]
    ]
