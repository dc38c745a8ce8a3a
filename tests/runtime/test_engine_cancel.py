"""A cancel overtakes: what was sent before it and was not read yet has no effect, and is recorded as undelivered."""

from __future__ import annotations

from perdure.runtime.compiled import CompiledGraph
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import CANCEL, INPUT, PAUSE, UPDATE, InputPayload, pack, pack_input
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Expect
from perdure.stores.records import IN_PROCESS, UNDELIVERED, Message, Status, ThreadRecord
from tests.runtime.engine import THREAD, chain, says

ANY = Expect(statuses=frozenset(Status))


def sent(graph: CompiledGraph, store: MemoryStore) -> None:
    """A thread with an input, an update, a pause and then a cancel, none of them read."""
    first = Message(message_id="input", kind=INPUT, payload=pack_input(graph.codec, InputPayload({}, RunOptions())))
    row = ThreadRecord(thread_id="t", graph=graph.name, version=graph.version, driver=IN_PROCESS)
    store.create(row, first)
    for kind, fields in ((UPDATE, ({"items": ["told"]}, None, 0)), (PAUSE, ("wait",)), (CANCEL, ("enough",))):
        store.deliver("t", Message(message_id=kind, kind=kind, payload=pack(graph.codec, *fields)), ANY)


def test_a_cancel_overtakes_what_came_before_it() -> None:
    store = MemoryStore()
    graph = chain({"a": says("a")}, store, name="overtaken")
    sent(graph, store)
    graph.invoke(None, THREAD)
    row = store.thread("t")
    assert (row.status, row.reason, row.head) == (Status.CANCELLED, "enough", 0)
    places = {message.kind: message.applied for message in store.messages("t", unread=False)}
    assert places.pop(CANCEL) > 0
    assert places == {INPUT: UNDELIVERED, UPDATE: UNDELIVERED, PAUSE: UNDELIVERED}
    assert [run.status for run in store.runs("t")] == [Status.CANCELLED]
