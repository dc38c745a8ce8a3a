"""What a history costs on disk and in rows: what changed, not what the state holds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver

from perdure.saver import PerdureSaver
from perdure.stores.segments import Kind
from tests.saver.puts import Run, at, values_at


def append(saver: BaseCheckpointSaver[str], count: int) -> int:
    """Put a list that grows by 1 KB of random text each time, with the write of it; the bytes of text."""
    chance, run = random.Random(1), Run(saver)
    log: list[str] = []
    for _ in range(count):
        text = chance.randbytes(512).hex()
        log = [*log, text]
        config = run.put({"log": log})
        saver.put_writes(config, [("log", [text])], "task")
    assert values_at(saver, at("t"))["log"] == log
    return 1024 * count


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def ours_on_disk(folder: Path, count: int) -> tuple[int, int]:
    """Bytes of a store with so many appends, and of their text."""
    folder.mkdir()
    with PerdureSaver(f"sqlite:///{folder}/store.db") as saver:
        data = append(saver, count)
    return on_disk(folder), data


@pytest.mark.parametrize(
    "counts", [(50, 100, 200), pytest.param((500, 1000, 2000), marks=pytest.mark.full)], ids=["few", "many"]
)
def test_appends_cost_what_they_append(tmp_path: Path, counts: tuple[int, ...]) -> None:
    """LangGraph's own saver keeps the whole list in every checkpoint: the square of it."""
    empty, _ = ours_on_disk(tmp_path / "empty", 1)
    ours: dict[int, float] = {}
    for count in counts:
        size, data = ours_on_disk(tmp_path / f"ours{count}", count)
        ours[count] = (size - empty) / data
    # Twice the text (the task's write and the channel's), the whole values in between, and each checkpoint's record.
    assert max(ours.values()) < 5
    assert ours[counts[-1]] < ours[counts[0]] * 1.2
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with SqliteSaver.from_conn_string(f"{theirs}/store.db") as other:
        data = append(other, 150)
    assert on_disk(theirs) / data > 10 * max(ours.values())


def rows_of(saver: PerdureSaver, channel: str) -> list[Any]:
    (thread,) = (row.thread_id for row in saver.store.threads().threads)
    rows = [row for segment in saver.store.segments(thread) for row in segment.rows if row.channel == channel]
    return sorted(rows, key=lambda row: row.checkpoint)


def test_channels_that_did_not_change_are_not_written(saver: PerdureSaver) -> None:
    run = Run(saver)
    run.put({"large": ["x" * 1000], "n": 0})
    for number in range(50):
        run.put({"n": number})
    assert len(rows_of(saver, "large")) == 1
    assert values_at(saver, at("t"))["large"] == ["x" * 1000]


MESSAGES = [HumanMessage("x" * 300, id=str(number)) for number in range(40)]

CHANGES: dict[str, tuple[Any, Any]] = {
    "append": (["x" * 50] * 40, lambda value: [*value, "new"]),
    "replaced items": (["x" * 50] * 40, lambda value: [*value[:3], "new", *value[4:], "more"]),
    "removed items": ([f"{n}" * 50 for n in range(40)], lambda value: [*value[:3], *value[5:], "more"]),
    "messages": (MESSAGES, lambda value: [*value[:3], HumanMessage("new", id="3"), *value[4:]]),
    "a key": ({f"{n}": "x" * 100 for n in range(40)}, lambda value: {**value, "5": "new", "more": 1}),
    "text": ("x" * 4000, lambda value: value + "more"),
    "a set": ({f"{n}" * 50 for n in range(40)}, lambda value: value | {"more"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_kept_as_one_by_any_saver(saver: PerdureSaver, change: str) -> None:
    """Also by a saver that did not write what was before: it reads that rather than write it all again."""
    value, alter = CHANGES[change]
    run = Run(saver)
    run.put({"value": value})
    run.put({"value": alter(value)})
    run.saver = PerdureSaver(saver.store)
    run.go_back(at("t"))
    run.put({"value": alter(run.values["value"])})
    first, second, third = rows_of(saver, "value")
    assert (first.kind, second.kind, third.kind) == (Kind.VALUE, Kind.DELTA, Kind.DELTA)
    assert max(len(second.payload), len(third.payload)) < len(first.payload) / 5
    assert values_at(saver, at("t"))["value"] == alter(alter(value))
