"""The process that submitted is killed: its threads go on, and another process finds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import HeadOptions, Interrupted, connect
from tests.actors.services import end, eventually
from tests.recovery.checks import check_attempts, check_history
from tests.recovery.faults import Notes
from tests.recovery.graphs_small import rounds, ticks

DRIVER = """
import sys, time
from perdure import connect
from tests.recovery.graphs_small import rounds, ticks

client = connect(sys.argv[1])
client.submit(ticks, {"steps": 60, "seconds": 0.02}, thread_id="running", configurable={"log": sys.argv[2]})
client.submit(rounds, {"round": 1}, thread_id="asking")
print("submitted", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_its_threads_go_on(member: HeadOptions, tmp_path: Path, number: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    notes = Notes.beside(tmp_path / "own.db", "running")
    notes.write_plan([])
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, url, str(notes.log)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "submitted\n"
        driver.send_signal(number)
    with connect(url, head=member) as client:
        try:
            running, asking = client.thread("running", graph=ticks), client.thread("asking", graph=rounds)
            assert running.result(timeout=60)["n"] == 60
            assert running.info.epoch == 1
            started = check_attempts("running", check_history(client.store, "running"), notes.entries())
            assert set(started.values()) == {1}
            eventually(lambda: len(asking.interrupts) == 2, 30, "both questions")
            with pytest.raises(Interrupted):
                asking.result(timeout=60)
            asking.resume(dict.fromkeys(asking.interrupts, "yes"))
            assert asking.result(timeout=60)["answers"] == ["yes", "yes"]
        finally:
            end(client)
