"""Old against new: what a batch came to beside its originals, as a table, a Parquet file and a page."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypedDict

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from perdure import BatchRerun, CheckpointStore, CompiledGraph, InputError, UnknownThread, get_context, measure, task
from perdure.cluster.cli.call import Answer, Call
from perdure.cluster.cli.comparing import compare
from perdure.cluster.compare_page import comparison_page
from perdure.cluster.compare_plots import POINT
from perdure.cluster.compare_summary import OTHERS, Comparison, Pairs
from perdure.cluster.comparing import number_at
from perdure.cluster.errors import ClientError
from perdure.stores.deletion import delete_thread
from perdure.stores.memory import MemoryStore
from tests.cluster.pumping import PumpedClient
from tests.runtime.conftest import store
from tests.runtime.engine import chain
from tests.sim.faults import Delegating

__all__ = ["store"]


class Bill(TypedDict, total=False):
    n: int
    usage: dict[str, Any]
    total: int
    note: str


def billing(price: int, version: str, *, note: str = "", more: bool = False) -> CompiledGraph:
    """Reads, then bills; fails for 3 unless it bills nothing."""

    def bill(state: Any) -> Any:
        if state["n"] == 3 and price:
            raise ValueError("no bill for 3")
        made = {"usage": {"tokens": state["n"] * price}, "total": state["n"] * price}
        return {**made, "note": note} if note else made

    nodes: dict[str, Any] = {"read": lambda state: {}, "bill": bill}
    if more:
        nodes["check"] = lambda state: {}
    return chain(nodes, None, Bill, name="billing", version=version)


def rerun(store: CheckpointStore, new: CompiledGraph, *, old: int = 2) -> tuple[PumpedClient, BatchRerun]:
    """The threads t0 to t3, the last of which has failed, re-run from their second node."""
    client = PumpedClient(store)
    for n in range(4):
        client.submit(billing(old, "1"), {"n": n}, f"t{n}")
    client.pump_all()
    batch = client.rerun(None, at="before:bill", graph=new, batch_id="b")
    client.pump_all()
    return client, batch


def rows(batch: BatchRerun, *measures: str) -> dict[str, dict[str, Any]]:
    return {row["thread_id"]: row for row in batch.compare(measures).to_pylist()}


def test_a_version_that_bills_more_and_takes_a_step_more(store: CheckpointStore) -> None:
    _, batch = rerun(store, billing(5, "2", more=True))
    found = rows(batch, "total", "usage.tokens", "n", "nothing")
    one = found["t1"]
    assert (one["rerun_id"], one["outcome"], one["old_status"], one["new_status"]) == (
        "b/t1",
        "succeeded",
        "succeeded",
        "succeeded",
    )
    assert (one["same"], one["keys"]) == (False, ["total", "usage"])
    assert "total: 2 -> 5" in one["diff"]
    assert (one["old_steps"], one["new_steps"]) == (1, 2)
    assert one["old_seconds"] >= 0
    assert one["new_seconds"] >= 0
    assert (one["old.total"], one["new.total"]) == (2.0, 5.0)
    assert (one["old.usage.tokens"], one["new.usage.tokens"]) == (2.0, 5.0)
    assert (one["old.n"], one["new.n"], one["old.nothing"]) == (1.0, 1.0, None)
    # 0 times any price: nothing but a step more.
    assert (found["t0"]["same"], found["t0"]["diff"], found["t0"]["problem"]) == (True, None, None)
    failed = found["t3"]
    assert (failed["old_status"], failed["new_status"], failed["same"]) == ("failed", "failed", True)
    assert (failed["old_steps"], failed["new_steps"], failed["new.total"]) == (0, 0, None)


def test_what_nodes_measured_is_compared_from_the_checkpoint_on(store: CheckpointStore, tmp_path: Path) -> None:
    @task
    def call(tokens: int) -> int:
        measure("tokens", tokens, add=True)
        return tokens

    def version(tokens: int, score: float, name: str) -> CompiledGraph:
        def read(state: Any) -> None:
            measure("tokens", 100, add=True)
            measure("read", 1)

        def bill(state: Any) -> Any:
            measure("tokens", tokens, add=True)
            measure("score", score)
            measure(f"only {name}", 1)
            return {"total": call(7)}

        return chain({"read": read, "bill": bill}, None, Bill, name="billing", version=name)

    client = PumpedClient(store)
    client.submit(version(20, 0.5, "old"), {"n": 1}, "t")
    client.pump_all()
    batch = client.rerun(None, at="before:bill", graph=version(3, 0.75, "new"), batch_id="b")
    client.pump_all()
    found = rows(batch, "tokens", "total")["t"]
    # Read was not run again; and the call was not either, but has its number from the record.
    assert dict(found["old_measures"]) == {"tokens": 27.0, "score": 0.5, "only old": 1.0}
    assert dict(found["new_measures"]) == {"tokens": 10.0, "score": 0.75, "only new": 1.0}
    assert (found["old.tokens"], found["new.tokens"]) == (27.0, 10.0)
    assert (found["old.total"], found["new.total"], found["same"]) == (7.0, 7.0, True)
    document = compare(_call(store), "b", ["tokens"], parquet=tmp_path / "c.parquet").document
    assert {name: (one["old_mean"], one["new_mean"]) for name, one in document["measures"].items()} == {
        "tokens": (27.0, 10.0),
        "score": (0.5, 0.75),
    }
    assert dict(pq.read_table(tmp_path / "c.parquet").column("new_measures")[0].as_py())["score"] == 0.75


def test_a_failure_that_is_mended_differs() -> None:
    _, batch = rerun(MemoryStore(), billing(0, "2"))
    found = rows(batch)["t3"]
    assert (found["old_status"], found["new_status"], found["same"]) == ("failed", "succeeded", False)
    assert found["keys"] == ["total", "usage"]


def test_why_items_failed_is_told_and_counted(tmp_path: Path) -> None:
    """A comparison told that items had failed, and not why: of many that lack the same record nobody saw that."""

    @task
    def convert(amount: int) -> int:
        raise AssertionError("it must not be done")

    newer = chain(
        {"read": lambda state: {}, "bill": lambda state: {"total": convert(state["n"])}},
        None,
        Bill,
        name="billing",
        version="2",
    )
    client, batch = rerun(MemoryStore(), newer)
    found = rows(batch)
    for name in ("t1", "t2", "t3"):
        assert "NotRecorded: thread 'b/" in found[name]["reason"]
        assert found[name]["outcome"] == "failed"
    assert (found["t1"]["old_reason"], found["t3"]["old_reason"]) == (None, "ValueError: no bill for 3")
    assert (found["t3"]["same"], found["t3"]["diff"]) == (False, None)
    path = tmp_path / "page.html"
    summary = batch.compare_page(path)
    ((outcome, reason), many), *others = summary.reasons.most_common()
    assert (outcome, many, others) == ("failed", 4, [])
    assert reason.startswith("perdure.runtime.errors.NotRecorded: thread <re-run>: node 'bill' of graph 'billing'")
    assert "@task 'convert'" in reason
    page = path.read_text()
    assert f'<td>failed</td><td>{escape(reason)}</td><td class="number">4</td>' in page
    assert "failed: ValueError: no bill for 3" in page
    shown = _printed(compare(_call(client.store), "b"))
    assert "thread <re-run>: node 'bill'" in shown


def _printed(answer: Answer) -> str:
    console = Console(width=2000, record=True, file=io.StringIO())
    for one in answer.shown:
        console.print(one)
    return console.export_text()


def test_two_failures_that_name_their_own_threads_are_the_same() -> None:
    def bill(state: Any) -> Any:
        raise ValueError(f"no bill for thread {get_context().thread_id!r}")

    graph = chain({"read": lambda state: {}, "bill": bill}, None, Bill, name="billing")
    client = PumpedClient(MemoryStore())
    client.submit(graph, {"n": 1}, "t")
    client.pump_all()
    batch = client.rerun(None, at="before:bill", batch_id="b")
    client.pump_all()
    row = rows(batch)["t"]
    assert (row["same"], row["old_reason"]) == (True, "ValueError: no bill for thread 't'")
    assert row["reason"] == "ValueError: no bill for thread 'b/t'"


def test_reasons_beyond_counting_are_counted_together() -> None:
    found = Comparison("b")
    for number in range(1500):
        found.count_reason(
            {
                "thread_id": "t",
                "rerun_id": "b/t",
                "checkpoint_id": None,
                "outcome": "failed",
                "reason": f"no {number % 1200}",
                "problem": None,
            }
        )
    assert len(found.reasons) == 1001
    assert found.reasons["failed", OTHERS] == 200
    assert found.reasons["failed", "no 7"] == 2


def test_an_original_that_went_on_is_compared_as_it_was() -> None:
    client, batch = rerun(MemoryStore(), billing(2, "2"))
    before = rows(batch, "total")["t1"]
    assert before["same"]
    client.more(billing(9, "1"), {"n": 5}, "t1")
    client.pump_all()
    assert client.thread("t1").get_state().values["total"] == 45
    assert rows(batch, "total")["t1"] == before


def test_what_cannot_be_compared_says_why() -> None:
    client = PumpedClient(MemoryStore())
    for n in range(5):
        client.submit(billing(1, "1"), {"n": n}, f"t{n}")
    client.pump_all()
    client.submit(billing(1, "1"), {"n": 0}, "b/t0")
    batch = client.rerun(
        {"threads": [f"t{n}" for n in range(5)]},
        at=lambda handle: _before_bill(handle) if handle.thread_id != "t1" else None,
        concurrency=1,
        batch_id="b",
    )
    assert rows(batch) == {}
    client.pump(items=False)
    assert "it was not begun" in rows(batch)["t2"]["problem"]
    client.pump_all()
    delete_thread(client.store, "t2")
    client.store.delete("b/t3")
    found = rows(batch)
    assert found["t0"]["problem"] == "thread 'b/t0' is no part of this batch: the id had been taken"
    assert (found["t1"]["outcome"], found["t1"]["problem"]) == ("skipped", "at() chose no checkpoint of it")
    assert found["t1"]["reason"] == found["t1"]["problem"]
    assert found["t0"]["reason"].startswith("thread 'b/t0' is there, and not of this batch")
    assert found["t2"]["problem"] == "its original was deleted"
    assert (found["t2"]["new_status"], found["t2"]["old_status"]) == ("succeeded", None)
    assert "deleted since" in found["t3"]["problem"]
    assert (found["t4"]["problem"], found["t4"]["same"]) == (None, True)
    client.submit(billing(1, "1"), {"n": 9}, "t2")
    assert rows(batch)["t2"]["problem"] == "its original was deleted; another thread has its id now"


def _before_bill(handle: Any) -> str:
    return next(str(shot.checkpoint_id) for shot in handle.get_state_history() if shot.next == ("bill",))


def test_wrong_measures_and_what_is_no_batch() -> None:
    client, batch = rerun(MemoryStore(), billing(2, "2"))
    with pytest.raises(InputError, match="give a list of names"):
        batch.compare("total")
    with pytest.raises(InputError, match="different names"):
        batch.compare(["total", "total"])
    call = _call(client.store)
    with pytest.raises(ClientError, match="'t1' belongs to graph 'billing'; it is no batch"):
        compare(call, "t1")
    with pytest.raises(UnknownThread):
        compare(call, "none")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("a", 1.0),
        ("b.c", 2.5),
        ("d.e", 3.0),
        ("b.x", None),
        ("true", None),
        ("text", None),
        ("huge", None),
        ("a.b", None),
    ],
)
def test_numbers_of_a_state(name: str, number: float | None) -> None:
    values = {"a": 1, "b": {"c": 2.5}, "d.e": 3, "true": True, "text": "7", "huge": 10**400}
    assert number_at(values, name) == number


# -- reports ---------------------------------------------------------------------------------------------------------


class Here(Call):
    """A use of the command line that is handed its store."""

    handed: CheckpointStore

    @contextmanager
    def opened(self) -> Iterator[CheckpointStore]:
        yield self.handed


def _call(store: CheckpointStore) -> Here:
    call = Here()
    object.__setattr__(call, "handed", store)
    return call


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    client, batch = rerun(MemoryStore(), billing(5, "2"))
    table, page = tmp_path / "c.parquet", tmp_path / "c.html"
    answer = compare(_call(client.store), "b", ["total,usage.tokens"], parquet=table, html=page)
    assert pq.read_table(table).equals(batch.compare(["total", "usage.tokens"]))
    document = json.loads(json.dumps(answer.document, allow_nan=False))
    assert (document["threads"], document["same"], document["differing"], document["problems"]) == (4, 2, 2, 0)
    assert document["statuses"][0] == {"old": "succeeded", "new": "succeeded", "threads": 3}
    assert document["measures"]["total"] == {
        "threads": 3,
        "old_mean": 2.0,
        "new_mean": 5.0,
        "lower": 0,
        "higher": 2,
    }
    assert document["keys"] == {"total": 2, "usage": 2}
    assert answer.notes[0] == "4 threads: 2 the same, 2 differ, 0 could not be compared"
    assert document["reasons"] == [{"outcome": "failed", "reason": "ValueError: no bill for 3", "threads": 1}]
    assert len(answer.shown) == 4
    with pytest.raises(ClientError, match="is there already"):
        compare(_call(client.store), "b", html=page)
    assert page.read_text() == _page_of(batch, "total", "usage.tokens", path=tmp_path / "again.html")


def _page_of(batch: BatchRerun, *measures: str, path: Path) -> str:
    batch.compare_page(path, measures)
    return path.read_text()


class Elements(HTMLParser):
    """Which elements a page has, and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links.update(value or "" for name, value in attrs if name.endswith("href"))


