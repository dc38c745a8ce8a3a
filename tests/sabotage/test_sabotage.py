"""A proof that cannot fail proves nothing: each way to break the protocol turns the test red that is there for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perdure.stores.errors import StoreError
from tests.sabotage.table import TABLE, Sabotage
from tests.sim.journal import Violation

ROOT = Path(__file__).parents[2]
NOTICED = (AssertionError, StoreError, Violation, pytest.fail.Exception)


@pytest.mark.parametrize("sabotage", TABLE, ids=[one.name for one in TABLE])
def test_it_is_noticed(sabotage: Sabotage, request: pytest.FixtureRequest) -> None:
    sabotage.look(False, request)
    with pytest.raises(NOTICED) as caught:
        sabotage.look(True, request)
    # Rewritten, an assertion says what it compared; `assert x` alone would say nothing.
    assert str(caught.value)


def test_each_names_the_test_that_notices() -> None:
    assert len({one.name for one in TABLE}) == len(TABLE)
    for one in TABLE:
        file, _, test = one.noticed_by.partition("::")
        assert re.search(rf"^ *def {test}\(", (ROOT / file).read_text(), re.MULTILINE), one


def test_the_documentation_lists_them() -> None:
    told = (ROOT / "docs/guarantees.md").read_text()
    missing = [row for one in TABLE if (row := line(one)) not in told]
    assert not missing, "docs/guarantees.md lacks\n" + "\n".join(missing)


def line(one: Sabotage) -> str:
    """Its line in the table there."""
    return f"| {one.name} | {one.breaks} | {one.promise} | `{one.noticed_by.removeprefix('tests/')}` |"
