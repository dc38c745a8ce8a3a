"""Runs one server for as long as its test process lives. Started as a script, in a process of its own.

    python -I -S keeper.py PARENT USER SIGNAL FOLDER COMMAND...

A pytest that is killed ends no fixture. The keeper notices it, ends the server and removes its folder. It prints the
server's pid, and its exit code is the server's (128 + number for a signal, as in a shell).
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1

GRACE = 5.0
"""Seconds that an orphaned server has to end by itself."""


def die_with_keeper() -> None:
    # Against an out-of-memory killer that picks the keeper. Set after the change of user, which would clear it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def keep(parent: int, user: int, gentle: signal.Signals, folder: str, command: list[str]) -> int:
    watch = _watch(parent)
    if watch is None:
        shutil.rmtree(folder, ignore_errors=True)
        return 1
    other = None if user == os.geteuid() else user
    server = subprocess.Popen(
        command,
        # Not the keeper's own output, of which nobody reads more than the pid.
        stdout=sys.stderr,
        preexec_fn=die_with_keeper,  # noqa: PLW1509 — this process has one thread
        user=other,
        group=other,
        extra_groups=None if other is None else [],
    )
    print(server.pid, flush=True)
    select.select([watch, os.pidfd_open(server.pid)], [], [])
    if server.poll() is None:
        _end(server, gentle)
        shutil.rmtree(folder, ignore_errors=True)
    code: int = server.returncode
    return code if code >= 0 else 128 - code


def _watch(parent: int) -> int | None:
    """A descriptor that is readable once the parent is gone; None if it died before its keeper had begun."""
    try:
        watch = os.pidfd_open(parent)
    except ProcessLookupError:
        return None
    return watch if os.getppid() == parent else None


def _end(server: subprocess.Popen[bytes], gentle: signal.Signals) -> None:
    # A stopped process gets its signals only once it goes on.
    server.send_signal(gentle)
    server.send_signal(signal.SIGCONT)
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), int(sys.argv[2]), signal.Signals[sys.argv[3]], sys.argv[4], sys.argv[5:]))
