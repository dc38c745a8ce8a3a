"""The head of the cluster is lost, and nothing has kept its tables: what it ran goes on on the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.stores.processes import ProcessId, wait_gone

ROOT = Path(__file__).parents[2]


def program(what: str, where: str, folder: Path, told: str = "{}") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.head_lost", what, where, f"sqlite:///{folder}/own.db", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOLD": told}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("where", ["local", pytest.param("nodes", marks=pytest.mark.full)])
def test_its_threads_go_on_where_the_next_one_is(tmp_path: Path, where: str) -> None:
    """`nodes`: the other node outlives the head for a while, and so do the owners on it; they go on, and when they end
    the next cluster's take over."""
    (tmp_path / "notes").mkdir()
    with program("begin", where, tmp_path) as first:
        try:
            assert first.stdout is not None
            told = json.loads(next(line for line in first.stdout if line.startswith("{")))
            lost = [ProcessId.of(pid) for pid in told["lost"]]
            for process in lost:
                process.send(signal.SIGKILL)
            assert not wait_gone(lost, 30)
        finally:
            first.kill()
    with program("finish", where, tmp_path, json.dumps(told["threads"])) as second:
        out, _ = second.communicate(timeout=280)
        assert second.returncode == 0
    ended = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    # A lost cluster is nobody's crash.
    assert ended == [[2, 0], [2, 0]]
