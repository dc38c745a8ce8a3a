"""How `make test` shares the tests among two processes (pytest-xdist).

One process has all tests with the local head, in their order: that is one for the session. The other takes everything
else, a file at a time, for a module's fixtures are made once; those with clusters of their own one after another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

RAY = (
    "tests/actors/",
    "tests/chaos/",
    "tests/cluster/",
    "tests/faults/test_busy_storms.py",
    "tests/faults/test_hard_nodes.py",
    "tests/faults/test_leaks.py",
    "tests/faults/test_many_kills.py",
    "tests/faults/test_messages.py",
    "tests/faults/test_new_code.py",
    "tests/faults/test_service_outages.py",
    "tests/faults/test_store_troubles.py",
    "tests/faults/test_two_supervisors.py",
    "tests/recovery/",
    "tests/test_readme.py",
)
"""Where the tests with the local head are."""

OWN_CLUSTERS = (
    "tests/benchmarks/",
    "tests/cluster/test_cli.py::test_up_and_down",
    "tests/cluster/test_head.py",
    "tests/examples/",
    "tests/faults/test_head_lost.py",
    "tests/nodes/",
)
"""Where those with clusters of their own are, and some more, so that both processes end at about the same time."""

EXTERNAL = ("PERDURE_TEST_POSTGRES", "PERDURE_TEST_REDIS", "PERDURE_TEST_REDIS_CLUSTER")
"""Variables that name servers which are there already. Tests empty them."""


class RayTogether(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Files that are not of one scope may be run by different processes."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(OWN_CLUSTERS):
            return "own clusters"
        return "ray" if nodeid.startswith(RAY) else nodeid.partition("::")[0]


def check_places(items: Sequence[pytest.Item]) -> None:
    """Raise `UsageError` for a test with the local head that is not where `RAY` says. (Who makes a cluster asks for the
    head to stay out of it.)"""
    for item in items:
        if "head" in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(RAY + OWN_CLUSTERS):
            raise pytest.UsageError(f"{item.nodeid} uses the local head: name its file in RAY of tests/side_by_side.py")


def check_servers(config: pytest.Config) -> None:
    """Raise `UsageError` where several processes would empty one server under each other."""
    given = [name for name in EXTERNAL if name in os.environ]
    if given and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{', '.join(given)}: test processes would empty it under each other; run pytest -n 0")
