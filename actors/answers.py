"""Remote calls from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import ObjectRef
from ray.exceptions import RayTaskError


async def answer(ref: ObjectRef[Any]) -> Any:
    """A remote call's result, awaited on any event loop. Raises what the call raised."""
    return await asyncio.wrap_future(ref.future())


def told(error: BaseException) -> str:
    """What an error says, for a user: of one that a remote call has raised not the stack of its process."""
    return str(error.cause if isinstance(error, RayTaskError) and error.cause is not None else error)
