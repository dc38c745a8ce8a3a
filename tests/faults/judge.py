"""What must hold when all is over: nothing acknowledged is lost, nothing is there twice, every state is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.payloads import RESUME, UPDATE
from perdure.stores.base import CheckpointStore
from perdure.stores.records import Status
from tests.faults.acks import Acknowledged
from tests.recovery.checks import check_history


def judge_thread(
    store: CheckpointStore, graph: CompiledGraph, thread_id: str, acked: Acknowledged, expected: Mapping[str, Any]
) -> None:
    """Of a thread that has ended. `expected` is its final state but for `heard`, which holds the updates."""
    row = store.thread(thread_id)
    assert (row.status, row.owner, row.token) == (Status.SUCCEEDED, "", ""), row
    segments = check_history(store, thread_id)
    kept = {(segment.first, segment.last, segment.commit_id) for segment in segments}
    assert len(kept) == len(segments)
    assert acked.commits[thread_id] <= kept, f"{thread_id}: acknowledged commits are lost"
    messages = store.messages(thread_id, unread=False)
    assert [message.number for message in messages] == list(range(1, row.inbox + 1))
    assert all(message.applied > 0 for message in messages), messages
    numbers = {message.message_id: message.number for message in messages}
    assert len(numbers) == len(messages)
    assert acked.messages[thread_id].items() <= numbers.items(), f"{thread_id}: acknowledged messages are lost"
    said = [message.message_id for message in messages if message.kind == UPDATE]
    # Who says something goes on until it is acknowledged or refused, so nothing else can be there.
    assert set(said) <= acked.messages[thread_id].keys()
    values = dict(graph_state(store, graph, thread_id))
    assert values.pop("heard", []) == said, f"{thread_id}: what it heard is not what it was told"
    assert values == expected
    assert sum(message.kind == RESUME for message in messages) == sum(
        line.startswith("told") for line in values.get("trail", ())
    )


def graph_state(store: CheckpointStore, graph: CompiledGraph, thread_id: str) -> Mapping[str, Any]:
    """The newest state, read by somebody who has read nothing before."""
    fresh = CompiledGraph(graph.topology, store)
    return fresh.get_state({"configurable": {"thread_id": thread_id}}).values
