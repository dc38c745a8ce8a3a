"""One writer at a time: a thread that another process runs, one whose process died, one that was taken away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import CheckpointStore, Command, NotInterrupted, PerdureError, ThreadBusy, ThreadRecord, open_store
from perdure.runtime.options import RunOptions
from perdure.runtime.payloads import INPUT, UPDATE, InputPayload, pack, pack_input
from perdure.stores.operations import Commit, Expect
from perdure.stores.records import IN_PROCESS, Message, Status
from tests.forks import FORKS
from tests.runtime import owned
from tests.runtime.engine import THREAD, chain, history, says


class Process:
    """`owned.main` in a process of its own."""

    def __init__(self, folder: Path, durability: str = "async", then: str = "start") -> None:
        given: dict[str, Any] | None = {} if then == "start" else None
        self._running = FORKS.Process(target=owned.main, args=(folder, durability, given))
        self._running.start()

    @property
    def ended(self) -> bool:
        return self._running.exitcode is not None

    def end(self, timeout: float = 30) -> int | None:
        """Its exit code, or minus the signal that killed it."""
        self._running.join(timeout)
        return self._running.exitcode

    def send(self, number: int) -> None:
        assert self._running.pid is not None
        os.kill(self._running.pid, number)

    def kill(self) -> None:
        self._running.kill()
        self._running.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts processes, and waits until each holds the thread in its second node."""
    started: list[Process] = []

    def begin(durability: str = "async", then: str = "start") -> Process:
        before = owned.noted(tmp_path).count("hold")
        process = Process(tmp_path, durability, then)
        started.append(process)
        wait_for(lambda: owned.noted(tmp_path).count("hold") > before or process.ended)
        return process

    yield begin
    for process in started:
        process.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def test_a_thread_that_a_live_process_runs_is_busy(
    start: Callable[..., Process], sqlite: CheckpointStore, tmp_path: Path
) -> None:
    process = start()
    graph = owned.graph(sqlite)
    uses: list[Callable[[], Any]] = [
        lambda: graph.invoke({}, owned.config(tmp_path)),
        lambda: graph.invoke(None, owned.config(tmp_path)),
        lambda: graph.update_state(owned.config(tmp_path), {"n": 1}),
    ]
    for use in uses:
        with pytest.raises(ThreadBusy, match="thread 't': it is running") as caught:
            use()
        assert caught.value.thread_id == "t"
    assert len(sqlite.messages("t", unread=False)) == 1
    (tmp_path / "go").touch()
    assert process.end() == 0
    assert owned.noted(tmp_path) == ["first", "hold", "last", "ended with ['first', 'hold in child', 'last']"]


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_thread_whose_process_was_killed_goes_on(
    start: Callable[..., Process], sqlite: CheckpointStore, tmp_path: Path, durability: str
) -> None:
    process = start(durability)
    wait_for(lambda: sqlite.thread("t").seq >= 2)
    process.send(signal.SIGKILL)
    process.end()
    assert sqlite.thread("t").status == "running"
    for name in ("go", "parent"):
        (tmp_path / name).touch()
    found = owned.graph(sqlite).invoke(None, owned.config(tmp_path))
    assert found["items"] == ["first", "hold in parent", "last"]
    assert owned.noted(tmp_path) == ["first", "hold", "hold", "last"]
    assert (sqlite.thread("t").epoch, sqlite.thread("t").crashes) == (2, 0)


def test_crashes_without_progress_are_counted_and_end_in_a_pause(
    start: Callable[..., Process], sqlite: CheckpointStore, tmp_path: Path
) -> None:
    (tmp_path / "die").write_text(str(int(signal.SIGKILL)))
    for turn in range(3):
        process = start("sync", "start" if turn == 0 else "go on")
        assert process.end() == -signal.SIGKILL
        assert sqlite.thread("t").crashes == turn
    (tmp_path / "die").unlink()
    graph, config = owned.graph(sqlite), owned.config(tmp_path)
    with pytest.raises(PerdureError, match=r"its process died 3 times at step 1 \('hold'\) without progress"):
        graph.invoke(None, config)
    assert (sqlite.thread("t").status, sqlite.thread("t").owner) == ("paused", "")
    assert graph.get_state(config).next == ("hold",)
    (tmp_path / "go").touch()
    assert graph.invoke(None, config)["items"] == ["first", "hold in child", "last"]
    assert owned.noted(tmp_path).count("first") == 1
    assert sqlite.thread("t").crashes == 0


