"""Chaos on real services: everything dies and freezes and comes back at random, and V1 to V8 hold (`checks`, `leaks`).

The seed says which faults strike when: `python -m tests.chaos --seed 7 --seconds 600 --store redis`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import HeadOptions
from tests.actors.conftest import member
from tests.chaos.places import PLACES
from tests.chaos.run import chaos

__all__ = ["member"]

SEED = 4


@pytest.mark.timeout(600)
def test_a_minute_of_chaos(member: HeadOptions, tmp_path: Path) -> None:
    report = chaos(member, tmp_path, "postgres", seed=SEED, seconds=60.0, tell=print)
    print(report)
    assert not report.broken, str(report)
    # A quiet machine sees fifty; on one that is busy each waits until the service works again.
    assert sum(report.struck.values()) >= 10, str(report)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("store", PLACES)
def test_minutes_of_chaos(member: HeadOptions, tmp_path: Path, store: str, seed: int) -> None:
    report = chaos(member, tmp_path, store, seed=seed, seconds=300.0, tell=print)
    print(report)
    assert not report.broken, str(report)