def test_the_page_runs_and_loads_nothing_that_a_thread_holds(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script><img src="http://x/" onerror=y>'
    client, batch = rerun(MemoryStore(), billing(5, "2", note=evil))
    text = _page_of(batch, "total", path=tmp_path / "p.html")
    assert "&lt;script&gt;" in text
    page = Elements()
    page.feed(text)
    assert {"svg", "use", "table"} <= page.tags
    assert not page.tags & {"script", "img", "link", "iframe", "a"}
    assert not page.attributes & {"src", "href", "onerror", "onload"}
    assert all(link.startswith("#") for link in page.links), "only to what is in the page"
    assert text.count("url(") == text.count("url(#")
    assert len(re.findall(f"<use [^>]*fill: {POINT}", text)) == 4 + 4 + 3  # the one that failed has no total
    assert client.store.thread("b").status == "succeeded"


def test_a_page_without_matplotlib_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, batch = rerun(MemoryStore(), billing(5, "2"))
    monkeypatch.delitem(sys.modules, "perdure.cluster.compare_plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "p.html"
    for make in (lambda: batch.compare_page(path), lambda: compare(_call(Away()), "b", html=path)):
        with pytest.raises(ClientError, match=r"pip install 'perdure\[plots\]'"):
            make()
    assert not path.exists()
    compare(_call(client.store), "b", parquet=tmp_path / "c.parquet")


class Away(Delegating):
    """Whoever asks it for anything fails."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())

    def thread(self, thread_id: str) -> Any:
        raise AssertionError("nothing is to be read")


def test_sums_stay_small_and_whole() -> None:
    pairs = Pairs("x", "old.x", "new.x")
    for number in range(5000):
        pairs.add(float(number), float(number + number % 3 - 1))
    pairs.add(math.nan, 1.0)
    pairs.add(None, 1.0)
    assert (pairs.count, len(pairs.points)) == (5000, 1000)
    assert pairs.lower + pairs.higher + sum(number % 3 == 1 for number in range(5000)) == 5000
    found = Comparison("b", ("x$_{<b>}$",))
    found.numbers[-1].add(-1e308, 1e308)
    found.numbers[-1].add(7.0, 7.0)
    page = comparison_page(found)
    assert "nan" not in page
    assert "x$_{&lt;b&gt;}$: 1 of 2 threads" in page
    assert "0 threads" in comparison_page(Comparison("b"))
