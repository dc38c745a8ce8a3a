"""Histories as tables: what stands in them, against what `get_state_history` says; export to files; bounds."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner, Result

from perdure import END, START, CheckpointStore, CompiledGraph, HeadOptions, StateGraph, measure, open_store
from perdure.cluster.choosing import Choice, chosen
from perdure.cluster.cli import app
from perdure.cluster.dataset import history_batches, history_table
from perdure.cluster.dataset_file import write_file
from perdure.cluster.dataset_selection import HistoryOptions, Selection
from perdure.cluster.json_form import json_text
from perdure.runtime.meaning import RuntimeMeaning
from perdure.stores.codec import Codec
from perdure.stores.errors import Corrupt, StoreMisuse, UnknownThread
from perdure.stores.memory import MemoryStore
from perdure.stores.operations import Amendment
from perdure.stores.records import IN_PROCESS, Origin, Retention, Segment, Status, ThreadRecord
from perdure.stores.tidying import Tidier
from tests.actors.graphs_menu import graph as menu
from tests.actors.services import service
from tests.runtime.engine import asks, chain, fan, history, says, thread, until

HOSTILE = "né\x1b[2J\u202e'\";DROP TABLE\n../x"


class Wide(TypedDict, total=False):
    n: int
    items: Annotated[list[str], operator.add]
    text: str
    any: Any


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore() as opened:
        yield opened


def wide(store: CheckpointStore, steps: list[dict[str, Any]], thread_id: str = "t") -> CompiledGraph:
    """Runs a graph whose steps return these updates, one after the other."""
    graph = chain(
        {f"s{number}": (lambda state, update=update: update) for number, update in enumerate(steps)},
        store,
        Wide,
        name="wide",
        version="7",
    )
    graph.invoke({}, thread(thread_id), durability="sync")
    return graph


def seventh(state: Wide) -> str:
    return "step" if state.get("n", 0) % 7 else END


def fork(store: CheckpointStore, thread_id: str, origin: str, seq: int) -> None:
    store.create(
        ThreadRecord(
            thread_id=thread_id,
            graph="g",
            version="1",
            driver=IN_PROCESS,
            status=Status.SUCCEEDED,
            run=1,
            runs=1,
            seq=seq,
            head=seq,
            origin=Origin(thread_id=origin, seq=seq),
        )
    )


def column(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist()


# -- rows ------------------------------------------------------------------------------------------------------------


def test_one_row_per_checkpoint_with_what_is_known_of_it(store: MemoryStore) -> None:
    graph = fan({"a": says("x"), "b": says("y")}, store, name="pair", version="2")
    before = datetime.now(UTC)
    graph.invoke({"n": 1}, {**thread("t"), "metadata": {"customer": 5}, "tags": ["urgent"]})
    table = history_table(store)
    first, last = table.to_pylist()
    assert first["thread_id"] == "t"
    assert (first["graph"], first["version"], first["run"], first["step"]) == ("pair", "2", 1, -1)
    assert (first["source"], first["parent"], first["parent_thread_id"]) == ("input", None, None)
    assert (first["nodes"], sorted(first["next"])) == ([], ["a", "b"])
    assert (last["source"], last["parent"], last["parent_thread_id"]) == ("loop", first["checkpoint_id"], "t")
    assert (sorted(last["nodes"]), last["next"]) == (["a", "b"], [])
    assert (last["status"], last["tags"], json.loads(last["metadata"])) == ("succeeded", ["urgent"], {"customer": 5})
    assert before - timedelta(seconds=1) < first["created_at"] <= last["created_at"]
    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert [shot.checkpoint_id for shot in history(graph)] == column(table, "checkpoint_id")
    assert min(column(table, "stored_bytes")) > 0


def test_what_nodes_measured_is_a_column_that_expressions_can_ask_for(store: MemoryStore) -> None:
    for number in range(4):
        nodes = {"a": says("a"), "b": lambda state: measure("score", state["n"]) if state["n"] else None}
        chain(nodes, store).invoke({"n": number}, thread(f"t{number}"))
    ends = history_table(store, only_heads=True)
    found = {row["thread_id"]: dict(row["measures"]) for row in ends.to_pylist()}
    assert found == {"t0": {}, **{f"t{number}": {"score": float(number)} for number in range(1, 4)}}
    high = pc.map_lookup(pc.field("measures"), "score", "first") >= 2
    assert sorted(column(ends.filter(high), "thread_id")) == ["t2", "t3"]
    chosen_by_it = chosen(store, Choice.of({"history": high}), limit=None, sample=None, seed="")
    assert sorted(record.thread_id for record in chosen_by_it) == ["t2", "t3"]


def test_an_empty_store_gives_an_empty_table_of_the_same_columns(store: MemoryStore) -> None:
    empty = history_table(store, channels=["n"])
    assert len(empty) == 0
    until(2, store).invoke({"n": 0}, thread("t"))
    assert history_table(store, channels=["n"]).schema.names == empty.schema.names
    assert history_table(store, threads=[]).num_rows == 0


def test_values_are_those_of_the_state_history() -> None:
    """Against another reader: random appends, replacements, forks within the thread, of several seeds."""
    for seed in range(6):
        rng, store = random.Random(seed), MemoryStore()

        def step(state: Any, rng: random.Random = rng) -> dict[str, Any]:
            update: dict[str, Any] = {"n": state.get("n", 0) + 1}
            if rng.random() < 0.7:
                update["items"] = [str(rng.random()) for _ in range(rng.randrange(3))]
            if rng.random() < 0.3:
                update["any"] = rng.choice([1, "a", None, [1, {"b": 2}], (3,), {4}])
            return update

        builder = StateGraph(Wide)
        builder.add_node("step", step)
        builder.add_edge(START, "step")
        builder.add_conditional_edges(
            "step", lambda state: END if state.get("n", 0) % 7 == 0 else "step", ["step", END]
        )
        graph = builder.compile(store)
        for _ in range(4):
            graph.invoke({"text": str(rng.random())}, thread("t"), durability=rng.choice(["sync", "async"]))
            shots = history(graph)
            graph.update_state(rng.choice(shots).config, {"items": ["forked"]}, as_node="step")
        shots = history(graph)
        table = history_table(store, channels=["n", "items", "text", "any"])
        assert [shot.checkpoint_id for shot in shots] == column(table, "checkpoint_id")
        for name in ("n", "items", "text"):
            # `get_state_history` shows an empty list where nothing was written yet
            assert [value or None for value in column(table, f"state.{name}")] == [
                shot.values.get(name) or None for shot in shots
            ], (seed, name)
        wanted = [shot.values.get("any") for shot in shots]
        kept = column(table, "state.any")
        if table.schema.field("state.any").metadata:
            kept = [None if text is None else json.loads(text) for text in kept]
        assert kept == [None if value is None else json.loads(json_text(value)) for value in wanted]
        # In long form the last value shown is the value; one that a fork went back behind is told to be gone.
        state: dict[str, Any] = {}
        seen: dict[str, dict[str, Any]] = {}
        for row in history_table(store, kind="values").to_pylist():
            state[row["channel"]] = None if row["value"] is None else json.loads(row["value"])
            seen[row["checkpoint_id"]] = dict(state)
        for shot in shots:
            if shot.checkpoint_id in seen:
                found = {key: value for key, value in seen[shot.checkpoint_id].items() if value not in (None, [])}
                assert found == json.loads(
                    json_text({key: value for key, value in shot.values.items() if value not in (None, [])})
                )


def test_filters_start_reading_in_the_middle(store: MemoryStore) -> None:
    graph = until(3, store)
    for _ in range(3):
        graph.invoke({"n": 0, "items": ["again"]}, thread("t"))
    shots = history(graph)
    second = history_table(store, channels=["n", "items"], runs=[2])
    assert column(second, "run") == [2] * 4
    assert column(second, "state.items")[0] == ["again"] * 2
    moment = datetime.fromisoformat(shots[7].created_at)
    later = history_table(store, channels=["n"], since=moment)
    earlier = history_table(store, channels=["n"], until=moment)
    assert len(later) + len(earlier) == len(shots)
    assert column(later, "state.n") == [shot.values["n"] for shot in shots[-len(later) :]]
    heads = history_table(store, channels=["n", "items"], only_heads=True)
    assert heads.select(["checkpoint_id", "state.n", "state.items"]).to_pylist() == [
        {"checkpoint_id": shots[-1].checkpoint_id, "state.n": 3, "state.items": ["again"] * 3}
    ]


def test_threads_are_chosen_as_in_listings(store: MemoryStore) -> None:
    for number in range(5):
        until(1, store, name=f"g{number % 2}").invoke(
            {"n": 0}, {**thread(f"t{number}"), "metadata": {"level": number}, "tags": ["odd"] * (number % 2)}
        )
    chain({"ask": asks("?")}, store, name="asking").invoke({"n": 0}, thread("waits"))

    def found(**options: Any) -> set[str]:
        return set(column(history_table(store, **options), "thread_id"))

    assert found(graph="g1") == {"t1", "t3"}
    assert found(tag="odd") == {"t1", "t3"}
    assert found(metadata={"level": 4}) == {"t4"}
    assert found(status="interrupted") == {"waits"}
    assert found(threads="t2") == {"t2"}
    assert found(threads=["t3", "t2", "t3"]) == {"t2", "t3"}
    assert len(history_table(store, threads=["t3", "t3"])) == 2


def test_writes_are_what_nodes_returned(store: MemoryStore) -> None:
    graph = fan({"a": says("x"), "b": says("y", "z")}, store)
    graph.invoke({"n": 1}, thread("t"))
    rows = history_table(store, kind="writes").select(["node", "task", "channel", "value"]).to_pylist()
    assert rows[0] == {"node": None, "task": START, "channel": "n", "value": "1"}
    assert {(row["node"], row["channel"], row["value"]) for row in rows[1:]} == {
        ("a", "items", '["x"]'),
        ("b", "items", '["y","z"]'),
    }
    only = history_table(store, kind="writes", channels=["n"])
    assert column(only, "channel") == ["n"]


# -- forks and retention ---------------------------------------------------------------------------------------------


def test_inherited_checkpoints_are_rows_of_the_thread_that_wrote_them(store: MemoryStore) -> None:
    graph = until(4, store)
    graph.invoke({"n": 0, "items": ["a"]}, thread("t"))
    fork(store, "f", "t", 3)
    assert history_table(store, threads="f").num_rows == 0
    head = history_table(store, threads="f", only_heads=True, channels=["n", "items"]).to_pylist()
    assert [(row["thread_id"], row["checkpoint_id"], row["state.n"]) for row in head] == [("f", "0000000003", 2)]
    graph.invoke({"items": ["b"]}, thread("f"))
    fork(store, "ff", "f", 2)
    graph.update_state(thread("ff"), {"n": 9}, as_node="count")
    table = history_table(store, channels=["n", "items"])
    assert len(set(zip(column(table, "thread_id"), column(table, "checkpoint_id"), strict=True))) == len(table)
    own = [row for row in table.to_pylist() if row["thread_id"] == "f"]
    assert (own[0]["parent"], own[0]["parent_thread_id"], own[0]["state.items"]) == ("0000000003", "t", ["a", "b"])
    assert own[1]["parent_thread_id"] == "f"
    (second,) = [row for row in table.to_pylist() if row["thread_id"] == "ff"]
    # a fork from before its origin's own first commit is one of that thread which wrote it
    assert (second["parent"], second["parent_thread_id"], second["state.n"]) == ("0000000002", "t", 9)


def test_what_retention_dropped_does_not_appear(store: MemoryStore) -> None:
    graph = until(9, store)
    graph.invoke({"n": 0, "items": ["a"]}, thread("t"), durability="sync")
    fork(store, "f", "t", 4)
    store.amend("t", Amendment(names={"good": 2}))
    store.amend("t", Amendment(floor=8))
    table = history_table(store, threads="t", channels=["n", "items"])
    assert column(table, "checkpoint_id") == [shot.checkpoint_id for shot in history(graph)]
    assert [int(one) for one in column(table, "checkpoint_id")] == [2, 4, 8, 9, 10]
    assert column(table, "state.n") == [1, 3, 7, 8, 9]
    assert column(table, "state.items") == [["a"]] * 5


def test_a_history_that_is_pruned_while_it_is_read_leaves_out_what_is_gone() -> None:
    class Pruning(MemoryStore):
        """Housekeeping strikes between a reader's look at the thread's row and its look at the commits."""

        armed = False

        def segments(
            self, thread_id: str, *, first: int = 1, last: int | None = None, limit: int | None = None
        ) -> list[Segment]:
            if self.armed:
                self.armed = False
                tidier = Tidier(store=self, meaning=RuntimeMeaning(), retention=Retention(max_checkpoints=2))
                assert sum(done.checkpoints for done in tidier.thread(thread_id, 0, thorough=True)) > 10
            return super().segments(thread_id, first=first, last=last, limit=limit)

    for options in ({"runs": [3]}, {}, {"kind": "values"}, {"kind": "writes"}):
        store = Pruning()
        graph = until(4, store)
        for _ in range(3):
            graph.invoke({"n": 0, "items": ["a"]}, thread("t"), durability="sync")
        store.armed = True
        table = history_table(store, threads="t", **{"channels": ["n", "items"], **options})  # type: ignore[arg-type]
        assert {int(one) for one in column(table, "checkpoint_id")} == {14, 15}, options
        if "state.items" in table.schema.names:
            assert column(table, "state.items") == [["a"] * 3] * 2


def test_threads_of_other_programs_are_left_out(store: MemoryStore) -> None:
    until(2, store).invoke({"n": 0}, thread("t"))
    store.create(ThreadRecord(thread_id="other", graph="g", version="1", driver="langgraph"))
    assert set(column(history_table(store), "thread_id")) == {"t"}
    with pytest.raises(StoreMisuse, match=r"'other'.*langgraph"):
        history_table(store, threads="other")


# -- types -----------------------------------------------------------------------------------------------------------

ZONE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], pa.int64()),
        ([1 << 62, 0], pa.int64()),
        ([1, 2.5, 1 << 53], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", "é\x00"], pa.string()),
        ([b"\xff", b""], pa.binary()),
        ([date(2024, 2, 29)], pa.date32()),
        (
            [datetime(2024, 1, 1, 5, tzinfo=UTC), datetime(2024, 1, 1, 5, 0, 0, 1, tzinfo=ZONE)],
            pa.timestamp("us", "UTC"),
        ),
        ([datetime(2024, 1, 1, 5)], pa.timestamp("us")),
        ([[1, 2], [], [3]], pa.list_(pa.int64())),
        ([[1.5], [2]], pa.list_(pa.float64())),
        ([[["a"]], [[], ["b"]]], pa.list_(pa.list_(pa.string()))),
    ],
    ids=str,
)
def test_one_type_is_kept(store: MemoryStore, values: list[Any], kind: pa.DataType) -> None:
    wide(store, [{"any": value} for value in values])
    # the type is found out over batches of two rows
    table = history_batches(store, channels=["any"], batch_rows=2).read_all()
    assert table.schema.field("state.any").type == kind
    assert column(table, "state.any") == [None, *values]


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        [True, 1],
        [1 << 62, 1.5],
        [1 << 70],
        [[1], "a"],
        [[1, "a"]],
        ["a\ud800"],
        [{"b": 1}],
        [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)],
        [Decimal("1.10"), UUID(int=5), timedelta(days=1)],
        [{"a", "b"}, {3: float("nan")}],
    ],
)
def test_mixtures_are_json(store: MemoryStore, values: list[Any]) -> None:
    wide(store, [{"any": value} for value in values])
    for rows in (1, 100):
        table = history_batches(store, channels=["any"], batch_rows=rows).read_all()
        field = table.schema.field("state.any")
        assert (field.type, field.metadata) == (pa.string(), {b"perdure.json": b"1"})
        assert column(table, "state.any") == [None, *map(json_text, values)]


@dataclass
class Point:
    x: int
    y: Any


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (float("-inf"), "-Infinity"),
        ({1: "a", None: 2, (1, "b"): 3}, {"1": "a", "null": 2, '[1,"b"]': 3}),
        ({3, "a"}, ["a", 3]),
        (b"\xff\x00", "/wA="),
        (datetime(2024, 1, 1, tzinfo=ZONE), "2024-01-01T00:00:00+02:00"),
        (timedelta(hours=1), "PT1H"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/a"), "/a"),
        (range(10**15), {"start": 0, "stop": 10**15, "step": 1}),
        (Point(1, [Point(2, {3})]), {"x": 1, "y": [{"x": 2, "y": [3]}]}),
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        (pd.DataFrame({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        (pa.table({"a": [1]}), [{"a": 1}]),
        (10**5000, hex(10**5000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_json_form_of_what_json_has_not(value: Any, wanted: Any) -> None:
    # as the table's reader has it: without the classes of the graph
    codec = Codec([Point])
    shown = Codec(opaque=True).decode(*codec.encode(value))
    assert json.loads(json_text(shown)) == wanted
    assert json.loads(json_text([shown, {"deep": shown}])) == [wanted, {"deep": wanted}]


def test_deep_values_have_a_text() -> None:
    value: Any = float("nan")
    for _ in range(250):
        value = [{"a": value}]
    assert json_text(value).count("[") == 250


# -- cost ------------------------------------------------------------------------------------------------------------


def test_each_version_is_decoded_once_and_only_what_is_asked_for(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, Any]] = [{"n": number} for number in range(50)]
    steps[0]["text"] = "never changed"
    steps[1]["items"] = ["a"]
    steps[2]["items"] = ["b"]
    wide(store, steps)
    decoded: list[bytes] = []
    decode = Codec.decode

    def counted(self: Codec, encoding: int, payload: bytes | memoryview) -> Any:
        decoded.append(bytes(payload))
        return decode(self, encoding, payload)

    monkeypatch.setattr(Codec, "decode", counted)
    assert len(history_table(store)) == 51
    assert decoded == []
    assert column(history_table(store, channels=["text"]), "state.text")[1:] == ["never changed"] * 50
    assert len(decoded) == 1
    decoded.clear()
    assert column(history_table(store, channels=["items"]), "state.items")[-1] == ["a", "b"]
    assert len(decoded) == 2


def test_ten_thousand_checkpoints_come_in_batches(store: MemoryStore) -> None:
    until(9_999, store).invoke({"n": 0}, {**thread("t"), "recursion_limit": 20_000})
    batches = list(history_batches(store, channels=["n"], batch_rows=1_000))
    assert [len(batch) for batch in batches] == [1_000] * 10
    assert len({batch.schema for batch in batches}) == 1
    assert [value for batch in batches for value in batch.column("state.n").to_pylist()] == list(range(10_000))


def test_large_values_make_small_batches(store: MemoryStore) -> None:
    wide(store, [{"text": str(number) * 3_000_000} for number in range(9)])
    batches = list(history_batches(store, channels=["text"]))
    assert max(batch.nbytes for batch in batches) < 24 << 20
    assert sum(len(batch) for batch in batches) == 10


def test_reading_stops_where_the_thread_stood(store: MemoryStore) -> None:
    """A thread that goes on while it is read gives no rows of a state that its status does not belong to."""

    class Growing(MemoryStore):
        listed = False

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            if self.listed:
                self.listed = False
                graph.invoke({"n": 0}, thread("t"))
            return super().segments(thread_id, **bounds)

    growing = Growing()
    graph = until(3, growing)
    graph.invoke({"n": 0}, thread("t"))
    reader = history_batches(growing, threads="t")
    growing.listed = True
    assert reader.read_all().num_rows == 4


# -- refusals and damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "steps"}, "kind is 'steps'"),
        ({"channels": "n"}, "list of names"),
        ({"since": datetime(2024, 1, 1)}, "time zone"),
        ({"threads": "t", "graph": "g"}, "not both"),
        ({"status": "asleep"}, "asleep"),
        ({"batch_rows": 0}, "batch_rows"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(store: MemoryStore, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        history_batches(store, **options)


def test_an_unknown_thread_is_told_before_anything_is_read(store: MemoryStore) -> None:
    with pytest.raises(UnknownThread, match="nobody"):
        history_batches(store, threads=["nobody"])


def test_options_and_selection_have_the_same_names() -> None:
    assert set(HistoryOptions.__annotations__) == {field.name for field in fields(Selection) if field.init}


def test_a_damaged_value_is_named(store: MemoryStore) -> None:
    wide(store, [{"n": 1}, {"n": 2}])

    class Damaged(MemoryStore):
        def __getattribute__(self, name: str) -> Any:
            return object.__getattribute__(self, name) if name == "segments" else getattr(store, name)

        def segments(self, thread_id: str, **bounds: Any) -> list[Segment]:
            return [
                Segment(
                    thread_id=one.thread_id,
                    first=one.first,
                    last=one.last,
                    epoch=one.epoch,
                    commit_id=one.commit_id,
                    rows=tuple(
                        row._replace(payload=b"\xc1") if row.channel == "n" and row.checkpoint == 3 else row
                        for row in one.rows
                    ),
                )
                for one in store.segments(thread_id, **bounds)
            ]

    assert len(history_table(Damaged())) == 3
    with pytest.raises(Corrupt, match="channel 'n' of thread 't' at checkpoint 3"):
        history_table(Damaged(), channels=["n"])


# -- through a client ------------------------------------------------------------------------------------------------


def test_a_client_reads_the_memory_store_of_its_service(head: HeadOptions, tmp_path: Path) -> None:
    with service(head, "memory://") as client:
        handle = client.submit(menu, {"do": "last", "folder": str(tmp_path), "n": 7}, thread_id="t")
        assert handle.result(timeout=60)["items"] == ["first", "last"]
        table = client.history_table(threads="t", channels=["n", "items"])
        assert column(table, "state.n") == [7, 7, 7]
        assert column(table, "state.items")[-1] == ["first", "last"]
        with client.history_batches(kind="writes", channels=["items"], batch_rows=1) as reader:
            assert [batch.column("node").to_pylist() for batch in reader] == [["first"], ["last"]]


# -- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    url = f"sqlite:///{tmp_path}/threads.db"
    with open_store(url) as opened:
        until(3, opened, name="counts").invoke({"n": 0, "items": ["é"]}, thread("t"))
        until(2, opened, name="counts").invoke({"n": 0}, {**thread(HOSTILE), "metadata": {HOSTILE: HOSTILE}})
        chain({"ask": asks("?")}, opened, name="asking").invoke({"n": 7}, thread("waits"))
    return url


def perdure(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def exported(url: str, *arguments: str, code: int = 0) -> Any:
    done = perdure("export", "--store", url, *arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_export_writes_a_parquet_file_that_pandas_reads(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    summary = exported(url, "--parquet", str(out), "--channels", "n,items")
    frame = pd.read_parquet(out)
    assert (summary["rows"], summary["threads"], summary["bytes"]) == (len(frame), 3, out.stat().st_size)
    assert summary["columns"]["state.n"] == "int64"
    assert frame[frame.thread_id == "t"]["state.n"].tolist() == [0, 1, 2, 3]
    assert list(frame[frame.thread_id == "t"]["state.items"].iloc[0]) == ["é"]
    assert set(frame.thread_id) == {"t", HOSTILE, "waits"}
    hostile = frame[frame.thread_id == HOSTILE]
    assert json.loads(hostile.metadata.iloc[0]) == {HOSTILE: HOSTILE}
    assert frame.created_at.dt.tz is not None
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        (["--thread", "t", "--thread", "waits"], {"t", "waits"}),
        (["--status", "interrupted"], {"waits"}),
        (["--graph", "counts"], {"t", HOSTILE}),
        (["--only-heads", "--graph", "counts"], {"t", HOSTILE}),
        (["--until", "2020-01-01"], set()),
        (["--since", "2020-01-01T00:00+02:00", "--run", "1", "--graph", "asking"], {"waits"}),
        (["--kind", "values", "--channels", "n"], {"t", HOSTILE, "waits"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_export_takes_the_options_of_tables(url: str, tmp_path: Path, options: list[str], threads: set[str]) -> None:
    out = tmp_path / "out.arrow"
    summary = exported(url, "--arrow", str(out), *options)
    table = pa.ipc.open_file(str(out)).read_all()
    assert set(column(table, "thread_id")) == threads
    assert summary["rows"] == len(table)
    if "--only-heads" in options:
        assert len(table) == 2


def test_export_shows_no_control_characters(url: str, tmp_path: Path) -> None:
    done = perdure("export", "--store", url, "--parquet", str(tmp_path / "a\x1b[2Jb.parquet"), "--channels", HOSTILE)
    assert done.exit_code == 0, done.output
    assert "no checkpoint has a value of channel" in done.stderr
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output


def test_an_export_replaces_only_when_told_to(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("precious")
    assert "--force" in exported(url, "--parquet", str(out), code=2)["error"]["message"]
    assert out.read_text() == "precious"
    exported(url, "--parquet", str(out), "--force")
    assert pd.read_parquet(out).shape[0] == 8
    assert "no folder" in exported(url, "--parquet", str(tmp_path / "no" / "x"), code=2)["error"]["message"]
    assert "no file" in exported(url, "--parquet", str(tmp_path), "--force", code=2)["error"]["message"]
    assert "one file" in exported(url, code=2)["error"]["message"]
    assert "no time" in exported(url, "--arrow", str(tmp_path / "y"), "--since", "soon", code=2)["error"]["message"]


def test_an_interrupted_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("before")

    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        assert [path.name.startswith(".out.parquet.") for path in tmp_path.iterdir()].count(True) == 1
        raise KeyboardInterrupt

    reader = pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), broken())
    with pytest.raises(KeyboardInterrupt):
        write_file(reader, out, "parquet", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    assert out.read_text() == "before"


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    batch = pa.record_batch({"a": list(range(50_000))})
    reader = pa.RecordBatchReader.from_batches(batch.schema, iter([batch] * 7))
    written = write_file(reader, tmp_path / "out.parquet", "parquet")
    assert (written.rows, written.groups) == (350_000, 3)
    assert pa.parquet.ParquetFile(written.path).metadata.num_row_groups == 3


def test_export_shows_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "home"))
    url = "postgresql://user:s3cr3t-word@127.0.0.1:1/none?connect_timeout=1"
    done = perdure("export", "--store", url, "--parquet", str(tmp_path / "out"), "--debug")
    assert done.exit_code != 0
    assert "s3cr3t-word" not in done.output
    assert list(tmp_path.glob("*out*")) == []
