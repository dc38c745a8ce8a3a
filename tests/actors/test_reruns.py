"""A batch re-run on Ray, whose owners are killed: no thread is forgotten or begun twice, and nothing is paid again."""

from __future__ import annotations

import time
from pathlib import Path

from perdure import Client, Status
from perdure.runtime.batches import Outcome
from tests.actors.graphs_reruns import GATE, NEW, OLD
from tests.actors.services import strike_owner

MANY = 6


def test_a_batch_outlives_its_owners(client: Client, folder: str) -> None:
    inputs = [{"folder": folder, "number": number} for number in range(MANY)]
    names = [f"paying-{number}" for number in range(MANY)]
    for handle in client.submit_many(OLD, inputs, thread_ids=names, isolation="shared"):
        handle.result(60)
    batch = client.rerun(at="before:charge", graph=NEW, concurrency=3, batch_id="again")
    kill_owner(client, batch.batch_id)
    assert not batch.status.ended
    Path(folder, GATE).touch()
    found = batch.wait(60)
    assert (found.status, found.outcomes) == (Status.SUCCEEDED, {Outcome.SUCCEEDED: MANY})
    assert sorted(one.thread_id for one in batch.ended()) == sorted(names)
    assert sorted((Path(folder) / "paid").read_text().split()) == sorted(str(number) for number in range(MANY))
    for number, name in enumerate(names):
        assert client.thread(f"again/{name}").result(1)["done"] == ["prepared", f"receipt {number}", "new report"]
    begun = [row.thread_id for row in client.threads(metadata={"perdure.batch": "again"})]
    assert sorted(begun) == sorted(f"again/{name}" for name in names)


def kill_owner(client: Client, thread_id: str) -> None:
    """Kill the process that owns the thread, as soon as one does. Between two looks of a batch none does."""
    deadline = time.monotonic() + 60
    while not strike_owner(client, thread_id):
        assert time.monotonic() < deadline, f"{thread_id} had no owner that could be killed"
        time.sleep(0.002)
