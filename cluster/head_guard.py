"""The daemon's guard: a process that does nothing until the daemon is gone, then ends what is left of it.

The kernel ends Ray's core with the daemon, but its agents were seen to stay on for 15 s, and nothing would end
what a node has started, or remove the files.
"""

from __future__ import annotations

import os
import signal

from ..stores.processes import ProcessId
from .endpoint import read_endpoint
from .life import kill_family, remove_temp
from .paths import HeadPaths

TIMEOUT = 30.0


def post_guard(paths: HeadPaths, temp_dir: str) -> ProcessId:
    """Fork the guard of this process. Call it before there are threads, and after `seize_life`: it shares that lock, so
    that no other daemon begins before the guard has finished."""
    daemon = ProcessId.own()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        # The writing end is left open: it closes when this process ends, however it ends, and that is the signal.
        os.close(reader)
        return ProcessId.of(pid)
    try:
        os.close(writer)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(reader, 1)
        _sweep(paths, daemon, temp_dir)
    finally:
        # Not the way back into the daemon's code, of which this is a copy.
        os._exit(0)


def _sweep(paths: HeadPaths, daemon: ProcessId, temp_dir: str) -> None:
    kill_family(daemon, frozenset(), TIMEOUT)
    endpoint = read_endpoint(paths)
    if endpoint is not None and endpoint.process == daemon:
        paths.endpoint.unlink(missing_ok=True)
    remove_temp(temp_dir)
