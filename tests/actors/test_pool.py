"""The pool of a service: its cap, its order, and that nothing outlives its use."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import ray

from perdure import HeadOptions, Status
from perdure.actors.names import NAMESPACE, supervisor_name
from perdure.actors.pool import find_actors
from perdure.stores.processes import ProcessId
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import end, eventually, key_of, restarted, supervisor_process, users_of

IDLE = timedelta(seconds=2)


def test_twelve_threads_share_three_actors(serve: Serve, folder: str) -> None:
    client = serve(max_actors=3)
    threads = [
        client.submit(graph, {"do": "count", "folder": folder, "until": 15}, thread_id=f"t-{i:02}") for i in range(12)
    ]
    most = 0
    while not all(thread.status.ended for thread in threads):
        most = max(most, len(client.actors()))
        assert len(list(client.threads(status="running"))) <= 3
        time.sleep(0.005)
    assert most == 3
    assert len(find_actors(key_of(client))) <= 3
    assert all(thread.result(timeout=5)["n"] == 15 for thread in threads)
    assert lines(folder).count("count 15") == 12


def test_an_owner_has_as_much_of_the_processor_as_its_user(serve: Serve) -> None:
    assert os.getpriority(os.PRIO_PROCESS, supervisor_process(serve()).pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_idle_actors_are_ended_and_a_thread_that_comes_later_gets_a_new_one(
    serve: Serve, member: HeadOptions, folder: str
) -> None:
    client = serve()
    with restarted(client, member, idle=IDLE) as quick:
        threads = [quick.submit(graph, {"do": "last", "folder": folder}) for _ in range(2)]
        for thread in threads:
            thread.result(timeout=60)
        assert quick.actors()
        eventually(lambda: not quick.actors(), what="an empty pool")
        eventually(lambda: not find_actors(key_of(client)))
        # What is left is the supervisor; the leases of the others went with them.
        eventually(lambda: [lease.owner for lease in quick.store.owners()] == [supervisor_name(key_of(client))])
        again = quick.submit(graph, {"do": "ask", "folder": folder})
        eventually(lambda: again.status is Status.INTERRUPTED, seconds=30)
        # A thread that waits holds no actor.
        eventually(lambda: not quick.actors(), what="an empty pool")
        assert again.status is Status.INTERRUPTED


def test_actors_without_supervisor_and_work_end_themselves_and_those_that_work_go_on(
    serve: Serve, member: HeadOptions, folder: str
) -> None:
    client = serve(spares=1)
    with restarted(client, member, idle=IDLE) as quick:
        thread = quick.submit(graph, {"do": "count", "folder": folder, "until": 600})
        eventually(lambda: "count 5" in lines(folder))
        eventually(lambda: sum(actor["phase"] == "idle" for actor in quick.actors()) >= 1, what="a spare")
        actors = {
            name: ProcessId(lease.pid, lease.started)
            for lease in quick.store.owners()
            if (name := lease.owner) in find_actors(key_of(client))
        }
        worker = thread.info.owner
        ray.kill(ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE), no_restart=True)
        eventually(lambda: not any(actors[name].alive for name in actors if name != worker), what="the spares' end")
        assert actors[worker].alive
        assert thread.status is Status.RUNNING
        eventually(lambda: thread.status is Status.SUCCEEDED)
        assert thread.info.epoch == 1
        eventually(lambda: not actors[worker].alive, what="the worker's end")
        eventually(lambda: not find_actors(key_of(client)))
        assert not users_of(client.store.path)  # type: ignore[attr-defined]


def test_the_end_of_a_service_leaves_no_process(serve: Serve, folder: str) -> None:
    client = serve()
    client.submit(graph, {"do": "last", "folder": folder}).result(timeout=60)
    assert users_of(client.store.path)  # type: ignore[attr-defined]
    end(client)
    assert not users_of(client.store.path)  # type: ignore[attr-defined]
