"""A cluster of several nodes for all tests of this folder: to start one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from perdure import HeadOptions
from tests.nodes.machines import NODES, Machines, apart
from tests.servers.redis import RedisServer

HERE = Path(__file__).parent


class Shared:
    """The cluster, from the first test that asks for it to the last of those that follow one another."""

    def __init__(self) -> None:
        self._cluster: Machines | None = None
        self._stack = ExitStack()

    def get(self, head: HeadOptions) -> Machines:
        """A head and two nodes. The GCS keeps its tables in a Redis, so that it may be killed."""
        if self._cluster is None:
            with ExitStack() as stack:
                stack.enter_context(apart(head))
                redis = stack.enter_context(RedisServer(settings={"appendonly": "no"}))
                cluster = stack.enter_context(Machines(redis.url))
                for name in NODES:
                    cluster.add(name)
                self._stack = stack.pop_all()
            self._cluster = cluster
        return self._cluster

    def close(self) -> None:
        """End it, if it runs. The next who asks starts another."""
        self._cluster = None
        self._stack.close()


SHARED = pytest.StashKey[Shared]()


@pytest.fixture(scope="session")
def shared_machines(request: pytest.FixtureRequest, head: HeadOptions) -> Iterator[Shared]:
    shared = request.session.stash[SHARED] = Shared()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def machines(shared_machines: Shared, head: HeadOptions) -> Machines:
    """All its nodes are there, and no service: who removes a node adds another of its name."""
    return shared_machines.get(head)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Tests of other folders are not to run beside a cluster that nobody uses, and may need the local head. After the
    fixtures of the module, which end their services on it."""
    shared = item.session.stash.get(SHARED, None)
    if shared is not None and (nextitem is None or HERE not in nextitem.path.parents):
        shared.close()
