"""Who still needs the local head: clients, each by a file of its own, and stores with work.

Files rather than calls, since files outlive those who wrote them: neither a dead client nor a dead supervisor can leave
the head with a wrong picture.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from ..stores.processes import ProcessId
from .endpoint import Endpoint
from .paths import HeadPaths


class Registration:
    """Keeps the head from ending while this process has it open; a context manager, and `close` may be called twice.

    A process may hold several. One that dies without closing is recognised by its pid and start time.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._own = own = ProcessId.own()
        self.path = endpoint.paths.clients / f"{own.pid}-{own.started}-{secrets.token_hex(4)}"
        self.path.touch(mode=0o600)

    def close(self) -> None:
        """Not needed any more. The file may be gone: a newer head clears away those of its predecessor."""
        # A fork has a copy of this object, which is not its own.
        if ProcessId.own() == self._own:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def clients(paths: HeadPaths) -> list[ProcessId]:
    """The living clients, one entry per registration; files of dead ones are removed."""
    living = []
    for path in _entries(paths.clients):
        process = _process(path.name)
        if process is not None and process.alive:
            living.append(process)
        else:
            path.unlink(missing_ok=True)
    return living


def busy(paths: HeadPaths) -> bool:
    """Whether some store has a runnable thread or a timer (see `HeadPaths.busy_file`)."""
    return bool(_entries(paths.busy))


def forget_all(paths: HeadPaths) -> None:
    """Clear away what was left by the clients and stores of a head that is gone."""
    for path in (*_entries(paths.clients), *_entries(paths.busy)):
        path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _process(name: str) -> ProcessId | None:
    pid, _, rest = name.partition("-")
    started = rest.partition("-")[0]
    return ProcessId(int(pid), int(started)) if pid.isdecimal() and started.isdecimal() else None
