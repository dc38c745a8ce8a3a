"""The service's housekeeping: what it finds to do, in small steps, standing back for recoveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import HeadOptions, Retention
from perdure.actors.housekeeping import Housekeeper
from perdure.runtime.clock import SystemClock
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment
from perdure.stores.records import Segment, Status
from perdure.stores.retention import SETTING, retention_data
from perdure.stores.segments import Kind, Row
from perdure.stores.tidying import Progress
from tests.actors.graphs_menu import graph
from tests.actors.services import eventually, service
from tests.stores.backends import commit, owned
from tests.stores.test_retention import append, appended, listed

HOUR = timedelta(hours=1)


def tidy(store: CheckpointStore, **more: Any) -> Progress:
    """One round."""
    keeper = Housekeeper(store, SystemClock(), timedelta(0), more.pop("recovering", lambda: False))
    return asyncio.run(keeper.round())


def end(store: CheckpointStore, thread_id: str, at: float) -> None:
    seq = store.thread(thread_id).seq + 1
    store.commit([commit(seq, thread_id=thread_id, rows=(), status=Status.SUCCEEDED, release=True, at=at)])


def test_what_is_worth_it_is_tidied() -> None:
    store = MemoryStore()
    appended(store, 600, "long")
    appended(store, 100, "short")
    appended(store, 100, "ended")
    end(store, "ended", SystemClock().time())
    tidy(store)
    assert [len(store.segments(name)) for name in ("long", "short", "ended")] == [3, 100, 2]
    assert tidy(store) == Progress(), "and is not looked at again"


def test_the_stores_retention_and_the_threads_own() -> None:
    store = MemoryStore()
    store.put_setting(SETTING, retention_data(Retention(max_checkpoints=10)))
    appended(store, 600)
    appended(store, 600, "own")
    store.amend("own", Amendment(retention=Retention(max_checkpoints=3)))
    tidy(store)
    assert len(listed(store)) == 10
    assert len(listed(store, "own")) == 3


def test_time_alone_makes_things_due() -> None:
    store = MemoryStore()
    store.put_setting(SETTING, retention_data(Retention(keep_for=HOUR, delete_after=2 * HOUR)))
    now = SystemClock().time()
    appended(store, 20, "gone", at=now)
    end(store, "gone", now - 3 * 3600)
    appended(store, 20, "aged", at=now - 5 * 3600)
    append(store, 21, thread_id="aged", at=now)
    keeper = Housekeeper(store, SystemClock(), timedelta(0), lambda: False)
    keeper._aged -= 3600
    asyncio.run(keeper.round())
    assert [row.thread_id for row in store.threads().threads] == ["aged"]
    assert listed(store, "aged") == [21]


def test_a_damaged_thread_is_left_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.put_setting(SETTING, retention_data(Retention(max_checkpoints=10)))
    owned(store, "damaged")
    for seq in range(1, 601):
        rows = (Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, b"\xff"),)
        store.commit([commit(seq, thread_id="damaged", rows=rows, head=seq)])
    store.put_setting(SETTING, retention_data(Retention(keep_for=HOUR)))
    appended(store, 600, "sound")
    keeper = Housekeeper(store, SystemClock(), timedelta(0), lambda: False)
    for _ in range(3):
        asyncio.run(keeper.round())
    assert len([record for record in caplog.records if "damaged" in record.message]) == 1
    assert listed(store, "sound") == [600]


def test_it_stands_back_while_a_thread_recovers() -> None:
    looks = [0]
    rewritten: list[int] = []

    class Watched(MemoryStore):
        def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
            rewritten.append(looks[0])
            return super().rewrite(thread_id, old, new)

    def recovering() -> bool:
        looks[0] += 1
        return looks[0] < 10

    store = Watched()
    appended(store, 1500)
    tidy(store, recovering=recovering)
    assert min(rewritten) >= 10
    assert len(rewritten) >= 2


def test_a_running_service_keeps_house(head: HeadOptions, tmp_path: Path) -> None:
    """Retention given with submit, a named checkpoint, and the supervisor that drops the rest."""
    with service(head, tmp_path / "store.db", housekeeping=timedelta(seconds=0.2)) as client:
        client.retention = Retention(max_checkpoints=500)
        assert client.retention == Retention(max_checkpoints=500)
        given = {"do": "count", "folder": str(tmp_path), "until": 60}
        thread = client.submit(graph, given, retention=Retention(max_checkpoints=5))
        thread.result(timeout=60)
        # It may have begun while the run went on: only in the end there are five.
        eventually(lambda: len(list(thread.get_state_history())) == 5)
        assert client.store.thread(thread.thread_id).floor > 1
        kept = [one.checkpoint_id for one in thread.get_state_history()]
        name = thread.name_checkpoint("last but two", kept[2])
        assert (name, thread.names()) == (kept[2], {"last but two": kept[2]})
        thread.remove_name("last but two")
        assert thread.names() == {}
        values = thread.get_state().values
        assert values["n"] == 60
