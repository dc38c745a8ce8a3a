"""How an actor came to its end, and whom that is charged to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import ray
from ray.exceptions import ActorUnavailableError

from perdure import Client, ThreadHandle
from perdure.actors.names import NAMESPACE
from tests.actors.conftest import Serve
from tests.actors.graphs_shared import steps, walk
from tests.actors.services import eventually, owner_pid, stop, supervisor_process


def spinning(client: Client, folder: str) -> tuple[ThreadHandle, int]:
    """A thread whose node is busy until the folder has a file `go`, and the process that it is in. What came before the
    node is durable: else the next owner commits that first, and a crash counts until the thread has come further."""
    state = {"name": "spin", "folder": folder, "n": 0, "until": 1, "at_end": "spin", "seconds": 0.0}
    thread = client.submit(walk, state)
    pid = owner_pid(client, thread.thread_id)
    eventually(lambda: steps(folder), 60, "the node to run")
    eventually(lambda: thread.info.head, 60, "what came before it to be durable")
    return thread, pid


def goes_on_charged(thread: ThreadHandle, folder: str) -> None:
    eventually(lambda: thread.info.epoch == 2, 60, "a new owner")
    assert thread.info.crashes == 1
    Path(folder, "go").touch()
    assert thread.result(timeout=60)["n"] == 1


def test_a_crash_that_ray_reports_late_is_charged(serve: Serve, folder: str) -> None:
    """On a busy machine it counted as a broken wire and was charged to nobody: a thread that ended each of its
    processes got one more than its budget allows."""
    client = serve()
    thread, pid = spinning(client, folder)
    owner = ray.get_actor(thread.info.owner, namespace=NAMESPACE)
    raylet = psutil.Process(pid).parent()
    assert raylet is not None
    assert raylet.name() == "raylet"
    frozen = stop(raylet.pid)
    try:
        os.kill(pid, signal.SIGKILL)
        # As for the supervisor's call: given up, since nobody has reported the death in time.
        with pytest.raises(ActorUnavailableError):
            ray.get(owner.stalled.remote(), timeout=60)
    finally:
        frozen.send(signal.SIGCONT)
    goes_on_charged(thread, folder)


def test_a_crash_that_no_supervisor_saw_is_charged(serve: Serve, folder: str) -> None:
    """Its node goes on. (One that is lost with the node is not: tests/nodes/test_cluster_faults.py.)"""
    client = serve()
    thread, pid = spinning(client, folder)
    supervisor = supervisor_process(client)
    supervisor.send(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    supervisor.send(signal.SIGKILL)
    goes_on_charged(thread, folder)
