"""Records that were damaged, or written by a later version: named, never guessed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import CheckpointStore, CompiledGraph, Corrupt, DisallowedType, NewerFormat, open_store
from perdure.stores.segment_codec import decode_segment, encode_segment
from perdure.stores.segments import Kind
from tests.runtime.engine import THREAD, chain, says


@pytest.fixture
def written(sqlite: CheckpointStore) -> CompiledGraph:
    nodes = {"a": says("a"), "b": says("b")}
    chain(nodes, sqlite, interrupt_before=["b"]).invoke({"n": 1}, THREAD)
    # Another one, as in another process: the first still knows what it wrote.
    return chain(nodes, sqlite, interrupt_before=["b"])


def change_newest(folder: Path, change: Callable[[bytes], bytes]) -> int:
    """Change the newest segment's bytes in the file; the number of its last commit."""
    with sqlite3.connect(folder / "engine.db") as connection:
        last, data = connection.execute(
            "SELECT last, data FROM segments WHERE length(data) > 0 ORDER BY last DESC LIMIT 1"
        ).fetchone()
        connection.execute("UPDATE segments SET data = ? WHERE last = ?", (change(data), last))
    connection.close()
    return int(last)


def uses(graph: CompiledGraph) -> list[Callable[[], Any]]:
    return [
        lambda: graph.get_state(THREAD),
        lambda: list(graph.get_state_history(THREAD)),
        lambda: graph.invoke(None, THREAD),
        lambda: graph.update_state(THREAD, {"n": 2}),
    ]


@pytest.mark.parametrize("place", [0, 4, 8, 20, -1])
def test_a_damaged_segment_is_named(written: CompiledGraph, tmp_path: Path, place: int) -> None:
    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= 0x10
        return bytes(changed)

    last = change_newest(tmp_path, flip)
    kind = (Corrupt, NewerFormat) if place == 4 else Corrupt
    for use in uses(written):
        with pytest.raises(kind, match=rf"thread 't', commits \d+\.\.{last} "):
            use()
    change_newest(tmp_path, flip)
    # nobody holds the thread, and nothing was lost
    assert written.invoke(None, THREAD)["items"] == ["a", "b"]


def test_a_segment_that_was_cut_short(written: CompiledGraph, tmp_path: Path) -> None:
    change_newest(tmp_path, lambda data: data[:-9])
    with pytest.raises(Corrupt, match="thread 't'"):
        written.get_state(THREAD)


def test_a_segment_that_is_missing(written: CompiledGraph, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "engine.db") as connection:
        connection.execute("DELETE FROM segments WHERE first = 1")
    connection.close()
    for use in uses(written)[2:]:
        with pytest.raises(Corrupt, match=r"thread 't': .* missing"):
            use()


def test_a_checkpoint_of_a_later_format(written: CompiledGraph, tmp_path: Path) -> None:
    def later(data: bytes) -> bytes:
        thread_id, rows = decode_segment(data)
        changed = []
        for row in rows:
            if row.kind == Kind.CHECKPOINT:
                fields = msgspec.msgpack.decode(row.payload)
                row = row._replace(payload=msgspec.msgpack.encode([99, "all", "else", {"is": "new"}, *fields]))
            changed.append(row)
        return encode_segment(thread_id, changed)

    change_newest(tmp_path, later)
    for use in uses(written):
        with pytest.raises(NewerFormat, match=r"checkpoint \d+ of thread 't' was written in checkpoint format 99"):
            use()


def test_a_segment_of_a_later_format(written: CompiledGraph, tmp_path: Path) -> None:
    change_newest(tmp_path, lambda data: data[:4] + b"\x63" + data[5:])
    with pytest.raises(NewerFormat, match=r"thread 't'.*format 99, this Perdure reads up to 2; upgrade"):
        written.invoke(None, THREAD)


class Color(Enum):
    RED = 1


def test_a_value_of_a_class_that_the_graph_does_not_name(sqlite: CheckpointStore) -> None:
    graph = chain({"a": says(Decimal("1.10"), Color.RED)}, sqlite, allow=[Color])
    assert graph.invoke({}, THREAD)["items"] == [Decimal("1.10"), Color.RED]
    assert graph.get_state(THREAD).values["items"] == [Decimal("1.10"), Color.RED]
    other = chain({"a": says("a")}, sqlite)
    where = r"thread 't', channel 'items' at version \d+: .*Color.*compile\(allow=\[...\]\)"
    uses: list[Callable[[], Any]] = [
        lambda: other.get_state(THREAD).values["items"],
        lambda: dict(next(other.get_state_history(THREAD)).values),
        lambda: other.invoke({}, THREAD),
    ]
    for use in uses:
        with pytest.raises(DisallowedType, match=where):
            use()
    assert graph.invoke({}, THREAD)["items"][2:] == [Decimal("1.10"), Color.RED]


def test_another_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 40)
    with pytest.raises(Corrupt, match=r"text.db"):
        open_store(f"sqlite:///{tmp_path}/text.db")
