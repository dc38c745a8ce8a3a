"""What a test gets that asks for a database."""

from __future__ import annotations

import psycopg
import redis

from tests.servers.cluster import ClusterDatabase
from tests.servers.postgres import PostgresDatabases
from tests.servers.redis import RedisDatabase

LEFT = "CREATE TABLE left_behind (n int)"


def test_a_postgres_database_of_its_own(postgres_server: PostgresDatabases, postgres_url: str) -> None:
    other = postgres_server.database()
    for url in (postgres_url, other):
        with psycopg.connect(url) as connection:
            connection.execute(LEFT)
    postgres_server.drop(other)


def test_a_redis_without_keys(redis_server: RedisDatabase, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("left", "behind")
    assert redis_server.keys() == 1
    assert redis_server.empty() == redis_url
    assert redis_server.keys() == 0


def test_a_cluster_without_keys(redis_cluster: ClusterDatabase, redis_cluster_url: str) -> None:
    assert redis_cluster_url.startswith("redis+cluster://")
    with redis_cluster.client() as client:
        for number in range(30):
            client.set(f"left {number}", "behind")
    assert redis_cluster.keys() == 30
    assert redis_cluster.empty() == redis_cluster_url
    assert redis_cluster.keys() == 0
