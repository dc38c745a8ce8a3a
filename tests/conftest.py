"""What every test shares: the option --full, and one name for the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.cluster.endpoint import HeadOptions
from perdure.cluster.head import stop_head

DESELECTED = pytest.StashKey[int]()


class RootIsNoTestPackage:
    """Keeps pytest from importing the root's `__init__.py` by the name of the checkout's folder: every module of the
    facade would then exist twice, and the classes of one would not be those of the other.

    A plugin of its own since a conftest is not asked about folders above it.
    """

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == parent.config.rootpath else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNoTestPackage())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`, which take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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
