"""The Redis and the Redis Cluster that the tests use: what they are, and that their faults are real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psutil
import pytest
import redis

from tests.servers.cluster import ClusterDatabase, RedisCluster
from tests.servers.process import ServerFailed
from tests.servers.redis import RedisDatabase, RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.empty()) as client:
        yield client


def test_it_is_a_real_one_that_keeps_what_it_acknowledged(client: redis.Redis) -> None:
    assert client.info("server")["redis_version"].startswith("6.2")
    expected = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}
    assert {name: client.config_get(name)[name] for name in expected} == expected


def test_killed_it_comes_back_with_every_acknowledged_write(server: RedisServer, client: redis.Redis) -> None:
    """Killed while somebody writes as fast as he can: what he was told to be written is there."""
    acknowledged: list[int] = []

    def write() -> None:
        with redis.Redis.from_url(server.url, retry=None) as writer:
            try:
                while True:
                    acknowledged.append(int(writer.rpush("log", len(acknowledged) + 1)))
            except redis.ConnectionError:
                pass

    writer = threading.Thread(target=write)
    writer.start()
    while len(acknowledged) < 50:
        assert writer.is_alive()
    before = server.pid
    server.kill()
    writer.join(30)
    assert not server.running
    assert not psutil.pid_exists(before)
    server.start()
    server.start()
    kept = [int(item) for item in client.lrange("log", 0, -1)]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1
    server.stop()
    server.start()
    assert client.llen("log") == len(kept)
    server.empty()
    assert server.keys() == 0


def test_frozen_it_is_silent_and_then_goes_on(server: RedisServer, client: redis.Redis) -> None:
    client.set("k", "v")
    with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as impatient, server.frozen():
        with pytest.raises(redis.TimeoutError):
            impatient.get("k")
    assert client.get("k") == b"v"


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerFailed, match="appendfsync"), RedisServer(settings={"appendfsync": "now and then"}):
        pass


def test_a_server_of_somebody_else_is_only_used_when_it_is_empty(server: RedisServer, client: redis.Redis) -> None:
    RedisDatabase(server.url).start()
    client.set("precious", "data")
    with pytest.raises(ServerFailed, match="PERDURE_TEST_REDIS names a server with 1 key"):
        RedisDatabase(server.url).start()
    assert client.get("precious") == b"data"


def test_a_cluster_shares_its_keys_and_comes_back_whole() -> None:
    with RedisCluster() as cluster:
        with cluster.client() as client:
            for number in range(60):
                client.set(f"k{number}", number)
        held = [node.keys() for node in cluster.nodes]
        assert sum(held) == 60 == cluster.keys()
        assert all(held)
        with pytest.raises(ServerFailed, match="PERDURE_TEST_REDIS_CLUSTER names a cluster with 60 keys"):
            ClusterDatabase(cluster.url).start()
        cluster.nodes[1].kill()
        cluster.start()
        assert [node.keys() for node in cluster.nodes] == held
        assert cluster.empty() == f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
        assert cluster.keys() == 0
    assert not any(node.running for node in cluster.nodes)