def test_a_pause_before_a_run_survives_its_owner(store: CheckpointStore) -> None:
    """A thread whose processes died before its input was taken was run again by the next message to it."""
    ran: list[int] = []
    graph = chain({"a": lambda state: {"items": [ran.append(1)]}}, store)  # type: ignore[func-returns-value]
    payload = pack_input(graph.codec, InputPayload({}, RunOptions()))
    record = ThreadRecord(thread_id="t", graph=graph.name, version=graph.version, driver=IN_PROCESS)
    store.create(record, Message(message_id="1", kind=INPUT, payload=payload))
    for epoch in range(3):
        store.claim("t", epoch=epoch, token=str(epoch), owner="gone", crashed=True)
    runner = graph._runner(graph._config(THREAD))
    # The update is progress, after which the deaths are no longer counted.
    for kind, given in ((UPDATE, pack(graph.codec, {"n": 1}, None)), (INPUT, payload), (INPUT, payload)):
        runner.run("t")
        assert (store.thread("t").status, ran) == (Status.PAUSED, [])
        assert "died 3 times before its input was taken" in store.thread("t").reason
        message = Message(message_id=f"after {store.thread('t').inbox}", kind=kind, payload=given)
        store.deliver("t", message, Expect(statuses=frozenset(Status)))
    assert store.thread("t").crashes == 0


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_an_owner_that_was_replaced_while_it_was_stopped_writes_nothing(
    start: Callable[..., Process], sqlite: CheckpointStore, tmp_path: Path, durability: str
) -> None:
    process = start(durability)
    wait_for(lambda: durability == "exit" or sqlite.thread("t").seq >= 2)
    process.send(signal.SIGSTOP)
    take_away(sqlite)
    for name in ("go", "parent"):
        (tmp_path / name).touch()
    found = owned.graph(sqlite).invoke(None, owned.config(tmp_path))
    assert found["items"] == ["first", "hold in parent", "last"]
    kept, record = sqlite.segments("t"), sqlite.thread("t")
    (tmp_path / "parent").unlink()

    process.send(signal.SIGCONT)
    assert process.end() == 3
    assert owned.noted(tmp_path)[-1] == "Fenced"
    assert sqlite.segments("t") == kept
    assert sqlite.thread("t") == record


def take_away(store: CheckpointStore) -> None:
    """What a supervisor does to an owner that does not answer."""
    record = store.thread("t")
    taken = store.claim("t", epoch=record.epoch, token="by force", owner="somebody else")
    release = Commit(
        thread_id="t",
        epoch=taken.epoch,
        token="by force",
        commit_id="released by force",
        first=taken.seq + 1,
        last=taken.seq + 1,
        status=Status.QUEUED,
        release=True,
    )
    store.commit([release])


def test_a_thread_is_busy_for_the_other_threads_of_its_process(store: CheckpointStore) -> None:
    held, free = threading.Event(), threading.Event()

    def hold(state: Any) -> dict[str, Any]:
        held.set()
        assert free.wait(20)
        return {"items": ["held"]}

    graph = chain({"hold": hold}, store)
    runner = threading.Thread(target=graph.invoke, args=({}, THREAD))
    runner.start()
    assert held.wait(20)
    with pytest.raises(ThreadBusy):
        graph.invoke({}, THREAD)
    free.set()
    runner.join()
    assert graph.invoke({}, THREAD)["items"] == ["held", "held"]


def test_a_thread_of_the_service_is_not_run_in_process(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    store.create(ThreadRecord(thread_id="t", graph="graph", version="1"), Message(message_id="m", kind="input"))
    uses: list[Callable[[], Any]] = [
        lambda: graph.invoke({}, THREAD),
        lambda: graph.update_state(THREAD, {"n": 1}),
    ]
    for use in uses:
        with pytest.raises(ThreadBusy, match=r"the Ray service drives it; use connect\(...\).thread"):
            use()


def test_a_resume_of_a_thread_that_does_not_wait(store: CheckpointStore) -> None:
    graph = chain({"a": says("a")}, store)
    graph.invoke({}, THREAD)
    with pytest.raises(NotInterrupted, match="thread 't': it is succeeded and waits for no answer"):
        graph.invoke(Command(resume=1), THREAD)


def test_seq_and_epoch_of_a_thread_only_rise(store: CheckpointStore) -> None:
    graph = chain({"a": says("a"), "b": says("b")}, store, interrupt_before=["b"])
    found = []
    inputs: list[Any] = [{}, None, {}, None]
    for input in inputs:
        graph.invoke(input, THREAD)
        found.append((store.thread("t").epoch, store.thread("t").seq))
    assert found == sorted(set(found))
    segments = store.segments("t")[::-1]
    assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments[:-1])]
    assert [shot.metadata["run"] for shot in history(graph)] == [1, 1, 1, 2, 2, 2]


def test_two_stores_in_one_process_see_the_same_thread(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    with open_store(url) as one, open_store(url) as other:
        chain({"a": says("a"), "b": says("b")}, one, interrupt_before=["b"]).invoke({}, THREAD)
        assert chain({"a": says("a"), "b": says("b")}, other).invoke(None, THREAD)["items"] == ["a", "b"]
