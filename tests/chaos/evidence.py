"""All that is known of a thread when the chaos is over: the store, the raw database, and the logs outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.payloads import INPUTS, UPDATE, unpack
from perdure.stores.base import CheckpointStore
from perdure.stores.records import SIGNAL, Message, RunRecord, Segment, ThreadRecord
from tests.chaos.graphs import Stage, graph
from tests.chaos.raw import RawThread
from tests.faults.acks import Acknowledged
from tests.recovery.faults import Entry, entries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Of one thread."""

    thread_id: str
    row: ThreadRecord
    raw: RawThread
    segments: Sequence[Segment]
    """Oldest first."""
    messages: Sequence[Message]
    runs: Sequence[RunRecord]
    values: Mapping[str, Any]
    """The final state."""
    states: Mapping[str, Mapping[str, Any]]
    """Every state of its history, by checkpoint id."""
    log: Sequence[Entry]
    """What its owners and nodes noted (`witness`)."""
    acked: Mapping[str, int]
    """Message id to number, of what was acknowledged to a user."""
    created: bool
    """Its creation was acknowledged."""
    seen: Sequence[tuple[str, Mapping[str, Any]]]
    """States that readers were shown meanwhile: checkpoint id and values."""

    @property
    def inputs(self) -> list[tuple[Message, str, list[Stage]]]:
        """Each input in order: the message, its run's name and script."""
        found = []
        for message in self.messages:
            if message.kind in INPUTS:
                given = unpack(graph.codec, message)[0]
                found.append((message, given["run"], given["script"]))
        return found

    @property
    def said(self) -> list[tuple[Message, str]]:
        """Each update of what it heard, in order."""
        updates = [message for message in self.messages if message.kind == UPDATE]
        return [(message, unpack(graph.codec, message)[0]["heard"][0]) for message in updates]

    @property
    def signals(self) -> dict[str, list[str]]:
        """What was received, in the order of the inbox, by name."""
        found: dict[str, list[str]] = {}
        for message in self.messages:
            if message.kind == SIGNAL and message.applied > 0:
                found.setdefault(message.name, []).append(unpack(graph.codec, message)[0])
        return found


def gather(
    store: CheckpointStore,
    raw: RawThread,
    thread_id: str,
    acked: Acknowledged,
    folder: Path,
    seen: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> Evidence:
    """Read it all, by a reader who has read nothing before."""
    config = {"configurable": {"thread_id": thread_id}}
    fresh = CompiledGraph(graph.topology, store)
    history = list(fresh.get_state_history(config))
    return Evidence(
        thread_id=thread_id,
        row=store.thread(thread_id),
        raw=raw,
        segments=store.segments(thread_id)[::-1],
        messages=store.messages(thread_id, unread=False),
        runs=store.runs(thread_id),
        values=dict(fresh.get_state(config).values),
        states={shot.checkpoint_id: dict(shot.values) for shot in history},
        log=entries_of(folder / thread_id),
        acked=acked.messages.get(thread_id, {}),
        created=thread_id in acked.created,
        seen=seen,
    )
