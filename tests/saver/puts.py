"""Checkpoints without a graph, as LangGraph would put them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.base.id import uuid6

_CLOCK = count()


def at(thread: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    """The config that names a thread, or one of its checkpoints."""
    named = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": {**named, "checkpoint_id": checkpoint_id} if checkpoint_id else named}


def new_id() -> str:
    """An id above all that were made before in this process."""
    return str(uuid6(clock_seq=next(_CLOCK) & 0x3FFF))


class Run:
    """Puts one checkpoint after the other: each on top of the one before."""

    def __init__(self, saver: BaseCheckpointSaver[str], thread: str = "t", namespace: str = "") -> None:
        self.saver = saver
        self.config = at(thread, namespace=namespace)
        self.versions: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.steps = 0

    @property
    def id(self) -> str:
        return str(self.config["configurable"]["checkpoint_id"])

    def put(self, changed: Mapping[str, Any], checkpoint_id: str | None = None, **metadata: Any) -> RunnableConfig:
        """Put the next checkpoint, with these channels changed."""
        new = {name: self.saver.get_next_version(self.versions.get(name), None) for name in changed}
        self.versions = {**self.versions, **new}
        self.values = {**self.values, **changed}
        about: CheckpointMetadata = {"source": "loop", "step": self.steps, "parents": {}, **metadata}  # type: ignore[typeddict-item]
        self.steps += 1
        checkpoint = Checkpoint(
            v=4,
            id=checkpoint_id or new_id(),
            ts="2025-01-01T00:00:00+00:00",
            channel_values=dict(self.values),
            channel_versions=dict(self.versions),
            versions_seen={"node": dict(self.versions)},
            updated_channels=sorted(new),
        )
        self.config = self.saver.put(self.config, checkpoint, about, dict(new))
        return self.config

    def go_back(self, config: RunnableConfig) -> None:
        """Go on from an older checkpoint."""
        found = self.saver.get_tuple(config)
        assert found is not None
        self.config = found.config
        self.versions = {name: str(version) for name, version in found.checkpoint["channel_versions"].items()}
        self.values = dict(found.checkpoint["channel_values"])


def values_at(saver: BaseCheckpointSaver[str], config: RunnableConfig) -> dict[str, Any]:
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def writes_at(saver: BaseCheckpointSaver[str], config: RunnableConfig) -> list[tuple[str, str, Any]]:
    found = saver.get_tuple(config)
    assert found is not None
    return list(found.pending_writes or [])
