"""A clock that can be set, for all processes of a node: libfaketime from the wheel, preloaded into its raylet.

Only the time of day moves. The monotonic clock goes on, as it does on a machine whose clock is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from perdure.stores.processes import ProcessId
from tests.servers.process import wheel

LIBRARY = Path("vendor", "libfaketime", "src", "libfaketime.so.1")


class Clock:
    """What a node is started with, and what sets its clock while it runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(timedelta(0))

    @property
    def environment(self) -> Mapping[str, str]:
        """Of the node's processes."""
        return {
            "LD_PRELOAD": str(wheel("libfaketime") / LIBRARY),
            "RAY_LD_PRELOAD_ON_WORKERS": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # Its correction of timed waits has them end at once where the monotonic clock is left alone: Ray waits for
            # the threads of an actor's pools so, and ends the process when they are not there in time.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set(self, ahead: timedelta) -> None:
        """So far from the true time, from within a second on. Negative: behind."""
        text = f"{ahead.total_seconds():+.0f}\n"
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._file)


def sweep_up() -> None:
    """Remove the shared memory that libfaketime leaves behind where the process that made it was killed."""
    for left in Path("/dev/shm").glob("*faketime_*_*"):
        if not ProcessId.of(int(left.name.rpartition("_")[2])).alive:
            left.unlink(missing_ok=True)
