"""What two test processes may not do at once, for pytest-xdist's `--dist loadgroup` (make test).

Every test that starts processes of Ray is in one group, so one process has them all, in their order: two clusters
starve each other on two cores, and the local head is one for the session. The other process takes everything else, a
file at a time, for a module's fixtures are made once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

RAY = "ray"
"""The group, and the mark of modules that start Ray without the session's head."""

EXTERNAL = ("PERDURE_TEST_POSTGRES", "PERDURE_TEST_REDIS", "PERDURE_TEST_REDIS_CLUSTER")
"""Variables that name servers which are there already. Tests empty them."""


def group(items: Sequence[pytest.Item]) -> None:
    """Put each test into its group."""
    on_ray = {item.path for item in items if _needs_ray(item)}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(RAY if item.path in on_ray else item.path.name))


def _needs_ray(item: pytest.Item) -> bool:
    return item.get_closest_marker(RAY) is not None or "head" in getattr(item, "fixturenames", ())


def check_servers(config: pytest.Config) -> None:
    """Raise `UsageError` where several processes would empty one server under each other."""
    given = [name for name in EXTERNAL if name in os.environ]
    if given and config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{', '.join(given)}: test processes would empty it under each other; run pytest -n 0")
