"""The conformance suite for stores: whoever writes one runs it, under pytest, against a fresh store per test.

    from perdure.testing import Harness, StoreConformance

    class MyHarness(Harness):
        def connect(self):
            return MyStore(...)

        def count(self, store, thread_id):
            return {"threads": ..., "runs": ..., "messages": ..., "segments": ...}  # from the raw database

        def damage(self, store, thread_id, what):
            ...  # flip a bit of a payload in the raw database

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def harness(self):
            return MyHarness()

Each theme is a class of its own (`Commits`, `Listing` and so on), to be run alone while a store grows.
"""

from __future__ import annotations

import pytest

THEMES = (
    "amendments",
    "commits",
    "copies",
    "creation",
    "deletion",
    "forks",
    "handovers",
    "integrity",
    "listing",
    "messages",
    "opening",
    "ownership",
    "rewriting",
    "segments",
    "settings",
    "timers",
)

# Has to come before they are imported: pytest would not say which values an assertion compared.
pytest.register_assert_rewrite(*(f"{__name__}.{theme}" for theme in THEMES))

from .amendments import Amendments  # noqa: E402 — see above
from .commits import Commits  # noqa: E402
from .copies import Copies  # noqa: E402
from .creation import ThreadCreation  # noqa: E402
from .deletion import Deletion  # noqa: E402
from .forks import Forks  # noqa: E402
from .handovers import Handovers  # noqa: E402
from .harness import Harness, StoreSuite  # noqa: E402
from .integrity import Integrity, Values  # noqa: E402
from .listing import Listing  # noqa: E402
from .messages import Messages  # noqa: E402
from .opening import Opening  # noqa: E402
from .ownership import Ownership  # noqa: E402
from .rewriting import Rewriting  # noqa: E402
from .segments import Segments  # noqa: E402
from .settings import Settings  # noqa: E402
from .suite import StoreConformance  # noqa: E402
from .timers import Timers  # noqa: E402

__all__ = [
    "Amendments",
    "Commits",
    "Copies",
    "Deletion",
    "Forks",
    "Handovers",
    "Harness",
    "Integrity",
    "Listing",
    "Messages",
    "Opening",
    "Ownership",
    "Rewriting",
    "Segments",
    "Settings",
    "StoreConformance",
    "StoreSuite",
    "ThreadCreation",
    "Timers",
    "Values",
]
