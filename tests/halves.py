"""Runs the test suite in two pytest processes side by side: much of it waits, for servers, leases and new processes.

    python -m tests.halves [OPTION OF PYTEST ...]

The halves share nothing but the checkout: each starts servers and a Ray of its own, at ports and in folders of its own.
What the second prints is shown when both have ended. The exit code is 0 only if both have passed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIRST = ("actors", "cluster", "nodes", "recovery")
"""Folders of the half with most of Ray; whatever is not named here is in the other one."""


def main(options: list[str]) -> int:
    """Run both halves; returns the exit code."""
    folders = [f"tests/{folder}" for folder in FIRST]
    with tempfile.TemporaryFile() as told:
        others = [f"--ignore={folder}" for folder in folders]
        second = subprocess.Popen(_pytest("second", *options, *others), cwd=ROOT, stdout=told, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.call(_pytest("first", *options, *folders), cwd=ROOT), second.wait()]
        finally:
            second.terminate()
            second.wait()
        told.seek(0)
        sys.stdout.buffer.write(told.read())
        sys.stdout.flush()
    return next((code for code in codes if code), 0)


def _pytest(half: str, *options: str) -> list[str]:
    # A cache for each, so that --lf knows what failed in both: pytest --lf -o cache_dir=.pytest_cache/first.
    return [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir=.pytest_cache/{half}", *options]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
