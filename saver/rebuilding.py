"""What LangGraph's delta channels are rebuilt from.

They hold a whole value only now and then; in between it is what the tasks wrote, from checkpoint to checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from .reader import Found, Reader
from .sweep import ancestors


def delta_history(
    reader: Reader, found: Found, last: int, channels: Sequence[str]
) -> Mapping[str, DeltaChannelHistory]:
    """For each channel: its value at the nearest ancestor that has one (`seed`), and what was written to it from there
    up to the checkpoint's parent, oldest first. `last` is the thread's last commit."""
    missing = set(channels)
    seeds: dict[str, Any] = {}
    written: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    for ancestor, writes in ancestors(reader, found, last) if missing else ():
        for write in reversed(writes):
            if write.write.channel in missing:
                written[write.write.channel].append(reader.decoded(ancestor.place, write))
        manifest = ancestor.record.manifest
        seeded = {channel: manifest[channel] for channel in missing & manifest.keys()}
        for channel, chain in reader.chains(ancestor.place, seeded).items():
            seeds[channel] = chain.value
            missing.discard(channel)
        if not missing:
            break
    return {channel: _entry(written[channel][::-1], seeds, channel) for channel in channels}


def _entry(writes: list[PendingWrite], seeds: Mapping[str, Any], channel: str) -> DeltaChannelHistory:
    if channel in seeds:
        return {"writes": writes, "seed": seeds[channel]}
    return {"writes": writes}
