"""The command line where it needs no cluster: reading a store, what is typed, errors, exit codes."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import pytest
from typer.testing import CliRunner, Result

from perdure import END, START, StateGraph, Status, heartbeat, open_store, receive
from perdure.cluster.cli import app
from perdure.cluster.cli.documents import plain
from perdure.cluster.cli.exits import MEANINGS, Exit
from perdure.cluster.head import running_head
from tests.cluster.graphs_cli import State, asking_builder

FOLDER = Path(__file__).parent
EVIL = "evil\x1b[2J[b]"


class Odd(TypedDict, total=False):
    day: Any
    some: Any
    nan: float


def odd(state: Odd) -> Odd:
    return {"day": date(2024, 5, 1), "some": {3}, "nan": float("nan")}


def bad(state: State) -> State:
    raise ValueError("line one\nline two \x1b[31m")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a head would be, if a command started one."""
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path, home: Path) -> str:
    """A store with a thread of three runs, one that waits, one that failed, and one with a dangerous name."""
    url = f"sqlite:///{tmp_path}/threads.db"
    with open_store(url) as opened:
        asking = asking_builder.compile(checkpointer=opened, name="asking")
        asking.invoke({"n": 1}, _config("waits", metadata={"customer": "[red]x", "level": 3}, tags=["urgent"]))
        builder = StateGraph(Odd)
        builder.add_node("odd", odd)
        builder.add_edge(START, "odd")
        builder.add_edge("odd", END)
        oddity = builder.compile(checkpointer=opened, name="odd")
        for _ in range(3):
            oddity.invoke({}, _config("odd"))
        oddity.invoke({}, _config(EVIL))
        failing = StateGraph(State)
        failing.add_node("bad", bad)
        failing.add_edge(START, "bad")
        failing.add_edge("bad", END)
        with pytest.raises(ValueError, match="line one"):
            failing.compile(checkpointer=opened, name="failing").invoke({"n": 1}, _config("failed"))
    return url


def _config(thread_id: str, **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, **more}


def perdure(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def document(*arguments: str, code: int = 0) -> Any:
    """What a command prints with --json; it prints nothing else."""
    done = perdure(*arguments, "--json")
    assert done.exit_code == code, done.output
    assert done.stderr == ""
    return json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# -- ls, show, history -----------------------------------------------------------------------------------------------


def test_ls_lists_newest_first(store: str) -> None:
    listed = document("ls", "--store", store)
    assert [thread["thread_id"] for thread in listed["threads"]] == ["failed", EVIL, "odd", "waits"]
    assert [thread["status"] for thread in listed["threads"]] == ["failed", "succeeded", "succeeded", "interrupted"]
    assert listed["more"] is False
    waits = listed["threads"][-1]
    assert (waits["metadata"], waits["tags"]) == ({"customer": "[red]x", "level": 3}, ["urgent"])
    assert waits["driver"] == "inprocess"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "failed", "--status", "interrupted"], ["failed", "waits"]),
        (["--graph", "odd", "--limit", "1"], [EVIL]),
        (["--tag", "urgent"], ["waits"]),
        (["--metadata", "level=3"], ["waits"]),
        (["--metadata", 'level="3"'], []),
        (["--metadata", "customer=[red]x", "--tag", "urgent"], ["waits"]),
    ],
)
def test_ls_filters(store: str, options: list[str], found: list[str]) -> None:
    assert [thread["thread_id"] for thread in document("ls", "--store", store, *options)["threads"]] == found


