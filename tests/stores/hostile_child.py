"""A process with little memory and time that decodes hostile bytes: `python -m tests.stores.hostile_child FILE SEED
ROUNDS`. Before each attempt FILE is told what is about to be decoded. Prints JSON: attempts, how many decoded, MiB by
which the process grew at most."""

from __future__ import annotations

import json
import random
import resource
import sys
from itertools import chain
from pathlib import Path

from tests.stores.hostile import TARGETS, attempt, bombs, mutations

MEMORY = 1 << 30
"""Bytes of address space beyond those of the libraries."""


def main(file: Path, seed: int, rounds: int) -> None:
    hostile = list(bombs())
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (60 + rounds // 50, 70 + rounds // 50))
    _forget_peak()
    before = _peak()
    attempts = decoded = 0
    with file.open("wb", buffering=0) as log:
        some = mutations(random.Random(seed), rounds)
        for name, target, data in chain(hostile, (("mutation", target, data) for target, data in some)):
            log.seek(0)
            log.truncate()
            log.write(f"{name}, {target}, {len(data)} bytes: {data[:20_000].hex()}".encode())
            decoded += attempt(TARGETS[target], data)
            attempts += 1
    print(json.dumps({"attempts": attempts, "decoded": decoded, "grown": _peak() - before}))


def _forget_peak() -> None:
    """What making the bombs took is no fault of who decodes them."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) >> 10


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
