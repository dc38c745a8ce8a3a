"""Threads that sleep in a service: no process holds them, no supervisor has to remember them."""

from __future__ import annotations

import os

import ray

from perdure import Client, HeadOptions, Status, ThreadHandle
from perdure.actors.names import NAMESPACE, supervisor_name
from tests.actors.conftest import Serve
from tests.actors.graphs_menu import graph, lines
from tests.actors.services import eventually, key_of


def napping(client: Client, folder: str, seconds: float) -> ThreadHandle:
    thread = client.submit(graph, {"do": "nap", "folder": folder, "n": seconds})
    eventually(lambda: thread.status is Status.SLEEPING, seconds=60, what="its sleep")
    return thread


def woke(folder: str) -> list[float]:
    return [float(line.partition(" ")[2]) for line in lines(folder, "woke")]


def test_a_sleeper_holds_no_actor_is_woken_once_and_not_too_early_whatever_becomes_of_the_supervisor(
    client: Client, folder: str
) -> None:
    thread = napping(client, folder, 4)
    wake_at = thread.info.wake_at
    assert not thread.info.owner
    eventually(lambda: all(not actor["threads"] for actor in client.actors()), what="free actors")
    ray.kill(ray.get_actor(supervisor_name(key_of(client)), namespace=NAMESPACE), no_restart=False)
    assert thread.result(timeout=60)["items"] == ["first", "slept", "last"]
    (moment,) = woke(folder)
    assert moment >= wake_at - 0.005
    # It began at its first line twice; once it was woken.
    assert lines(folder, "nap") == ["nap", "nap"]
    assert [one.kind for one in client.store.messages(thread.thread_id, unread=False)].count("wake") == 1
    assert thread.info.crashes == 0


def test_many_sleepers_wake_each_at_its_time(client: Client, folder: str) -> None:
    threads = [client.submit(graph, {"do": "nap", "folder": folder, "n": 1 + i / 20}) for i in range(12)]
    assert all(thread.result(timeout=90)["items"] == ["first", "slept", "last"] for thread in threads)
    assert len(woke(folder)) == len(threads)


def test_a_head_stays_for_a_timer_that_is_far_away_and_not_for_a_question(
    serve: Serve, member: HeadOptions, folder: str
) -> None:
    client = serve()
    busy = member.paths.busy_file(client._settings.store.identity)
    asking = client.submit(graph, {"do": "ask", "folder": folder})
    eventually(lambda: asking.status is Status.INTERRUPTED, seconds=60)
    eventually(lambda: not busy.exists(), what="a head that nobody needs")
    thread = napping(client, folder, 1e6)
    os.utime(busy, (1, 1))
    eventually(lambda: busy.stat().st_mtime > 1, what="a supervisor that needs the head")
    thread.cancel()
    eventually(lambda: thread.status is Status.CANCELLED, seconds=30)
    eventually(lambda: not busy.exists(), what="a head that nobody needs")
