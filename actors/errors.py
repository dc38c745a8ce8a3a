"""What can go wrong between the actors of a service."""

from __future__ import annotations

from ..runtime.errors import PerdureError


class GraphLoadError(PerdureError):
    """A graph's code cannot be loaded where it is to run."""

    def __init__(self, graph: str, detail: str) -> None:
        super().__init__(f"graph {graph!r} cannot be loaded in the cluster: {detail}")
        self.graph = graph


class GraphNotShippable(PerdureError):
    """A graph cannot be sent to the cluster."""


class ServiceError(PerdureError):
    """The service did not answer."""


class Superseded(PerdureError):
    """Another supervisor of the same service is at work: this one's picture of its actors no longer holds."""
