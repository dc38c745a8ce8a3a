"""Where the local head keeps its files: one folder per user and machine."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "PERDURE_HOME"


def home() -> Path:
    """The user's folder: `$PERDURE_HOME`, else `$XDG_STATE_HOME/perdure`, else `~/.local/state/perdure`."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "perdure"


@dataclass(frozen=True, slots=True)
class HeadPaths:
    """The files of one head. All of them are on this machine's disk and only their user may read them."""

    root: Path

    @classmethod
    def of(cls, folder: Path | None = None) -> HeadPaths:
        """The head of `folder` (by default `home()`) on this machine.

        The machine's name is in the path: a home may be shared by network, and another machine's pids mean nothing.
        """
        machine = re.sub(r"[^A-Za-z0-9._-]", "_", platform.node()) or "localhost"
        return cls((folder or home()) / f"head-{machine}")

    @property
    def lock(self) -> Path:
        """Held by whoever starts, joins or stops a head."""
        return self.root / "lock"

    @property
    def life(self) -> Path:
        """Locked by the daemon as long as it lives; tells its pid before there is an endpoint."""
        return self.root / "daemon"

    @property
    def endpoint(self) -> Path:
        """How to reach the head; there only while one answers, or one died without cleaning up."""
        return self.root / "endpoint.json"

    @property
    def joined(self) -> Path:
        """Touched by everyone who joins, which starts the idle time anew."""
        return self.root / "joined"

    @property
    def token(self) -> Path:
        """The secret that Ray asks of everyone who connects."""
        return self.root / "token"

    @property
    def log(self) -> Path:
        """What the daemon printed."""
        return self.root / "head.log"

    @property
    def clients(self) -> Path:
        """One file per client."""
        return self.root / "clients"

    @property
    def busy(self) -> Path:
        """One file per store that has work."""
        return self.root / "busy"

    def busy_file(self, store: str) -> Path:
        """The file that, while it exists, says that a store (by its `StoreConfig.identity`) has a runnable thread or a
        timer.

        Whoever finds work in the store touches it (before accepting the work); only who has swept the store and found
        none may unlink it. A supervisor that dies leaves it behind, so the head stays until another one has looked.
        """
        return self.busy / hashlib.sha256(store.encode()).hexdigest()[:32]

    def prepare(self) -> None:
        """Create the folders, closed to other users. Raises `OSError`."""
        for folder in (self.root, self.clients, self.busy):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkdir leaves a folder that was there as it was; the token in it must not be readable by others.
        self.root.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its user only: a reader sees the old text or the new, never a part."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
