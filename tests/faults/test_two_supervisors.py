"""Two supervisors of one service at once, as when one is cut off from Ray, but not from the store."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import ray

from perdure.actors.names import NAMESPACE, supervisor_name
from perdure.actors.supervisor import SUPERVISOR_OPTIONS, SupervisorClass
from tests.actors.conftest import Serve
from tests.actors.services import eventually, key_of, owner_pid, supervisor_process
from tests.faults.counting import start_counting


def test_both_look_after_the_same_threads(serve: Serve, tmp_path: Path) -> None:
    """A supervisor took threads from the actors that another one had started, and charged them with a crash."""
    client = serve(max_actors=6)
    first = [start_counting(client, tmp_path) for _ in range(2)]
    for running in first:
        running.go_on(3)
    replaced = supervisor_process(client)
    name = f"{supervisor_name(key_of(client))}.other"
    other: Any = SupervisorClass.options(name=name, namespace=NAMESPACE, **SUPERVISOR_OPTIONS).remote(
        client._settings, ""
    )
    try:
        second = [start_counting(client, tmp_path) for _ in range(2)]
        eventually(lambda: not replaced.alive, 60, "the end of the one whose place the other has taken")
        struck, *others = (*first, *second)
        for running in (struck, *others):
            running.go_on()
            assert running.thread.info.epoch == 1
        os.kill(owner_pid(client, struck.thread.thread_id), signal.SIGKILL)
        eventually(lambda: struck.thread.info.epoch > 1, 60, "a new owner")
        for running in (struck, *others):
            running.go_on()
            assert running.thread.info.crashes == 0
        assert {running.thread.info.epoch for running in others} == {1}
        for running in (struck, *others):
            running.finish(client)
    finally:
        ray.kill(other, no_restart=True)
