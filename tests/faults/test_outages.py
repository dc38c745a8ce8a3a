"""Servers that are shot down and come back under load: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from perdure.runtime.ports import LoopLimits
from tests.faults.acks import Acknowledged
from tests.faults.load import Load, figures, load
from tests.faults.owners import Slot
from tests.servers.cluster import RedisCluster
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

Span = tuple[float, float]

AWAY = (0.0, 1.5, 0.2)
"""Seconds that a server stays away, by turns. In the longest one sprints come to the end of what they may run ahead."""


def outages(running: Load, count: int, down: Callable[[], None], up: Callable[[], None]) -> list[Span]:
    """So many, each once the load is under way again; when they were (monotonic seconds)."""
    spans = []
    for number in range(count):
        running.until_more(100)
        down()
        began = time.monotonic()
        time.sleep(AWAY[number % len(AWAY)])
        up()
        spans.append((began, time.monotonic()))
    running.until_more(100)
    return spans


def check_that_it_hurt(log: Path, spans: list[Span]) -> None:
    """There was an outage in the middle of the load, and a sprint came to the end of what it may run ahead."""
    acked = Acknowledged.of(log)
    print(figures(acked, spans))
    times = [at for at, _ in acked.commit_times]
    assert all(any(at < down for at in times) and any(at > up for at in times) for down, up in spans)
    assert not any(down + 0.1 < at < up - 1.0 for at in times for down, up in spans)
    assert max(peak for (peak,) in acked.others["peak"]) > LoopLimits().ahead_commits // 2


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_postgres_is_stopped_at_once_and_started(tmp_path: Path, count: int) -> None:
    with PostgresServer() as server:
        with load(server.database(), tmp_path) as running:
            spans = outages(running, count, lambda: server.stop(immediate=True), server.start)
        check_that_it_hurt(running.log, spans)


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_redis_is_killed_and_started(tmp_path: Path, count: int) -> None:
    with RedisServer() as server:
        with load(server.url, tmp_path) as running:
            spans = outages(running, count, server.kill, server.start)
        check_that_it_hurt(running.log, spans)


PARTITIONS = 16


def partition_of(thread_id: str) -> int:
    """As the store has it."""
    return zlib.crc32(thread_id.encode()) % PARTITIONS
