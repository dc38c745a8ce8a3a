"""How an actor came to its end, and whom that is charged to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import ray
from ray.exceptions import ActorUnavailableError

from perdure.actors.names import NAMESPACE
from tests.actors.conftest import Serve
from tests.actors.graphs_shared import steps, walk
from tests.actors.services import eventually, owner_pid, stop


def test_a_crash_that_ray_reports_late_is_charged(serve: Serve, folder: str) -> None:
    """On a busy machine it counted as a broken wire and was charged to nobody: a thread that ended each of its
    processes got one more than its budget allows."""
    client = serve()
    state = {"name": "late", "folder": folder, "n": 0, "until": 1, "at_end": "spin", "seconds": 0.0}
    thread = client.submit(walk, state)
    pid = owner_pid(client, thread.thread_id)
    eventually(lambda: steps(folder), 60, "the node to run")
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
    eventually(lambda: thread.info.epoch == 2, 60, "a new owner")
    assert thread.info.crashes == 1
    Path(folder, "go").touch()
    assert thread.result(timeout=60)["n"] == 1
