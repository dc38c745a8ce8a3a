"""Servers that are shot down and come back under load: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from perdure.runtime.ports import LoopLimits
from tests.faults.acks import Acknowledged
from tests.faults.load import SLOTS, Load, Outage, figures, load
from tests.faults.owners import Slot
from tests.servers.cluster import SLOTS as SLOTS_OF_CLUSTER
from tests.servers.cluster import RedisCluster
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

AWAY = (0.0, 1.5, 0.2)
"""Seconds that a server stays away, by turns. In the longest one sprints come to the end of what they may run ahead."""

BETWEEN = 40
"""Commits between two outages."""


def outages(running: Load, count: int, down: Callable[[], None], up: Callable[[], None]) -> list[Outage]:
    """So many, each once the load is under way again."""
    found = []
    for number in range(count):
        running.until_more(BETWEEN)
        down()
        gone = time.monotonic()
        time.sleep(AWAY[number % len(AWAY)])
        starting = time.monotonic()
        up()
        found.append(Outage(gone, starting, time.monotonic()))
    running.until_more(BETWEEN)
    return found


def check_that_it_hurt(log: Path, found: list[Outage]) -> None:
    """While the server was away nothing was acknowledged but what it had answered before, at most one commit of each
    slot; and a sprint came to the end of what it may run ahead."""
    acked = Acknowledged.of(log)
    print(figures(acked, found))
    times = [at for at, _ in acked.commit_times]
    for outage in found:
        assert sum(outage.gone < at < outage.starting for at in times) <= sum(map(len, SLOTS))
    assert max(peak for (peak,) in acked.others["peak"]) > LoopLimits().ahead_commits // 2


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_postgres_is_stopped_at_once_and_started(tmp_path: Path, count: int) -> None:
    with PostgresServer() as server:
        with load(server.database(), tmp_path) as running:
            spans = outages(running, count, lambda: server.stop(immediate=True), server.start)
        check_that_it_hurt(running.log, spans)


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_redis_is_killed_and_started(tmp_path: Path, count: int) -> None:
    with RedisServer() as server:
        with load(server.url, tmp_path) as running:
            spans = outages(running, count, server.kill, server.start)
        check_that_it_hurt(running.log, spans)


def lies_on(node: int, thread_id: str) -> bool:
    """Whether a thread is on this node."""
    return HOMES[partition_of(thread_id)] == node


def lies_beside(node: int, thread_id: str) -> bool:
    return not lies_on(node, thread_id)


def partition_of(thread_id: str) -> int:
    """As a Redis store of 16 partitions has it."""
    return zlib.crc32(thread_id.encode()) % 16


def answer_for_themselves(cluster: RedisCluster) -> None:
    """Otherwise no node answers any more as soon as one is known to be gone. A node that is started forgets it."""
    for node in cluster.nodes:
        with redis.Redis(port=node.port) as client:
            client.config_set("cluster-require-full-coverage", "no")


HOMES = {number: key_slot(f"p{number}".encode()) * 3 // SLOTS_OF_CLUSTER for number in (0, 2, 3, 4, 6, 7)}
"""Some partitions, by the node of a cluster of three that has them."""


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_a_node_of_a_redis_cluster_is_killed_and_the_others_go_on(tmp_path: Path, count: int) -> None:
    with RedisCluster() as cluster:
        answer_for_themselves(cluster)
        partitions = list(HOMES)
        slots = [
            [Slot("talk", durability, f"{durability} {number}", (number, 16)) for number in half]
            for durability, half in (("sync", partitions[:3]), ("async", partitions[3:]))
        ]

        with load(cluster.url, tmp_path, slots=slots, partition_of=partition_of) as running:
            for number in range(count):
                gone = number % len(cluster.nodes)
                running.until_more(BETWEEN)
                cluster.nodes[gone].kill()
                fell = time.monotonic()
                # Beyond the 2 s after which the others give the node up.
                while time.monotonic() < fell + 3:
                    running.until_more(BETWEEN, partial(lies_beside, gone))
                cluster.start()
                answer_for_themselves(cluster)
                running.until_more(10, partial(lies_on, gone))
