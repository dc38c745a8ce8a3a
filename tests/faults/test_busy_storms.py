"""Another program that takes SQLite's own lock on the database again and again, past the file by which ours queue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.actors.conftest import Serve
from tests.faults.counting import start_counting

STORM = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
print("begun", flush=True)
while True:
    connection.execute(random.choice(["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]))
    time.sleep(random.uniform(0.0, 0.06))
    connection.execute("COMMIT")
    time.sleep(random.uniform(0.0, 0.01))
"""


def test_threads_go_on_between_the_locks_of_somebody_else(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    threads = [start_counting(client, tmp_path, durability) for durability in ("sync", "async")]
    for running in threads:
        running.go_on(3)
    with subprocess.Popen(
        [sys.executable, "-c", STORM, str(tmp_path / "own.db")], stdout=subprocess.PIPE, text=True
    ) as storm:
        try:
            assert storm.stdout is not None
            assert storm.stdout.readline() == "begun\n"
            late = start_counting(client, tmp_path)
            for running in (*threads, late):
                running.go_on(30)
                running.finish(client)
        finally:
            storm.kill()
    assert [running.thread.info.epoch for running in (*threads, late)] == [1, 1, 1]
