"""Kills the process of an owner that is frozen or cut off, on the machine that it is on."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterable

import ray
from ray import ObjectRef
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..stores.processes import ProcessId, boot
from ..stores.records import OwnerRecord
from .answers import answer

PATIENCE = 15.0
"""Seconds that a node may take to start a process and to answer; one that is cut off never does."""


def this_host() -> str:
    """Names this machine since its last start, in leases."""
    return f"{socket.gethostname()}:{boot()}"


def reap(owner: OwnerRecord) -> bool:
    """Kill an owner's process, if it is of this machine and still the one that the lease names. Whether it was."""
    process = ProcessId(owner.pid, int(owner.started))
    if owner.host != this_host() or not process.alive:
        return False
    process.send(signal.SIGKILL)
    return True


@ray.remote(num_cpus=0, max_retries=0)
def _reap_there(owner: OwnerRecord) -> bool:
    return reap(owner)


async def reap_elsewhere(owner: OwnerRecord, nodes: Iterable[str]) -> bool:
    """Do so on the owner's machine, which is one of those of `nodes` (Ray's ids), or none. Whether it was killed.

    A task that is bound to the node, and no process that stands by there: it would take memory for months for what
    happens once. A node on which none can be started any more is one from which Ray takes its actors itself.
    """
    refs: list[ObjectRef[bool]] = [
        _reap_there.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(owner)
        for node in nodes
    ]
    found = await asyncio.gather(*(_answered(ref) for ref in refs))
    return any(found)


async def _answered(ref: ObjectRef[bool]) -> bool:
    try:
        killed: bool = await asyncio.wait_for(answer(ref), PATIENCE)
    except TimeoutError:
        ray.cancel(ref, force=True)
        return False
    except RayError:
        return False  # the node is gone, and its processes with it
    return killed
