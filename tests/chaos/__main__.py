"""`python -m tests.chaos`: chaos for as long as one likes, on a Ray of its own."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

from perdure import HeadOptions
from perdure.cluster.head import stop_head
from tests.chaos.places import PLACES
from tests.chaos.run import chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill, stop and starve a real service.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults strike (60)")
    parser.add_argument("--seed", type=int, default=None, help="which faults strike when; drawn by default")
    parser.add_argument(
        "--store", choices=[*PLACES, "all"], default="postgres", help="what the service keeps its threads in"
    )
    parser.add_argument("--keep", type=Path, default=None, help="a new folder for logs and data, which is then kept")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    stores = list(PLACES) if given.store == "all" else [given.store]
    with tempfile.TemporaryDirectory(prefix="perdure-chaos-") as made:
        base = given.keep or Path(made)
        base.mkdir(exist_ok=True)
        head = HeadOptions(num_cpus=2, folder=base / "head", start_timeout=timedelta(minutes=3))
        try:
            broken = 0
            for store in stores:
                folder = base / store
                folder.mkdir()
                report = chaos(head, folder, store, seed=seed, seconds=given.seconds, tell=partial(print, flush=True))
                print(report, flush=True)
                broken += len(report.broken)
        finally:
            stop_head(folder=base / "head")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
