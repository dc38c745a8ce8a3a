"""Checkpoints that go, and all the others that stay readable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.saver import PerdureSaver
from perdure.stores.errors import StoreMisuse, StoreUnavailable, ThreadExists
from perdure.stores.exporting import export_threads
from perdure.stores.importing import import_threads
from perdure.stores.memory import MemoryStore
from perdure.stores.records import LOADING, Retention, Segment
from perdure.stores.segments import VALUES
from perdure.stores.thread_file_reading import ThreadFile
from perdure.stores.thread_file_writing import ThreadFileWriter
from perdure.stores.tidying import Tidier
from perdure.stores.vault import PlainVault
from tests.saver.puts import Run, at, values_at, writes_at
from tests.saver.test_graphs import delta_graph, thread


def long_run(saver: PerdureSaver, name: str = "t", runs: int = 4, steps: int = 12) -> list[Any]:
    """Appends, edits and forks, with writes; each checkpoint's config and what it has to read."""
    run, log = Run(saver, name), ["x" * 600]
    kept: list[Any] = []
    for number in range(runs * steps):
        log = [*log, f"{number}" * 100] if number % 5 else [*log[:1], f"{number}", *log[2:]]
        config = run.put({"log": log, "once" if number == 3 else "n": number}, run_id=f"run{number // steps}")
        saver.put_writes(config, [("w", number)], "task")
        kept.append((config, dict(run.values), [("task", "w", number)], number // steps))
        if number % 11 == 10:
            run.go_back(kept[chance(number, len(kept))][0])
            log = run.values["log"]
    saver.put_writes(kept[5][0], [("w", "late")], "late")
    kept[5][2].insert(0, ("late", "w", "late"))
    return kept


def chance(seed: int, below: int) -> int:
    return random.Random(seed).randrange(below)


def check(saver: PerdureSaver, kept: Sequence[Any]) -> None:
    assert [each.config for each in saver.list(at(kept[0][0]["configurable"]["thread_id"]))] == [
        config for config, *_ in reversed(kept)
    ]
    for config, values, writes, _ in kept:
        assert values_at(saver, config) == values
        assert writes_at(saver, config) == writes


def kept_rows(saver: PerdureSaver) -> int:
    store = saver.store
    ids = [row.thread_id for row in store.threads().threads]
    return sum(row.kind in VALUES for each in ids for segment in store.segments(each) for row in segment.rows)


def test_keep_latest_keeps_what_the_newest_is_made_of(any_saver: PerdureSaver) -> None:
    kept = long_run(any_saver)
    before = kept_rows(any_saver)
    any_saver.prune(["t", "unknown"])
    for saver in (any_saver, PerdureSaver(any_saver.store)):
        check(saver, kept[-1:])
        assert saver.get_tuple(kept[0][0]) is None
        newest = saver.get_tuple(at("t"))
        assert newest is not None
        assert newest.parent_config is None
    assert kept_rows(any_saver) < before / 2
    run = Run(any_saver)
    run.go_back(at("t"))
    run.put({"log": [*run.values["log"], "on"]})
    assert values_at(any_saver, at("t"))["log"][-1] == "on"


@pytest.mark.parametrize("gone", [[0], [1, 2], [3], [0, 1, 2, 3]])
def test_deleting_runs_leaves_the_others_whole(any_saver: PerdureSaver, gone: list[int]) -> None:
    kept = long_run(any_saver)
    other = long_run(any_saver, "other", runs=1)
    any_saver.delete_for_runs([f"run{number}" for number in gone if number])
    assert len([*any_saver.list(at("other"))]) == len(other)
    any_saver.delete_for_runs([f"run{number}" for number in gone])
    stay = [each for each in kept if each[3] not in gone]
    if stay:
        check(any_saver, stay)
        check(PerdureSaver(any_saver.store), stay)
    else:
        assert any_saver.get_tuple(at("t")) is None
        assert kept_rows(any_saver) == 0
    run = Run(any_saver)
    if stay:
        run.go_back(at("t"))
    run.put({"log": ["again"]})
    assert values_at(PerdureSaver(any_saver.store), at("t"))["log"] == ["again"]


def test_latecomers_are_found_past_those_that_were_deleted(saver: PerdureSaver) -> None:
    run = Run(saver)
    first, second = (run.put({"n": number}, run_id=f"run{number}") for number in range(2))
    for number in range(2, 30):
        run.put({"n": number}, run_id="run2")
    saver.put_writes(second, [("w", "kept")], "late")
    saver.put_writes(first, [("w", "gone")], "late")
    run.put({"n": 30}, run_id="run2")
    saver.delete_for_runs(["run0"])
    assert writes_at(PerdureSaver(saver.store), second) == [("late", "w", "kept")]


@pytest.mark.parametrize("how", ["prune", "runs"])
def test_delta_channels_survive(any_saver: PerdureSaver, how: str) -> None:
    """LangGraph rebuilds them from the writes of ancestors, which go out of sight but stay."""
    graph, config = delta_graph(any_saver), thread()
    for run in range(3):
        graph.invoke({"count": 0, "log": ["in"]}, {**config, "metadata": {"run_id": f"run{run}"}})
    before = graph.get_state(config).values
    if how == "prune":
        any_saver.prune(["t"])
        assert len([*graph.get_state_history(config)]) == 1
    else:
        any_saver.delete_for_runs(["run0", "run1"])
        assert {each.metadata["run_id"] for each in any_saver.list(config)} == {"run2"}
    assert graph.get_state(config).values == before
    graph.invoke({"count": 6}, config)
    assert len(graph.get_state(config).values["rare"]) == len(before["rare"]) + 1


def packed(saver: PerdureSaver) -> None:
    """Put the segments of all threads together, as a store's housekeeping does."""
    for row in saver.store.threads().threads:
        # Nothing is dropped of threads that are LangGraph's, so what their rows mean is never asked.
        for _ in Tidier(store=saver.store, meaning=cast(Any, None), retention=Retention(max_checkpoints=1)).thread(
            row.thread_id, 0.0
        ):
            pass


def test_packed_histories_read_the_same_and_can_be_pruned(any_saver: PerdureSaver) -> None:
    kept = long_run(any_saver)
    before = len(any_saver.store.segments(any_saver.store.threads().threads[0].thread_id))
    packed(any_saver)
    assert len(any_saver.store.segments(any_saver.store.threads().threads[0].thread_id)) < before / 3
    for saver in (any_saver, PerdureSaver(any_saver.store)):
        check(saver, kept)
    run = Run(any_saver)
    run.go_back(kept[7][0])
    config = run.put({"log": [*run.values["log"], "on"]}, run_id="run9")
    packed(any_saver)
    any_saver.delete_for_runs(["run0", "run2"])
    check(any_saver, [each for each in [*kept, (config, run.values, [], 9)] if each[3] not in (0, 2)])


class Meddled(MemoryStore):
    """Another process forks from an old checkpoint in the middle of a prune."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: list[Any] = []

    def rewrite(self, thread_id: str, old: Sequence[Segment], new: Sequence[Segment]) -> bool:
        if self.meddle:
            self.meddle.pop()()
        return super().rewrite(thread_id, old, new)


@pytest.mark.parametrize("moment", [0, 1, 5, 40])
def test_a_fork_while_others_prune(moment: int) -> None:
    """Whenever it comes, it reads back whole: what it inherits is kept, or it is written anew."""
    store = Meddled()
    saver, other = PerdureSaver(store), PerdureSaver(store)
    kept = long_run(saver)
    old = Run(other)
    old.go_back(kept[10][0])
    saver.put_writes(kept[-1][0], [("w", 0)], "other")

    def fork() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(old.put, {"n": -1}).result()

    store.meddle = [fork, *[lambda: None] * moment]
    saver.prune(["t"])
    wanted = {**kept[10][1], "n": -1}
    for each in (saver, other, PerdureSaver(store)):
        assert values_at(each, old.config) == wanted
    saver.prune(["t"])
    check(PerdureSaver(store), [(old.config, wanted, [], 0)])


def test_a_prune_that_is_broken_off_is_finished_by_the_next() -> None:
    class Broken(Exception):
        pass

    def die() -> None:
        raise Broken

    for moment in range(0, 90, 7):
        store = Meddled()
        saver = PerdureSaver(store)
        kept = long_run(saver)
        store.meddle = [die, *[lambda: None] * moment]
        with pytest.raises(Broken):
            saver.prune(["t"])
        again = PerdureSaver(store)
        assert values_at(again, at("t")) == kept[-1][1]
        for each in again.list(at("t")):
            assert each.checkpoint["channel_values"] in [values for _, values, *_ in kept]
        again.prune(["t"])
        check(again, kept[-1:])


def test_copies_are_threads_of_their_own(any_saver: PerdureSaver) -> None:
    kept = long_run(any_saver, runs=1)
    child = Run(any_saver, namespace="child:1")
    child.put({"log": ["child"]})
    any_saver.copy_thread("t", "copy")
    with pytest.raises(ThreadExists):
        any_saver.copy_thread("t", "copy")
    any_saver.copy_thread("unknown", "nowhere")
    any_saver.delete_thread("t")
    assert [*any_saver.list(at("t"))] == []
    moved = [({"configurable": {**config["configurable"], "thread_id": "copy"}}, *rest) for config, *rest in kept]
    check(any_saver, moved)
    assert values_at(any_saver, at("copy", namespace="child:1"))["log"] == ["child"]
    run = Run(any_saver, "copy")
    run.go_back(at("copy"))
    run.put({"log": [*run.values["log"], "on"]})
    any_saver.prune(["copy"], strategy="delete")
    assert any_saver.store.threads().threads == ()


def test_a_pruned_thread_goes_through_a_file(tmp_path: Path) -> None:
    """What pruning leaves out of it is no damage."""
    saver = PerdureSaver(MemoryStore())
    long_run(saver)
    saver.prune(["t"])
    with (tmp_path / "f").open("wb+") as file:
        ids = [row.thread_id for row in saver.store.threads().threads]
        *_, _ = export_threads(saver.store, ThreadFileWriter(file, PlainVault(), "there"), ids, lambda graph: "")
    target = PerdureSaver(MemoryStore())
    with ThreadFile(tmp_path / "f", PlainVault()) as opened:
        *_, done = import_threads(opened, target.store, 5.0)
    assert done.threads == 1
    assert [*target.list(at("t"))] == [*saver.list(at("t"))]


def test_a_copy_that_was_broken_off_is_not_seen_and_made_anew() -> None:
    class Dying(MemoryStore):
        dies = True

        def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
            done = super().load(image, segments, **options)
            if self.dies and image.thread.metadata["langgraph_namespace"]:
                raise KeyboardInterrupt
            return done

    store = Dying()
    saver = PerdureSaver(store)
    kept = long_run(saver, runs=1)
    Run(saver, namespace="child:1").put({"log": ["child"]})
    with pytest.raises(KeyboardInterrupt):
        saver.copy_thread("t", "copy")
    assert saver.get_tuple(at("copy")) is None
    assert any(row.driver == LOADING for row in store.threads().threads)
    with pytest.raises(StoreMisuse, match="copied"):
        Run(saver, "copy").put({"a": 1})
    store.dies = False
    saver.copy_thread("t", "copy")
    assert len([*saver.list(at("copy"))]) == len(kept)


def test_a_copy_whose_target_is_deleted_in_the_middle_is_none() -> None:
    """The rest was added to nothing, and what there was of the target then began in the middle."""

    class Deleted(MemoryStore):
        left = 3

        def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
            done = super().load(image, segments, **options)
            self.left -= 1
            if not self.left:
                self.delete(image.thread.thread_id)
            return done

    store = Deleted()
    saver = PerdureSaver(store)
    kept = long_run(saver)
    with pytest.raises(StoreUnavailable, match="'copy' was not copied to"):
        saver.copy_thread("t", "copy")
    assert saver.get_tuple(at("copy")) is None
    saver.copy_thread("t", "copy")
    assert len([*saver.list(at("copy"))]) == len(kept)


def test_a_copy_while_others_prune() -> None:
    """It is that of before or that of after, never a mixture."""

    class Pruned(MemoryStore):
        meddle: Any = None

        def load(self, image: Any, segments: Any = (), **options: Any) -> bool:
            done = super().load(image, segments, **options)
            if self.meddle is not None:
                meddle, self.meddle = self.meddle, None
                meddle()
            return done

    store = Pruned()
    saver, other = PerdureSaver(store), PerdureSaver(store)
    kept = long_run(saver)
    store.meddle = lambda: other.prune(["t"])
    saver.copy_thread("t", "copy")
    (config, values, writes, _) = kept[-1]
    check(saver, [({"configurable": {**config["configurable"], "thread_id": "copy"}}, values, writes, 0)])


def test_what_is_no_list_or_no_strategy(saver: PerdureSaver) -> None:
    with pytest.raises(StoreMisuse, match="list of ids"):
        saver.prune("t")
    with pytest.raises(StoreMisuse, match="keep_latest or delete"):
        saver.prune(["t"], strategy="other")
    with pytest.raises(StoreMisuse, match="thread_id"):
        saver.get_tuple({"configurable": {}})
