"""Draining: take a node, or the whole service, out of work without losing any."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from ..actors.drains import Drain, read_drain, write_drain
from ..actors.nodes import Node, living_nodes
from ..stores.base import CheckpointStore
from .errors import ClientError
from .supervisors import Supervisors

POLL = 0.05


def named_node(given: str) -> Node:
    """The living node that somebody means. Raises `ClientError` for none or several."""
    nodes = living_nodes()
    found = [node for node in nodes if node.is_called(given)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{node.node_id[:12]} ({node.name}, {node.host})" for node in found or nodes)
    what = f"{len(found)} nodes are called" if found else "no node is called"
    raise ClientError(f"{what} {given!r}; name one by the first digits of its id: {known}")


def drain(store: CheckpointStore, supervisors: Supervisors, node: str | None, timeout: timedelta | None) -> int:
    """See `Client.drain`."""
    node_id = named_node(node).node_id if node is not None else ""
    _change(store, supervisors, node_id, on=True)
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    while left := sum(supervisors.ask("at_work", node_id)):
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(POLL)
    return int(left)


def undrain(store: CheckpointStore, supervisors: Supervisors, node: str | None) -> None:
    """See `Client.undrain`."""
    _change(store, supervisors, named_node(node).node_id if node is not None else "", on=False)


def _change(store: CheckpointStore, supervisors: Supervisors, node_id: str, *, on: bool) -> None:
    drain = read_drain(store)
    if node_id:
        drain = replace(drain, nodes=drain.nodes | {node_id} if on else drain.nodes - {node_id})
    else:
        drain = replace(drain, service=True) if on else Drain()
    write_drain(store, drain, (node.node_id for node in living_nodes()))
    supervisors.ask("look_around")
