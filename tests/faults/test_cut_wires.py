"""The wire to a server is cut once, at every point of a thread's life: before the n-th thing said reaches the server,
right after it, or when the server has done it and answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from perdure.stores.urls import open_store
from tests.faults.lives import live
from tests.faults.wire import HOWS, CuttingProxy
from tests.sim.faults import Delegating

SPREAD = 12
"""Points, where all of them would take too long."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A store on a wire, and the same one beside it."""

    proxy: CuttingProxy
    url: str
    direct: str

    def said(self, folder: Path, durability: str, number: int = 0, how: str = "") -> int:
        """Live a life while the wire is cut; how often a client spoke in it."""
        name = f"{durability} {how} {number}"
        with open_store(self.direct) as judged, open_store(self.url) as store:
            self.proxy.arm(number, how)
            live(Kept(store), judged, folder / f"acks of {name}", name, durability)
            return self.proxy.spoken


class Kept(Delegating):
    """A store that its user cannot close."""

    def close(self) -> None:
        return


@pytest.fixture(params=["postgres_url", "redis_url"])
def wired(request: pytest.FixtureRequest) -> Iterator[Wire]:
    direct: str = request.getfixturevalue(request.param)
    parts = urlsplit(direct)
    assert parts.hostname is not None
    assert parts.port is not None
    with CuttingProxy((parts.hostname, parts.port)) as proxy:
        yield Wire(proxy, direct.replace(f":{parts.port}/", f":{proxy.port}/"), direct)


def test_cut_at_a_spread_of_points(wired: Wire, tmp_path: Path) -> None:
    said = wired.said(tmp_path, "sync")
    cuts = 0
    for i in range(SPREAD):
        wired.said(tmp_path, "sync", 1 + round(i * (said - 1) / (SPREAD - 1)), HOWS[i % len(HOWS)])
        cuts += wired.proxy.cuts
    # In the first life the server may have learned scripts, which is said once.
    assert cuts >= SPREAD - 2


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_cut_at_every_point(wired: Wire, tmp_path: Path, durability: str, how: str) -> None:
    said = wired.said(tmp_path, durability)
    cuts = 0
    for number in range(1, said + 1):
        wired.said(tmp_path, durability, number, how)
        cuts += wired.proxy.cuts
    assert cuts > 0.8 * said
