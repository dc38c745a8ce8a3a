"""LangGraph's own conformance suite, on every store, every capability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.conformance.validate import validate

from perdure.saver import PerdureSaver
from tests.saver.conftest import STORES, url_of


@pytest.mark.parametrize("store", STORES)
def test_the_official_suite_passes_whole(store: str, request: pytest.FixtureRequest) -> None:
    url = url_of(store, request)

    async def savers() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        async with PerdureSaver(url) as saver:
            yield saver

    report = asyncio.run(validate(RegisteredCheckpointer(name=store, factory=savers)))
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert {name for name, result in report.results.items() if result.passed} == {
        capability.value for capability in ALL_CAPABILITIES
    }
    assert sum(result.tests_skipped for result in report.results.values()) == 0
