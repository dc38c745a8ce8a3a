"""The command line where it needs no cluster: reading a store, what is typed, errors, exit codes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner, Result

from perdure import END, START, NodeFailed, StateGraph, open_store
from perdure.cluster.cli import app
from perdure.cluster.cli.documents import plain
from perdure.cluster.cli.exits import MEANINGS, Exit
from perdure.cluster.head import running_head
from tests.cluster.graphs_cli import State, asking_builder

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with four threads: one of three runs, one that waits, one that failed, one with a dangerous name."""
    url = f"sqlite:///{tmp_path}/threads.db"
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PERDURE_STORE", url)
    with open_store(url) as opened:
        graph = asking_builder.compile(checkpointer=opened, name="asking")
        graph.invoke({"n": 1}, _config("waits", metadata={"customer": "[red]x", "n": 3}, tags=["urgent"]))
        odd = StateGraph(dict_state())
        odd.add_node("odd", lambda state: {"odd": {1, 2}, "day": date(2024, 5, 1), "nan": float("nan")})
        odd.add_edge(START, "odd")
        odd.add_edge("odd", END)
        for _ in range(3):
            odd.compile(checkpointer=opened, name="odd").invoke({}, _config("odd"))
        odd.compile(checkpointer=opened, name="odd").invoke({}, _config("evil\x1b[2J\n[b]"))
        bad = StateGraph(State)
        bad.add_node("bad", _fail)
        bad.add_edge(START, "bad")
        with pytest.raises(ValueError, match="line one"):
            bad.compile(checkpointer=opened, name="bad").invoke({"n": 1}, _config("failed"))
    return url


def _fail(state: State) -> State:
    raise ValueError("line one\nline two \x1b[31m")


def dict_state() -> type:
    class Odd(dict[str, Any]):
        pass

    return Odd


def _config(thread_id: str, **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, **more}
