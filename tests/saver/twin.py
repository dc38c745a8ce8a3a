"""A saver that asks LangGraph's own in-memory saver too, and holds ours to its answers, call by call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.memory import InMemorySaver

from perdure.saver import PerdureSaver


def plain(value: Any) -> Any:
    """The value with lists for tuples: LangGraph's own serializer makes them so, ours keeps them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), [plain(getattr(value, field.name, None)) for field in fields(value)]
    if type(value).__name__ == "Send":
        return "Send", value.node, plain(value.arg)
    return value


def shown(found: CheckpointTuple | None) -> Any:
    """All of a tuple that the contract speaks of."""
    if found is None:
        return None
    return {
        "config": _named(found.config),
        "parent": _named(found.parent_config),
        "checkpoint": plain(found.checkpoint),
        "metadata": plain(found.metadata),
        "writes": plain(found.pending_writes),
    }


def _named(config: RunnableConfig | None) -> Any:
    keys = ("thread_id", "checkpoint_ns", "checkpoint_id")
    return config and [config["configurable"].get(key, "") for key in keys]


class TwinSaver(BaseCheckpointSaver[str]):
    """Writes go to both, reads have to agree."""

    def __init__(self, ours: PerdureSaver) -> None:
        super().__init__()
        self.ours = ours
        self.theirs = InMemorySaver()
        self.compared = 0
        self.written = 0
        """Calls of `put_writes` that are done: LangGraph makes them in the background, also in sync mode."""

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = self.ours.get_tuple(config)
        self._agree(shown(found), shown(self.theirs.get_tuple(config)))
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        found = [*self.ours.list(config, filter=filter, before=before, limit=limit)]
        theirs = [*self.theirs.list(config, filter=filter, before=before, limit=limit)]
        self._agree([shown(each) for each in found], [shown(each) for each in theirs])
        return iter(found)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        made = self.ours.put(config, checkpoint, metadata, new_versions)
        self._agree(made, self.theirs.put(config, checkpoint, metadata, new_versions))
        return made

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.ours.put_writes(config, writes, task_id, task_path)
        self.theirs.put_writes(config, writes, task_id, task_path)
        self.written += 1

    def delete_thread(self, thread_id: str) -> None:
        self.ours.delete_thread(thread_id)
        self.theirs.delete_thread(thread_id)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        found = self.ours.get_delta_channel_history(config=config, channels=channels)
        theirs = self.theirs.get_delta_channel_history(config=config, channels=channels)
        self._agree(plain(found), plain(theirs))
        return found

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.ours.get_next_version(current, channel)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await self.ours.aget_tuple(config)
        self._agree(shown(found), shown(await self.theirs.aget_tuple(config)))
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = [each async for each in self.ours.alist(config, filter=filter, before=before, limit=limit)]
        theirs = [each async for each in self.theirs.alist(config, filter=filter, before=before, limit=limit)]
        self._agree([shown(each) for each in found], [shown(each) for each in theirs])
        for each in found:
            yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        made = await self.ours.aput(config, checkpoint, metadata, new_versions)
        self._agree(made, await self.theirs.aput(config, checkpoint, metadata, new_versions))
        return made

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self.ours.aput_writes(config, writes, task_id, task_path)
        await self.theirs.aput_writes(config, writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        found = await self.ours.aget_delta_channel_history(config=config, channels=channels)
        theirs = await self.theirs.aget_delta_channel_history(config=config, channels=channels)
        self._agree(plain(found), plain(theirs))
        return found

    def _agree(self, ours: Any, theirs: Any) -> None:
        self.compared += 1
        assert ours == theirs
