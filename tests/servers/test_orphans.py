"""A test process that is killed, or that just ends, leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.servers.process import KEEPER

ROOT = Path(__file__).parents[2]

HOLDER = """
import json, os, signal, sys, threading
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

servers = [PostgresServer(), RedisServer()]
# The thread that starts a server may well be gone before the server is.
for server in servers:
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
print(json.dumps([[server.pid, str(server.folder)] for server in servers]), flush=True)
sys.stdin.read()
os.kill(servers[0].pid, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_servers_end_with_a_test_process_that_is_killed() -> None:
    """One of them frozen by a test at that moment."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    found: list[tuple[int, str]] = json.loads(holder.stdout.readline())
    processes = [psutil.Process(pid) for pid, _ in found]
    keepers = [parent for process in processes if (parent := process.parent())]
    family = [*processes, *keepers, *(child for process in processes for child in process.children(recursive=True))]
    assert len(family) > 6
    segment = Path(found[0][1], "data", "postmaster.pid").read_text().splitlines()[6].split()[1]
    assert segment in shared_memory()
    holder.communicate()
    _, alive = psutil.wait_procs(family, 30)
    assert alive == []
    assert [folder for _, folder in found if Path(folder).exists()] == []
    assert segment not in shared_memory()


def test_a_keeper_that_comes_too_late_starts_nothing(tmp_path: Path) -> None:
    """The test process was killed in the moment after it had started the keeper: its folder stayed."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-I", "-S", str(KEEPER), str(gone.pid), str(os.geteuid()), "SIGKILL", str(folder)]
    done = subprocess.run([*command, "touch", str(tmp_path / "started")], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    assert list(tmp_path.iterdir()) == []


def shared_memory() -> set[str]:
    """System V segments of this machine; each Postgres holds one."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
