"""This process as an owner of threads: its name, and whether another such owner is still alive."""

from __future__ import annotations

import socket

from ..stores.processes import ProcessId, boot


def process_owner() -> str:
    """Name of this process as an owner: host, boot, pid and start time, which together no other process ever has."""
    own = ProcessId.own()
    return f"{socket.gethostname()}:{boot()}:{own.pid}:{own.started}"


def owner_alive(owner: str) -> bool:
    """Whether the process that `process_owner` named still runs. For one of another host nobody here can tell: then
    False, and the store's fence decides."""
    parts = owner.rsplit(":", 3)
    if len(parts) != 4 or parts[:2] != [socket.gethostname(), boot()]:
        return False
    return parts[2].isdecimal() and parts[3].isdecimal() and ProcessId(int(parts[2]), int(parts[3])).alive
