"""The benchmarks work, with tiny numbers: what they measure here means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import appends, children, dbos_side, langgraph_side, orders, perdure_side, plot, threads
from benchmarks.__main__ import NAMES, measure
from benchmarks.amounts import Amounts
from benchmarks.backends import Backend, Postgres, Redis, Sqlite
from benchmarks.cluster import Bench
from benchmarks.marks import marks
from benchmarks.report import Line, Report
from perdure import HeadOptions
from tests.servers.postgres import PostgresDatabases
from tests.servers.redis import RedisDatabase

TINY = Amounts(
    rounds=1,
    append_rounds=1,
    steps=4,
    appends=(4, 8),
    long=12,
    loads=1,
    threads=2,
    workers=(2,),
    width=4,
    kills=1,
    travel=6,
    visits=2,
    reruns=8,
)
ROOT = Path(__file__).parents[2]
SIDES = {"perdure": perdure_side, "langgraph": langgraph_side, "dbos": dbos_side}


@pytest.fixture
def place(tmp_path: Path, head: HeadOptions) -> Iterator[Bench]:
    with marks(tmp_path) as pipe:
        yield Bench(tmp_path, head, pipe)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are carried out here: a process takes a second to start, and there are dozens."""

    def run_all(side: str, given: Sequence[orders.Order]) -> list[orders.Answer]:
        return [SIDES[side].carry_out(order) for order in given]

    monkeypatch.setattr(children, "run_all", run_all)


PARTS = {
    "sqlite": ("steps", "appends", "loads", "travel"),
    "postgres": ("appends", "crowd", "threads", "travel", "rerun"),
    "redis": ("steps", "loads"),
}
"""Each part at least once, and of each database what is its own; services take seconds to start."""


@pytest.mark.parametrize(
    "name", ["sqlite", pytest.param("postgres", marks=pytest.mark.full), pytest.param("redis", marks=pytest.mark.full)]
)
@pytest.mark.usefixtures("in_this_process")
def test_each_database_is_measured(
    name: str, place: Bench, tmp_path: Path, postgres_server: PostgresDatabases, redis_server: RedisDatabase
) -> None:
    backends: dict[str, Backend] = {
        "sqlite": Sqlite(tmp_path),
        "postgres": Postgres(postgres_server),
        "redis": Redis(redis_server),
    }
    backend = backends[name]
    report = Report(Console(file=StringIO()), tmp_path / "results", judging=False)
    measure(place, report, backend, PARTS[name], TINY)

    written = json.loads(report.write().read_text())["results"]
    assert {found.removesuffix(f"-{name}") for found in written} == set(PARTS[name])
    if "appends" in PARTS[name]:
        grown = written[f"appends-{name}"]["data"]
        assert set(grown) == {side.name for side in appends.sides_of(backend)}
        assert all(one["sizes"]["left"] >= 8 * 1024 * 0.7 for side in grown.values() for one in side["8"])
    if name == "sqlite":
        assert plot.draw(written, tmp_path / "stores.png") == tmp_path / "stores.png"
        assert (tmp_path / "stores.png").stat().st_size > 10_000


@pytest.mark.parametrize("saver", ["", "sqlite"])
def test_a_process_of_its_own_answers(saver: str, tmp_path: Path) -> None:
    side = "langgraph" if saver else "perdure"
    given = {"n": 0, "steps": 4, "texts": [], "report": ""}
    url = f"sqlite:///{tmp_path}/store.db"
    run = orders.Run(url=url, saver=saver, graph="appends", given=given, warm_up=given)
    ran, loaded = children.run_all(side, [run, orders.Load(url=url, saver=saver, graph="appends", texts=4, times=2)])
    assert isinstance(ran, orders.Ran)
    assert isinstance(loaded, orders.Loaded)
    assert loaded.texts == 4
    assert 0 < loaded.middle_texts < 4
    assert len(loaded.newest) == len(loaded.middle) == 2


@pytest.mark.parametrize(("side", "way"), [(side, way) for side, ways in threads.OTHERS.items() for way in ways])
def test_each_way_of_the_other_sides_runs_threads(
    side: str, way: str, postgres_server: PostgresDatabases, in_this_process: None
) -> None:
    url = postgres_server.database()
    order = orders.Batch(url=url, way=way, threads=3, given={"n": 0, "steps": 2, "report": ""})
    assert children.run(side, order, orders.Crowded).seconds > 0
    postgres_server.drop(url)


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(children.ChildFailed, match="nowhere"):
        children.run("perdure", orders.Compact(url="nowhere://x"), orders.Compacted)


def test_small_numbers_are_not_judged() -> None:
    line = Line("speed", "1x", "target 2x", met=False)
    for judging, missed in ((True, 1), (False, 0)):
        report = Report(Console(file=StringIO()), judging=judging)
        report.add("speed", "speed", [line], {})
        assert len(report.missed) == missed


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_command_measures_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    results = json.loads(path.read_text())["results"]
    assert {name.partition("-")[0] for name in results} == set(NAMES)
    assert (tmp_path / "stores.png").exists()
