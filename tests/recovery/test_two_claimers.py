"""Two actors that claim the same thread at the same moment, on the real store: one drives it, the other does not.

The same with bare processes, and a commit whose answer was lost: tests/stores/test_sqlite.py and test_conformance.py.
Lost answers under a real owner: test_kill_sweep.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from perdure import Status
from perdure.actors.names import new_owner
from perdure.actors.pool import start_actor
from perdure.actors.thread_actor import Order
from tests.actors.conftest import Serve
from tests.actors.services import key_of
from tests.recovery.checks import check_history
from tests.recovery.faults import Notes
from tests.recovery.graphs_small import ticks

THREADS = 25
NOBODY = "nobody"
"""A driver that no supervisor looks after, so that only the two claim."""


def host(actor: Any, thread_id: str, epoch: int, record: Any) -> Any:
    return actor.host.remote([Order(thread_id, epoch)], record)


def test_one_of_two_claimers_drives(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    store = client.store
    attempts = tmp_path / "attempts"
    first = client.submit(ticks, {"steps": 3, "seconds": 0.0}, configurable={"log": str(attempts)})
    assert first.result(timeout=60)["n"] == 3
    model = first.info
    shipped = store.graph(model.graph_key)
    given = store.messages(first.thread_id, unread=False)[0]
    actors = [start_actor(new_owner(key_of(client), shared=False), client._settings) for _ in range(2)]
    ray.get([actor.prepare.remote(shipped) for actor in actors])
    for number in range(THREADS):
        thread_id = f"t{number}"
        notes = Notes.beside(tmp_path / "own.db", thread_id)
        notes.write_plan([])
        blank = replace(model, thread_id=thread_id, driver=NOBODY, status=Status.QUEUED, runs=0, run=0, seq=0, head=0)
        blank = replace(blank, epoch=0, inbox=0, token="", owner="")
        store.create(blank, replace(given, number=0, run=0, applied=0))
        answers = [host(actor, thread_id, 0, shipped) for actor in actors[:: 1 if number % 2 else -1]]
        assert sorted(ray.get(answers, timeout=60)) == [[0], [1]]
        assert client.thread(thread_id).result(timeout=60)["n"] == 3
        assert {segment.epoch for segment in check_history(store, thread_id)} == {1}
        assert [entry["claimed"] for entry in notes.entries() if "claimed" in entry] == [1]
    started = [json.loads(line)["start"] for line in attempts.read_text().splitlines()]
    assert len(started) == len(set(started)) == 3 * (THREADS + 1)
