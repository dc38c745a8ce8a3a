"""Our stores against the suite that we ship."""

from __future__ import annotations

import pytest

from perdure.testing import Harness, Listing, StoreConformance
from tests.stores.backends import Backend


class TestConformance(StoreConformance):
    listed = 2_500

    @pytest.fixture
    def harness(self, backend: Backend) -> Harness:
        return backend


@pytest.mark.full
class TestTenThousandThreads(Listing):
    listed = 10_000

    @pytest.fixture
    def harness(self, backend: Backend) -> Harness:
        return backend
