"""How `make test` shares the tests among three processes (pytest-xdist), which is what keeps two CPUs busy.

Two processes have the tests with the local head, in their order: that is one for the session. The third has those with
clusters of their own, one after another. Everything else goes to whoever has ended with these, a file at a time, for a
module's fixtures are made once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

SERVICE = ("tests/actors/", "tests/cluster/", "tests/test_readme.py")
FAULTS = (
    "tests/chaos/",
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
)
"""Where the tests with the local head are, each half of them with a head of its own."""

OWN_CLUSTERS = (
    "tests/benchmarks/",
    "tests/cluster/test_cli.py::test_up_and_down",
    "tests/cluster/test_head.py",
    "tests/examples/",
    "tests/faults/test_head_lost.py",
    "tests/nodes/",
)
"""Where those with clusters of their own are, and some more."""

EXTERNAL = ("PERDURE_TEST_POSTGRES", "PERDURE_TEST_REDIS", "PERDURE_TEST_REDIS_CLUSTER")
"""Variables that name servers which are there already. Tests empty them."""


class RayTogether(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Files that are not of one scope may be run by different processes."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def _scope(nodeid: str) -> str:
    if nodeid.startswith(OWN_CLUSTERS):
        return "own clusters"
    if nodeid.startswith(SERVICE):
        return "service"
    return "faults" if nodeid.startswith(FAULTS) else nodeid.partition("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which the processes take them: those with clusters, then the largest files. (That
    of pytest-xdist goes by the number of tests only, whose time differs a thousandfold.)"""
    sizes = Counter(_scope(item.nodeid) for item in items)
    first = ("service", "faults", "own clusters")
    items.sort(key=lambda item: (_scope(item.nodeid) not in first, -sizes[_scope(item.nodeid)], _scope(item.nodeid)))


def check_places(items: Sequence[pytest.Item]) -> None:
    """Raise `UsageError` for a test with the local head that is not where `SERVICE` and `FAULTS` say. (Who makes a
    cluster asks for the head to stay out of it.)"""
    places = SERVICE + FAULTS + OWN_CLUSTERS
    for item in items:
        if "head" in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(places):
            raise pytest.UsageError(
                f"{item.nodeid} uses the local head: name its file in SERVICE or FAULTS of tests/side_by_side.py"
            )


def check_servers(config: pytest.Config) -> None:
    """Raise `UsageError` where several processes would empty one server under each other."""
    given = [name for name in EXTERNAL if name in os.environ]
    if given and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{', '.join(given)}: test processes would empty it under each other; run pytest -n 0")
