"""Graphs whose threads go through a file: values of every type, and threads that go on where they are imported."""

from __future__ import annotations

import datetime
import errno
import operator
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from perdure import END, START, Command, Keyring, StateGraph, StoreMisuse, StoreUnavailable, interrupt, open_store, task
from perdure.cluster.errors import ClientError
from perdure.cluster.porting import ThreadFiles, ids_of, read_threads, write_threads
from perdure.runtime.compiled import CompiledGraph
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.records import GraphRecord, Status, ThreadRecord

VALUES: tuple[Any, ...] = (
    None,
    1.0,
    2**80,
    b"\0\xff",
    (1, [2, {"three"}]),
    frozenset({4}),
    Decimal("1.10"),
    UUID(int=7),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    datetime.timedelta(seconds=1, microseconds=5),
    {"nested": {"a": (1,)}},
)


class State(TypedDict, total=False):
    values: Any
    array: Any
    table: Any
    log: Annotated[list[str], operator.add]


def build(store: CheckpointStore) -> CompiledGraph:
    def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("which?")]}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=store, name="asking")


def config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


def moved(source: CheckpointStore, target: CheckpointStore, path: Path, **options: Any) -> None:
    *_, _ = write_threads(source, path, ids_of(source, None), replace=True)
    *_, _ = read_threads(target, path, **options)


def test_values_and_unfinished_threads(tmp_path: Path) -> None:
    """From plain to sealed to other keys and back to plain: the same values, of the same types, and it goes on."""
    array, table = np.arange(6.0).reshape(2, 3), pa.table({"a": [1, None], "b": ["x", "y"]})
    path, first, second = tmp_path / "threads.perdure", Keyring.generate("k1"), Keyring.generate("k2")
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(4)]
    with (
        open_store(urls[0]) as plain,
        open_store(urls[1], keys=first) as sealed,
        open_store(urls[2], keys=second) as other,
        open_store(urls[3]) as back,
    ):
        build(plain).invoke({"values": VALUES, "array": array, "table": table, "log": ["in"]}, config("t"))
        before = build(plain).get_state(config("t"))
        moved(plain, sealed, path)
        moved(sealed, other, path, keys=first)
        with pytest.raises(StoreMisuse, match="is encrypted; give the keys"):
            moved(other, back, path)
        moved(other, back, path, keys=second, rename={"t": "u"})
        for store, name in ((sealed, "t"), (other, "t"), (back, "u")):
            graph = build(store)
            state = graph.get_state(config(name))
            found = state.values
            assert (found["values"], found["log"]) == (VALUES, ["in"])
            assert [type(one) for one in found["values"]] == [type(one) for one in VALUES]
            assert found["table"].equals(table)
            assert found["array"].dtype == array.dtype
            assert (found["array"] == array).all()
            assert state.interrupts == before.interrupts
            assert [one.values.get("log") for one in graph.get_state_history(config(name))] == [
                one.values.get("log") for one in build(plain).get_state_history(config("t"))
            ]
            answer = f"answer in {name}"
            assert graph.invoke(Command(resume=answer), config(name))["log"] == ["in", answer]
        assert build(plain).get_state(config("t")).values["log"] == ["in"]


def test_a_rerun_replays_where_it_is_imported(tmp_path: Path) -> None:
    """What the original recorded goes along: nothing is done a second time there."""
    done: list[str] = []

    @task
    def pay() -> str:
        done.append("paid")
        return f"receipt {len(done)}"

    def graph_on(store: CheckpointStore) -> CompiledGraph:
        builder = StateGraph(State)
        builder.add_node("pay", lambda state: {"log": [pay()]})
        builder.add_edge(START, "pay")
        builder.add_edge("pay", END)
        return builder.compile(checkpointer=store, name="paying")

    path = tmp_path / "threads.perdure"
    with open_store(f"sqlite:///{tmp_path}/a.db") as source, open_store(f"sqlite:///{tmp_path}/b.db") as target:
        graph = graph_on(source)
        graph.invoke({"log": []}, config("t"))
        start = next(one for one in graph.get_state_history(config("t")) if one.next == ("pay",))
        graph.fork(start.config, thread_id="again", effects="recorded")
        moved(source, target, path, rename=lambda name: f"{name} there")
        assert graph_on(target).invoke(None, config("again there"))["log"] == ["receipt 1"]
        assert done == ["paid"]


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "threads.perdure"
    with open_store(f"sqlite:///{tmp_path}/threads.db") as store:
        build(store).invoke({"log": []}, config("t"))
        assert ids_of(store, {"status": "interrupted"}) == ["t"]
        assert ids_of(store, {"threads": ["t"], "graph": "none"}) == []
        with pytest.raises(ClientError, match="there is no folder"):
            list(write_threads(store, tmp_path / "none" / "file", ["t"]))
        with pytest.raises(Exception, match="no thread 'gone'"):
            list(write_threads(store, path, ids_of(store, {"threads": ["t", "gone"]})))
        assert [one.name for one in tmp_path.iterdir() if "perdure" in one.name] == []


