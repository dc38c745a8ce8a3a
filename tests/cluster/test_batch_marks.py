"""What belongs to a batch re-run is known by its mark: not by the ids of its threads, nor by its own, which may come
again."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import CompiledGraph, InputError
from perdure.runtime.batches import Outcome
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import ThreadFilter, ThreadPage
from perdure.stores.records import BATCH
from tests.cluster.pumping import PumpedClient, pumping
from tests.runtime.engine import asks, chain, says
from tests.runtime.test_checkpoint_kills import own
from tests.sim.faults import Delegating


def graph(version: str) -> CompiledGraph:
    return chain({"first": says("first"), "last": says(f"by {version}")}, None, name="work", version=version)


@pytest.fixture
def client() -> PumpedClient:
    """A client with the threads t1 and t2, made by version 1."""
    client = PumpedClient(MemoryStore())
    for name in ("t1", "t2"):
        client.submit(graph("1"), {}, name)
    client.pump_all()
    return client


def again(client: PumpedClient, version: str, **wishes: Any) -> Any:
    batch = client.rerun({"graph": "work"}, at="before:last", graph=graph(version), batch_id="b", **wishes)
    client.pump_all()
    return batch


def test_a_cancelled_batch_leaves_a_thread_alone_that_has_an_items_id(client: PumpedClient) -> None:
    """`cancel()` went by the ids of the items, and cancelled a stranger's thread that had one of them."""
    client.submit(chain({"ask": asks("?")}, None, name="other"), {}, "b/t1")
    client.pump_all()
    batch = client.rerun({"threads": ["t2", "t1"]}, at="before:last", concurrency=1, batch_id="b")
    client.pump(items=False)
    with pumping(client):
        batch.cancel("enough")
    client.pump_all()
    assert (client.store.thread("b/t2").status, client.store.thread("b/t1").status) == ("cancelled", "interrupted")
    assert [one.kind for one in client.store.messages("b/t1", unread=False)] == ["input"]


def test_an_id_whose_batch_was_deleted_is_refused_while_its_threads_are_left(client: PumpedClient) -> None:
    """The threads of the first batch were taken for those of the second, which reported their results as its own."""
    again(client, "2")
    client.store.delete("b")
    before = client.rows()
    with pytest.raises(InputError, match=r"'b': a batch with this id was deleted, but not .* thread 'b/t[12]'"):
        again(client, "3")
    assert client.rows() == before
    other = client.rerun({"threads": ["t1"]}, at="before:last", effects="live", batch_id="c")
    client.pump_all()
    with pytest.raises(InputError, match="no item has failed"):
        other.failed(batch_id="b")
    for name in ("b/t1", "b/t2"):
        client.store.delete(name)
    assert again(client, "3").progress().outcomes == {Outcome.SUCCEEDED: 2}
    assert client.thread("b/t1").get_state().values["items"] == ["first", "by 3"]


class LooksEarly(Delegating):
    """A listing of what a batch has left behind shows what was there before its first thread came."""

    def threads(self, where: ThreadFilter | None = None, **page: Any) -> ThreadPage:
        if where is not None and BATCH in where.metadata:
            return ThreadPage(threads=(), cursor=None)
        return self.inner.threads(where, **page)


def test_a_thread_of_another_batch_with_the_same_id_is_no_item(client: PumpedClient) -> None:
    """Also one that is made after the look at what is left."""
    again(client, "2")
    client.store.delete("b")
    client.store.delete("b/t2")
    client.store = LooksEarly(client.store)
    batch = again(client, "3")
    (failed,) = batch.failures()
    assert (failed.thread_id, failed.outcome) == ("t1", Outcome.FAILED)
    assert failed.reason == "thread 'b/t1' is there, and not of this batch; delete it, or take another batch_id"
    found = {row["thread_id"]: row for row in batch.compare().to_pylist()}
    assert found["t1"]["problem"] == "thread 'b/t1' is no part of this batch: the id had been taken"
    assert found["t2"]["diff"] == "items: ['first', 'by 1'] -> ['first', 'by 3']"


def test_a_thread_that_took_the_place_of_an_item_is_not_its_end(client: PumpedClient) -> None:
    """An item that was deleted under way, and whose id was given to another thread, had that thread's outcome."""
    batch = client.rerun({"threads": ["t1"]}, at="before:last", batch_id="b")
    client.pump(items=False)
    own(client.store, crashed=False, graph=graph("1"), thread_id="b/t1")
    client.store.delete("b/t1")
    client.submit(chain({"say": says("hello")}, None, name="other"), {}, "b/t1")
    client.pump_all()
    ((one,), stranger) = batch.ended(), client.store.thread("b/t1")
    assert (one.outcome, stranger.status) == (Outcome.FAILED, "succeeded")
    assert one.reason == "its thread was deleted before its end was noted"
