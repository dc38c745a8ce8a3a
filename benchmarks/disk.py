"""What a durable write costs on this disk, whoever asks for it: the floor under every commit."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median


def sync_seconds(folder: Path, writes: int = 50) -> float:
    """Median time to write four kilobytes and have them on the disk."""
    path = folder / "sync"
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    times = []
    try:
        for number in range(writes):
            os.pwrite(file, bytes(4096), number * 4096)
            started = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - started)
    finally:
        os.close(file)
        path.unlink()
    return median(times)
