"""Remote calls from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import ObjectRef


async def answer(ref: ObjectRef[Any]) -> Any:
    """A remote call's result, awaited on any event loop. Raises what the call raised."""
    return await asyncio.wrap_future(ref.future())
