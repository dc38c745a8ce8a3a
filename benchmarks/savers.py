"""LangGraph's savers over a store's URL. Perdure's own is loaded only where it is measured, and Ray with it."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

Opened = tuple[Any, Callable[[], None]]
"""A saver that is set up, and what returns once all that it was given is durable."""

POOL_SIZE = 16


@contextmanager
def opened(name: str, url: str) -> Iterator[Opened]:
    """One of `SAVERS` over the store for the block."""
    with SAVERS[name](url) as found:
        yield found


@contextmanager
def _sqlite(url: str) -> Iterator[Opened]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), check_same_thread=False)) as connection:
        saver = SqliteSaver(connection)
        saver.setup()
        yield saver, _nothing


@contextmanager
def _postgres(url: str) -> Iterator[Opened]:
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        yield saver, _nothing


@contextmanager
def _postgres_pipeline(url: str) -> Iterator[Opened]:
    # In pipeline mode the tables of the set-up are not there for sure before the first statement.
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
    with PostgresSaver.from_conn_string(url, pipeline=True) as saver:
        yield saver, lambda: saver.pipe.sync() if saver.pipe else None


@contextmanager
def _postgres_pool(url: str) -> Iterator[Opened]:
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(url, min_size=POOL_SIZE, max_size=POOL_SIZE, kwargs=settings, open=True) as pool:
        pool.wait()
        saver = PostgresSaver(pool)  # type: ignore[arg-type]  # rows are dicts by the settings
        saver.setup()
        yield saver, _nothing


@contextmanager
def _perdure(url: str) -> Iterator[Opened]:
    package = importlib.import_module("perdure.saver")
    with package.PerdureSaver(url) as saver:
        yield saver, _nothing


def _nothing() -> None:
    """A saver whose calls return when they are durable."""


SAVERS = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "postgres-pipeline": _postgres_pipeline,
    "postgres-pool": _postgres_pool,
    "perdure": _perdure,
}