def test_the_store_may_come_from_the_environment(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_STORE", store)
    assert len(document("ls")["threads"]) == 4


def test_tables_show_text_as_it_is_and_steer_no_terminal(store: str) -> None:
    """Ids, reasons and values are other people's text: brackets in them are no markup, escapes no commands."""
    for command in (["ls"], ["show", "failed"], ["show", EVIL], ["history", EVIL, "--values"]):
        done = perdure(*command, "--store", store)
        assert done.exit_code == 0
        assert "\x1b" not in done.output
    assert "customer=[red]x" in perdure("ls", "--store", store).stdout
    assert r"evil\x1b[2J[b]" in perdure("ls", "--store", store).stdout


def test_ls_says_when_there_is_more(store: str) -> None:
    done = perdure("ls", "--store", store, "--limit", "3")
    assert "there are more" in done.stderr
    assert "there are more" not in perdure("ls", "--store", store).stderr
    assert perdure("ls", "--store", store, "--tag", "none").stdout == ""


def test_show_says_what_a_thread_waits_for(store: str) -> None:
    shown = document("show", "waits", "--store", store)
    assert (shown["status"], shown["next"], shown["values"]) == ("interrupted", ["ask"], {"n": 2})
    assert [one["value"] for one in shown["interrupts"]] == [{"n": 2}]
    assert [one["id"] for one in shown["interrupts"]] == shown["waits"]
    text = perdure("show", "waits", "--store", store).stdout
    assert shown["waits"][0] in text
    assert "urgent" in text


def test_show_gives_the_error_with_its_traceback(store: str) -> None:
    shown = document("show", "failed", "--store", store)
    assert shown["error"]["type"] == "ValueError"
    assert shown["error"]["node"] == "bad"
    assert "in bad" in shown["error"]["traceback"]
    assert [run["status"] for run in shown["runs"]] == ["failed"]


def test_values_that_are_not_json_are_given_by_repr(store: str) -> None:
    values = document("show", "odd", "--store", store)["values"]
    assert values == {"day": "datetime.date(2024, 5, 1)", "some": "{3}", "nan": "nan"}
    assert "datetime.date(2024, 5, 1)" in perdure("show", "odd", "--store", store).stdout


def test_plain_gives_json_for_everything() -> None:
    value = {"a": (1, [None, True]), 2: b"x", "status": Exit.OK, "inf": float("inf")}
    assert plain(value) == {"a": [1, [None, True]], "2": "b'x'", "status": 0, "inf": "inf"}


def test_history_goes_back_in_pages(store: str) -> None:
    whole = document("history", "odd", "--store", store)["checkpoints"]
    assert [one["run"] for one in whole] == [3, 3, 2, 2, 1, 1]
    assert [one["nodes"] for one in whole][:2] == [["odd"], []]
    assert "values" not in whole[0]
    first = document("history", "odd", "--store", store, "--limit", "4", "--values")
    assert (len(first["checkpoints"]), first["more"]) == (4, True)
    assert first["checkpoints"][0]["values"]["some"] == "{3}"
    before = first["checkpoints"][-1]["checkpoint_id"]
    rest = document("history", "odd", "--store", store, "--before", before)
    assert ([one["checkpoint_id"] for one in rest["checkpoints"]], rest["more"]) == (
        [one["checkpoint_id"] for one in whole[4:]],
        False,
    )
    assert f"--before {before}" in perdure("history", "odd", "--store", store, "--limit", "4").stderr


def test_history_filters_by_metadata(store: str) -> None:
    found = document("history", "odd", "--filter", "source=input", "--store", store)["checkpoints"]
    assert [one["run"] for one in found] == [3, 2, 1]


def test_a_checkpoint_is_shown_whole(store: str) -> None:
    newest = document("history", "odd", "--limit", "1", "--store", store)["checkpoints"][0]
    shown = document("show", "odd", "--checkpoint", newest["checkpoint_id"], "--store", store)
    assert {**shown, "values": None} == {**newest, "values": None}
    assert (shown["nodes"], shown["next"], shown["tasks"], set(shown["values"])) == (
        ["odd"],
        [],
        [],
        {"day", "some", "nan"},
    )
    assert shown["version"]
    assert document("show", "odd", "--checkpoint", "99999", "--store", store, code=Exit.NOT_FOUND)["exit_code"] == 6
    assert (
        newest["checkpoint_id"]
        in perdure("show", "odd", "--checkpoint", newest["checkpoint_id"], "--store", store).stdout
    )


def test_diff_says_what_differs(store: str) -> None:
    ids = [one["checkpoint_id"] for one in document("history", "odd", "--store", store)["checkpoints"]]
    told = document("diff", "odd", ids[-1], ids[0], "--store", store)
    assert (told["before"], told["after"], set(told["added"]), told["changed"]) == (
        ids[-1],
        ids[0],
        {"day", "some", "nan"},
        {},
    )
    assert "added" in perdure("diff", "odd", ids[-1], "--store", store).stdout
    assert "no key differs" in perdure("diff", "odd", ids[0], "--store", store).output


def test_show_still_shows_the_row_of_a_damaged_thread(store: str) -> None:
    with sqlite3.connect(store.removeprefix("sqlite:///")) as raw:
        raw.execute("UPDATE segments SET data = x'00'")
    shown = document("show", "waits", "--store", store, code=7)
    assert (shown["status"], shown["values"]) == ("interrupted", None)
    assert shown["unreadable"]
    assert document("history", "waits", "--store", store, code=7)["error"]["type"] == "Corrupt"


def test_reading_starts_no_head_and_creates_nothing(tmp_path: Path, home: Path) -> None:
    for command in (["ls"], ["show", "t"], ["history", "t"], ["resume", "t"], ["cancel", "t"], ["attach", "t"]):
        done = perdure(*command, "--store", f"sqlite:///{tmp_path}/none.db")
        assert done.exit_code == Exit.UNREACHABLE
        assert "there is no such file" in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_left_empty(tmp_path: Path, home: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    assert document("ls", "--store", f"sqlite:///{empty}", code=7)["error"]["type"] == "StoreMissing"
    assert empty.stat().st_size == 0
    assert list(tmp_path.iterdir()) == [empty]


def test_a_memory_store_without_a_head_is_nowhere(home: Path) -> None:
    assert "no local head" in document("ls", "--store", "memory://", code=7)["error"]["message"]
    assert running_head() is None


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["show", "nobody"], Exit.NOT_FOUND, "no thread 'nobody'"),
        (["history", "nobody"], Exit.NOT_FOUND, "no thread 'nobody'"),
        (["history", "odd", "--before", "x"], Exit.NOT_FOUND, "no checkpoint 'x'"),
        (["resume", "nobody"], Exit.NOT_FOUND, "no thread 'nobody'"),
        (["cancel", "waits"], Exit.USAGE, "runs it in its own process"),
        (["resume", "waits", "yes"], Exit.USAGE, """a text needs quotes: '"yes"'"""),
        (["ls", "--metadata", "level"], Exit.USAGE, "key=value"),
    ],
)
def test_errors_are_one_line_and_one_code(store: str, home: Path, arguments: list[str], code: Exit, text: str) -> None:
    done = perdure(*arguments, "--store", store)
    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    told = document(*arguments, "--store", store, code=code)
    assert text in told["error"]["message"]
    assert told["exit_code"] == code
    assert running_head() is None


