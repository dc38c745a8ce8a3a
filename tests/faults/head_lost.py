"""The two programs of test_head_lost.py: `begin` starts threads on a cluster and stays; `finish` finds them on another.

python -m tests.faults.head_lost begin|finish local|nodes STORE FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure import Client, HeadOptions, connect
from perdure.cluster.head import running_head, stop_head
from perdure.stores.processes import family
from tests.actors.services import eventually
from tests.faults.counting import Counting, start_counting
from tests.faults.graphs_counting import graph
from tests.nodes.machines import HEAD, Machines
from tests.recovery.graphs_small import rounds

DURABILITIES = ("async", "sync")


@contextmanager
def local(url: str, folder: Path) -> Iterator[tuple[Client, list[int]]]:
    """On a head of the user's own; and what its loss is: all of its processes."""
    head = HeadOptions(num_cpus=2, folder=folder / "head")
    try:
        with connect(url, head=head) as client:
            found = running_head(head.folder)
            assert found is not None
            yield client, [process.pid for process in family(found.process)]
    finally:
        stop_head(folder=head.folder)


@contextmanager
def nodes(url: str, folder: Path) -> Iterator[tuple[Client, list[int]]]:
    """On two nodes; and what the loss of the first is: its raylet and the GCS, whose tables nobody else has."""
    with Machines() as machines:
        machines.add("a")
        with connect(url, address=machines.address, shared_path=True) as client:
            yield client, [machines.raylet(HEAD).pid, machines.gcs.pid]


def begin(client: Client, lost: list[int], folder: Path) -> None:
    threads = [start_counting(client, folder / "notes", durability) for durability in DURABILITIES]
    asking = client.submit(rounds, {"round": 1}, thread_id="asking")
    for running in threads:
        running.go_on(5)
    eventually(lambda: len(asking.interrupts) == 2, 60, "both questions")
    told = {running.thread.thread_id: running.folder.name for running in threads}
    print(json.dumps({"threads": told, "lost": lost}), flush=True)
    time.sleep(600)


def finish(client: Client, told: dict[str, str], folder: Path) -> None:
    for thread_id, name in told.items():
        running = Counting(client.thread(thread_id, graph=graph), folder / "notes" / name)
        eventually(lambda: running.thread.info.epoch > 1, 200, "a new owner")  # noqa: B023 — called at once
        running.go_on(5)
        running.finish(client)
        print(json.dumps([running.thread.info.epoch, running.thread.info.crashes]), flush=True)
    asking = client.thread("asking", graph=rounds)
    asking.resume(dict.fromkeys(asking.interrupts, "yes"))
    assert asking.result(timeout=90)["answers"] == ["yes", "yes"]


def main(what: str, where: str, url: str, folder: Path) -> None:
    with {"local": local, "nodes": nodes}[where](url, folder) as (client, lost):
        if what == "begin":
            begin(client, lost, folder)
        else:
            finish(client, json.loads(os.environ["TOLD"]), folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
