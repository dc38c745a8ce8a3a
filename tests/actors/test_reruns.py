"""A batch re-run on Ray, whose owners are killed: no thread is forgotten or begun twice, and nothing is paid again."""

from __future__ import annotations

import time
from pathlib import Path

import ray

from perdure import Client, Status
from perdure.actors.names import NAMESPACE
from perdure.runtime.batches import Outcome
from tests.actors.graphs_reruns import NEW, OLD

MANY = 6


def test_a_batch_outlives_its_owners(client: Client, folder: str) -> None:
    inputs = [{"folder": folder, "number": number} for number in range(MANY)]
    names = [f"paying-{number}" for number in range(MANY)]
    for handle in client.submit_many(OLD, inputs, thread_ids=names, isolation="shared"):
        handle.result(60)
    batch = client.rerun(at="before:charge", graph=NEW, concurrency=3, batch_id="again")
    kill_owner(client, batch.batch_id)
    found = batch.wait(60)
    assert (found.status, found.outcomes) == (Status.SUCCEEDED, {Outcome.SUCCEEDED: MANY})
    assert sorted(one.thread_id for one in batch.ended()) == sorted(names)
    assert sorted((Path(folder) / "paid").read_text().split()) == sorted(str(number) for number in range(MANY))
    for number, name in enumerate(names):
        assert client.thread(f"again/{name}").result(1)["done"] == ["prepared", f"receipt {number}", "new report"]
    begun = [row.thread_id for row in client.threads(metadata={"perdure.batch": "again"})]
    assert sorted(begun) == sorted(f"again/{name}" for name in names)


def kill_owner(client: Client, thread_id: str) -> None:
    """Kill the process that owns the thread at some moment, unless the thread ends before there is such a moment."""
    deadline = time.monotonic() + 30
    while not (record := client.store.thread(thread_id)).status.ended:
        assert time.monotonic() < deadline, f"{thread_id} neither ran nor ended"
        if record.owner:
            ray.kill(ray.get_actor(record.owner, namespace=NAMESPACE), no_restart=True)
            return
        time.sleep(0.002)
