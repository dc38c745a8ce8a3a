"""A cluster of several nodes for a whole module, and a service on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure import HeadOptions
from tests.nodes.machines import NODES, Machines, apart
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def machines(head: HeadOptions) -> Iterator[Machines]:
    """A head and two nodes. The GCS keeps its tables in a Redis, so that it may be killed."""
    with apart(head), RedisServer(settings={"appendonly": "no"}) as redis, Machines(redis.url) as cluster:
        for name in NODES:
            cluster.add(name)
        yield cluster