def test_a_thread_that_is_half_there_says_so(tmp_path: Path) -> None:
    """It looked damaged ("restore the store from a backup"), or driven by a service, and could be forked."""

    class Breaking(MemoryStore):
        breaks_off = False

        def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
            if self.breaks_off and self.threads().threads:
                raise StoreUnavailable("gone")
            return super().load(image, segments, **options)

    source, target = MemoryStore(), Breaking()
    graph = build(source)
    graph.invoke({"log": ["in"]}, config("t"))
    for answer in range(30):
        graph.invoke(Command(resume=answer), config("t"))
        graph.invoke({"log": ["more"]}, config("t"))
    *_, _ = write_threads(source, tmp_path / "f", ["t"])
    target.breaks_off = True
    with pytest.raises(StoreUnavailable):
        list(read_threads(target, tmp_path / "f"))
    target.breaks_off = False
    half = build(target)
    before = target.image("t")
    early = graph.get_state(config("t")).config["configurable"]["checkpoint_id"]
    for call in (
        lambda: half.get_state(config("t")),
        lambda: list(half.get_state_history(config("t"))),
        lambda: half.invoke(None, config("t")),
        lambda: half.update_state(config("t"), {"log": ["x"]}),
        lambda: half.fork({"configurable": {"thread_id": "t", "checkpoint_id": early}}, thread_id="fork"),
        lambda: half.name_checkpoint(config("t"), "good"),
        lambda: write_all(target, tmp_path / "g"),
    ):
        with pytest.raises(StoreMisuse, match=r"'t' is being copied .* start the same import or copy again"):
            call()
    assert [row.thread_id for row in target.threads().threads] == ["t"]
    assert target.image("t") == before
    *_, done = read_threads(target, tmp_path / "f")
    assert done.threads == 1
    assert half.get_state(config("t")).values == graph.get_state(config("t")).values


def write_all(store: CheckpointStore, path: Path) -> None:
    *_, _ = write_threads(store, path, ids_of(store, None))


def test_a_thread_that_is_deleted_at_once_fails_no_import(tmp_path: Path) -> None:
    """It had ended, and retention took it before the client had told its service of it: the import was said to have
    failed."""

    class Swift(MemoryStore):
        def load(self, image: Any, segments: Any = (), *, complete: bool = False, **options: Any) -> bool:
            done = super().load(image, segments, complete=complete, **options)
            if complete and image.thread.thread_id == "t":
                self.delete("t")
            return done

    class Files(ThreadFiles):
        def __init__(self, store: CheckpointStore) -> None:
            self.store = store
            self.told: list[str] = []

        def _all_shipped(self, graphs: Sequence[CompiledGraph]) -> list[GraphRecord]:
            return []

        def _arrived(self, rows: Sequence[ThreadRecord]) -> None:
            self.told += [row.thread_id for row in rows]

    source = MemoryStore()
    source.create(ThreadRecord(thread_id="t", graph="g", version="1", status=Status.FAILED))
    source.create(ThreadRecord(thread_id="u", graph="g", version="1"))
    write_all(source, tmp_path / "f")
    files = Files(Swift())
    done = files.import_threads(tmp_path / "f")
    assert done.threads == 2
    assert files.told == ["u"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_overwritten(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the name was taken was only looked at before the export began."""

    def without(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", without)
    source = MemoryStore()
    source.create(ThreadRecord(thread_id="t", graph="g", version="1"))
    path = tmp_path / "f"
    steps = write_threads(source, path, ["t"])
    next(steps)
    path.write_text("precious")
    with pytest.raises(ClientError, match="is there already"):
        list(steps)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ClientError, match="is there already"):
        write_all(source, path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ClientError, match="is there already"):
        write_all(source, path)
    path.unlink()
    write_all(source, path)
    *_, done = read_threads(MemoryStore(), path)
    assert done.threads == 1
    assert list(tmp_path.iterdir()) == [path]
