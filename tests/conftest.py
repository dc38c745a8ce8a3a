"""What every test shares: the option --full, one name for the package, a local head, and real database servers.

The servers start when the first test asks for one and end with the session. `PERDURE_TEST_POSTGRES`,
`PERDURE_TEST_REDIS` and `PERDURE_TEST_REDIS_CLUSTER` (URLs) name others to use instead. A server that does not start
fails the test that asked: none is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from xdist.remote import Producer

from perdure.cluster.endpoint import HeadOptions
from perdure.cluster.head import stop_head
from tests.servers.cluster import ClusterDatabase, RedisCluster
from tests.servers.postgres import PostgresDatabases, PostgresServer
from tests.servers.redis import RedisDatabase, RedisServer
from tests.side_by_side import RayTogether, check_places, check_servers

DESELECTED = pytest.StashKey[int]()

Server = TypeVar("Server", PostgresDatabases, RedisDatabase, ClusterDatabase)


class RootIsNoTestPackage:
    """Keeps pytest from importing the root's `__init__.py` by the name of the checkout's folder: every module of the
    facade would then exist twice, and the classes of one would not be those of the other.

    A plugin of its own since a conftest is not asked about folders above it.
    """

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == parent.config.rootpath else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNoTestPackage())
    # Tests start hundreds of processes: what those import is compiled once, also where somebody set this.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    check_servers(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`, which take long")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> RayTogether:
    return RayTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    check_places(items)
    if config.getoption("--full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    config.stash[DESELECTED] = len(left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """The header's line about them; the header proper is printed before anything is counted."""
    if config.getoption("--full"):
        return "full: the long tests run too"
    return f"full: {config.stash.get(DESELECTED, 0)} long tests left out (run them with --full)"


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadOptions]:
    """One local head for all tests that need a cluster and may share it: `connect(url, head=head)`. Two CPUs whatever
    the machine has. Each store is a service of its own there, so tests take a store each."""
    folder = tmp_path_factory.mktemp("perdure-head")
    before = os.environ.get("PERDURE_HOME")
    os.environ["PERDURE_HOME"] = str(folder)
    yield HeadOptions(num_cpus=2, folder=folder)
    stop_head(folder=folder)
    if before is None:
        del os.environ["PERDURE_HOME"]
    else:
        os.environ["PERDURE_HOME"] = before


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """For all tests that only need databases in it; whoever stops or kills a server makes one of his own."""
    other = os.environ.get("PERDURE_TEST_POSTGRES")
    server = PostgresDatabases(other) if other else PostgresServer()
    yield from _served(server)


@pytest.fixture
def postgres_url(postgres_server: PostgresDatabases) -> Iterator[str]:
    """An empty database, given back after the test."""
    url = postgres_server.database()
    yield url
    postgres_server.give_back(url)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisDatabase]:
    """For all tests that only need its database; whoever stops or kills a server makes one of his own."""
    other = os.environ.get("PERDURE_TEST_REDIS")
    server = RedisDatabase(other) if other else RedisServer()
    yield from _served(server)


@pytest.fixture
def redis_url(redis_server: RedisDatabase) -> str:
    """A database without a key: it is emptied before each test that asks for it."""
    return redis_server.empty()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ClusterDatabase]:
    """Three masters, for all tests that only need its keys; whoever kills a node makes a cluster of his own."""
    other = os.environ.get("PERDURE_TEST_REDIS_CLUSTER")
    server = ClusterDatabase(other) if other else RedisCluster()
    yield from _served(server)


@pytest.fixture
def redis_cluster_url(redis_cluster: ClusterDatabase) -> str:
    """A cluster without a key, as redis+cluster://host:port: it is emptied before each test that asks for it."""
    return redis_cluster.empty()


def _served(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.close()
