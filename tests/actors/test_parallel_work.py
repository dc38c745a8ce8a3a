"""Fan-outs use the machine: tasks overlap, and small ones share Ray tasks."""

from __future__ import annotations

import time
from itertools import pairwise

from perdure import Client
from tests.actors.graphs_parallel import computing, trifling


def test_sixteen_computing_tasks_run_side_by_side(client: Client) -> None:
    # Once to start the workers.
    client.submit(computing, {"tasks": 4}).result(timeout=60)
    done = client.submit(computing, {"tasks": 16}).result(timeout=60)["done"]
    assert [one[0] for one in done] == list(range(16))
    assert len({pid for _, pid, _, _ in done}) >= 2
    # How much of the time at least two of them ran.
    edges = sorted([(began, 1) for *_, began, _ in done] + [(ended, -1) for *_, ended in done])
    running, both, some = 0, 0.0, 0.0
    for (at, change), (then, _) in pairwise(edges):
        running += change
        some += (then - at) * (running >= 1)
        both += (then - at) * (running >= 2)
    assert both > 0.6 * some


def test_a_thousand_trifles_share_ray_tasks(client: Client) -> None:
    client.submit(trifling, {"tasks": 8}).result(timeout=60)
    thread = client.submit(trifling, {"tasks": 1000})
    began = time.monotonic()
    done = thread.result(timeout=60)["done"]
    took = time.monotonic() - began
    assert [one[0] for one in done] == list(range(1000))
    assert len({ray_task for _, ray_task in done}) < 250
    # A task's result has a number of its own, but those that come together are written together.
    assert thread.info.seq > 1000
    assert len(client.store.segments(thread.thread_id)) < 250
    assert took < 30
