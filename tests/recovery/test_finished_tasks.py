"""A task that has finished is durable at once, while others of its step still run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from perdure.stores.segments import Kind
from tests.actors.conftest import Serve
from tests.actors.services import eventually, owner_pid
from tests.recovery.checks import check_attempts, check_history
from tests.recovery.faults import Notes
from tests.recovery.graphs_small import pair


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_finished_task_survives_the_owner(serve: Serve, tmp_path: Path, durability: str) -> None:
    """With sync durability results used to wait for the end of the step: a kill before it ran all of them again."""
    client = serve()
    store = client.store
    go = tmp_path / "go"
    notes = Notes.beside(tmp_path / "own.db", "t")
    notes.write_plan([])
    thread = client.submit(
        pair, {"go": str(go)}, thread_id="t", durability=durability, configurable={"log": str(notes.log)}
    )

    def durable() -> bool:
        rows = [row for segment in store.segments("t") for row in segment.rows]
        return any(row.kind == Kind.RESULT and row.channel == "quick" for row in rows)

    eventually(durable, 60, "the result of the quick node")
    eventually(lambda: len([one for one in notes.entries() if "start" in one]) == 2, 60, "the slow node")
    os.kill(owner_pid(client, "t"), signal.SIGKILL)
    eventually(lambda: thread.info.epoch == 2, 60, "another owner")
    go.touch()
    assert thread.result(timeout=60)["done"] == ["quick", "slow"]
    started = check_attempts("t", check_history(store, "t"), notes.entries())
    assert {task.rpartition("\n")[2]: times for task, times in started.items()} == {"quick": 1, "slow": 2}