def test_debug_adds_the_traceback(store: str) -> None:
    done = perdure("show", "nobody", "--store", store, "--debug")
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("`perdure ls`\n")


# -- what is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        ("graphs_cli", "MODULE:GRAPH"),
        (":asking", "MODULE:GRAPH"),
        ("graphs_cli.py:asking", "name the module, as an import would: graphs_cli:asking"),
        ("no_such_module:graph", "there is no module 'no_such_module'"),
        ("graphs_cli:nothing", "its compiled graphs are asking, ticking"),
        ("graphs_cli:no_graph", "is a int, not a compiled graph"),
        ("graphs_cli:asking_builder", "graph = asking_builder.compile(name=...)"),
        ("broken:graph", "module 'broken' cannot be imported: ZeroDivisionError: division by zero"),
        ("needy:graph", "module 'needy' cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("leaving:graph", "module 'leaving' cannot be imported: SystemExit: 3"),
    ],
)
def test_a_graph_that_cannot_be_had(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str, text: str
) -> None:
    sources = {"broken": "1 / 0", "needy": "import not_there", "leaving": "import sys; sys.exit(3)"}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "graphs_cli.py").write_text((FOLDER / "graphs_cli.py").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = perdure("run", graph)
    assert done.exit_code == Exit.USAGE
    assert text in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "perdure.db").exists()
    assert running_head() is None


@pytest.mark.parametrize(
    ("given", "stdin", "text"),
    [
        ("{", None, "--input is not JSON"),
        ("@none.json", None, "--input @none.json cannot be read"),
        ("-", "nope", "--input, read from stdin, is not JSON"),
    ],
)
def test_an_input_that_cannot_be_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, stdin: str | None, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = perdure("run", "tests.cluster.graphs_cli:asking", "--input", given, stdin=stdin)
    assert done.exit_code == Exit.USAGE
    assert text in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["ls", "--nonsense"], ["show"], ["ls", "--status", "nonsense"], ["ls", "--limit", "0"]],
)
def test_wrong_usage_is_told_as_json_too(home: Path, arguments: list[str]) -> None:
    assert perdure(*arguments).exit_code == Exit.USAGE
    told = document(*arguments, code=Exit.USAGE)
    assert told["error"]["type"] == "UsageError"


def test_an_unreachable_cluster_is_told_soon(store: str, home: Path, tmp_path: Path) -> None:
    """Ray itself goes on trying for two minutes."""
    with open_store(store) as opened:
        raw = opened.thread("odd")
    with sqlite3.connect(store.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE threads SET driver = 'service' WHERE thread_id = ?", (raw.thread_id,))
    begun = time.monotonic()
    told = document("attach", "odd", "--store", store, "--address", "127.0.0.1:1", code=7)
    assert "no Ray cluster answers at 127.0.0.1:1" in told["error"]["message"]
    assert time.monotonic() - begun < 15


# -- help and version ------------------------------------------------------------------------------------------------


def test_version() -> None:
    done = perdure("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("perdure ")
    assert perdure("version").stdout == done.stdout
    assert {"perdure", "ray", "python"} <= document("version").keys()


def test_help_documents_every_exit_code() -> None:
    text = perdure("--help").stdout
    assert [code for code in Exit if f"{code.value}: " not in text] == []
    assert set(MEANINGS) == set(Exit)


def test_show_says_which_signal_and_which_time_a_thread_waits_for(tmp_path: Path, home: Path) -> None:
    url, found = f"sqlite:///{tmp_path}/waiting.db", threading.Event()

    def wait(state: State) -> State:
        heartbeat("packed 3 of 5")
        found.set()
        return {"n": receive("price", timeout=3600)}

    with open_store(url) as opened:
        builder = StateGraph(State)
        builder.add_node("wait", wait).add_edge(START, "wait").add_edge("wait", END)
        graph = builder.compile(checkpointer=opened, name="waiting")
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(graph.invoke, {"n": 1}, _config("late"))
            try:
                assert found.wait(60)
                deadline = time.monotonic() + 60
                while opened.thread("late").status is not Status.WAITING and time.monotonic() < deadline:
                    time.sleep(0.01)
                text = perdure("show", "late", "--store", url).stdout
            finally:
                graph.signal(_config("late"), "price", 7)
            assert run.result(60)["n"] == 7
    assert "signal 'price'" in text
    assert "wakes at" in text
    assert "packed 3 of 5" in text
