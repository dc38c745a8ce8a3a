"""How an actor came to its end: by itself, with its node, or nobody knows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
import ray._private.state
from ray.exceptions import ActorUnavailableError, RayActorError

from .answers import answer
from .members import ANYWHERE

REPORT = 3.0
"""Seconds that Ray may take to report a death whose node answers."""
CONNECT = 0.5
"""Seconds that a node may take to accept a connection."""
PAUSE = 0.05


def blames(error: BaseException) -> bool:
    """Whether what an actor hosted may have ended it: it died, and not with its node. Ray says so only in words."""
    known = isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError)
    return known and "node has died" not in str(error)


async def cause_of(lost: ActorUnavailableError, handle: Any, node_id: str) -> RayActorError:
    """What became of an actor whose connection broke: `lost` itself if that cannot be known.

    Who calls a process that dies learns of it at once, but Ray gives its own report only a second. On a busy machine
    that comes later. Taken for a broken wire, the crash would be charged to nobody, and a thread that ends every
    process would get more of them than its budget allows. So ask on; but not where the node is gone, which reports
    nothing.
    """
    until = time.monotonic() + REPORT
    while (left := until - time.monotonic()) > 0 and await _answers(node_id):
        try:
            await asyncio.wait_for(answer(handle.stalled.remote()), left)
        except ActorUnavailableError:
            await asyncio.sleep(PAUSE)
        except RayActorError as death:
            return death
        except TimeoutError:
            break
        else:
            break  # it lives
    return lost


async def died_alone(name: str) -> bool:
    """Whether a dead actor, whose end no supervisor has seen, died while its node went on. True also where the
    cluster's head does not know: it forgets the dead in the end."""
    try:
        async with asyncio.timeout(REPORT):
            known = await asyncio.to_thread(ray._private.state.actors)
    except TimeoutError:
        return True
    places = [one["Address"]["NodeID"] for one in known.values() if one["Name"] == name]
    return not places or await _answers(places[-1])


async def _answers(node_id: str) -> bool:
    """Whether a node's raylet accepts connections. True also where that cannot be seen: the cluster's head may be away,
    and of an actor that was just found nobody knows where it is."""
    if node_id == ANYWHERE:
        return True
    try:
        async with asyncio.timeout(CONNECT):
            nodes = await asyncio.to_thread(ray.nodes)
            node = next((one for one in nodes if one["NodeID"] == node_id and one["Alive"]), None)
            if node is None:
                return False
            _, writer = await asyncio.open_connection(node["NodeManagerAddress"], node["NodeManagerPort"])
            writer.close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True
