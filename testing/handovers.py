"""Threads that are deleted although they have forks: each fork first takes over what it has of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from ..stores.base import CheckpointStore
from ..stores.deletion import delete_thread
from ..stores.errors import Refused, StoreMisuse, ThreadReferenced, UnknownThread
from ..stores.history import PENDING, HistoryReader
from ..stores.operations import Amendment, Committed, Fork, ThreadImage
from ..stores.records import LOADING, Origin, RunRecord, Segment, Status, ThreadRecord
from ..stores.segments import Kind, Row
from .harness import Harness, StoreSuite
from .racing import race
from .samples import TOKEN, commit, delta, new_thread, owned


def told(store: CheckpointStore, thread_id: str, last: int) -> list[tuple[int, bytes]]:
    """The channel `log` at version `last`, as a reader finds it: version and payload of each row."""
    rows = HistoryReader(store, thread_id).channels({"log": last})["log"]
    return [(row.version, row.payload) for row in rows]


def wrote(thread_id: str, first: int, last: int) -> list[tuple[int, bytes]]:
    """What `write` has put there."""
    return [(seq, f"{thread_id} {seq}".encode()) for seq in range(first, last + 1)]


def write(store: CheckpointStore, thread_id: str, last: int) -> None:
    """Commits up to `last`, each with a checkpoint, a delta and the result of a task."""
    first = store.thread(thread_id).seq + 1
    for seq in range(first, last + 1):
        rows = (
            Row(Kind.CHECKPOINT, seq, "", seq, seq - 1, "", 0, b"c"),
            delta(seq, f"{thread_id} {seq}".encode()),
            Row(Kind.RESULT, seq, "task", seq, 0, "task", 0, b"r"),
        )
        (result,) = store.commit([commit(seq, thread_id=thread_id, rows=rows, head=seq)])
        assert isinstance(result, Committed), result


def fork(store: CheckpointStore, thread_id: str, origin: str, seq: int) -> ThreadRecord:
    """A fork with an owner."""
    given = {"origin": Origin(thread_id=origin, seq=seq), "seq": seq, "head": seq, "run": 1, "runs": 1}
    return owned(store, thread_id, created_at=2.5, **given)


def ended(store: CheckpointStore, thread_id: str) -> None:
    seq = store.thread(thread_id).seq + 1
    store.commit([commit(seq, thread_id=thread_id, rows=(), status=Status.SUCCEEDED, release=True)])


def grafts(store: CheckpointStore, origin: str, row: ThreadRecord) -> list[Segment]:
    """What a fork inherits, as segments of its own, oldest first."""
    assert row.origin is not None
    found = store.segments(origin, last=row.origin.seq)
    return [
        replace(segment, thread_id=row.thread_id, rows=tuple(one for one in segment.rows if one.kind not in PENDING))
        for segment in found[::-1]
    ]


class Handovers(StoreSuite):
    def family(self, store: CheckpointStore) -> None:
        """t, with the forks a at 4 and b at 2; c was forked from a at 6, d from b at 1, which b had from t."""
        owned(store, "t")
        write(store, "t", 6)
        fork(store, "a", "t", 4)
        write(store, "a", 7)
        fork(store, "b", "t", 2)
        fork(store, "c", "a", 6)
        write(store, "c", 8)
        fork(store, "d", "b", 1)
        ended(store, "t")

    def check_family(self, store: CheckpointStore, gone: Sequence[str] = ()) -> None:
        for name, last, lines in (
            ("a", 7, wrote("t", 1, 4) + wrote("a", 5, 7)),
            ("b", 2, wrote("t", 1, 2)),
            ("c", 8, wrote("t", 1, 4) + wrote("a", 5, 6) + wrote("c", 7, 8)),
            ("d", 1, wrote("t", 1, 1)),
        ):
            if name not in gone:
                assert told(store, name, last) == lines
                reader = HistoryReader(store, name)
                assert [row.checkpoint for _, row in reader.checkpoints()] == list(range(last, 0, -1))
                # Of what was pending at its origin's checkpoints a fork has nothing, before and after.
                own = store.thread(name).head > 4
                assert [row.kind for row in reader.pending(last)] == ([Kind.RESULT] if own else [])
                assert reader.pending(1) == []

    def test_forks_take_over_what_they_have_of_a_deleted_thread(self, harness: Harness, store: CheckpointStore) -> None:
        self.family(store)
        self.check_family(store)
        delete_thread(store, "t")
        self.check_family(store)
        assert harness.count(store, "t") == {"threads": 0, "runs": 0, "messages": 0, "segments": 0}
        assert [store.thread(name).origin for name in "abd"] == [None, None, None]
        assert store.thread("c").origin == Origin(thread_id="a", seq=6)
        assert store.forks("a") == (Fork(thread_id="c", seq=6),)
        ended(store, "a")
        delete_thread(store, "a")
        self.check_family(store, gone="a")
        assert store.thread("c").origin is None
        delete_thread(store, "a")
        assert sorted(row.thread_id for row in store.threads().threads) == ["b", "c", "d"]

    def test_a_fork_in_the_middle_hands_its_origin_on(self, store: CheckpointStore) -> None:
        self.family(store)
        ended(store, "a")
        delete_thread(store, "a")
        assert store.thread("c").origin == Origin(thread_id="t", seq=4)
        assert [each.thread_id for each in store.forks("t")] == ["d", "b", "c"]
        self.check_family(store, gone="a")
        delete_thread(store, "t")
        self.check_family(store, gone="a")

    def test_the_owner_of_a_fork_goes_on(self, store: CheckpointStore) -> None:
        self.family(store)
        running = store.thread("a")
        delete_thread(store, "t")
        after = store.thread("a")
        assert replace(after, origin=running.origin) == running
        write(store, "a", 9)
        assert told(store, "a", 9) == wrote("t", 1, 4) + wrote("a", 5, 9)

    def test_the_run_that_a_fork_went_on_with_gets_a_row(self, store: CheckpointStore) -> None:
        self.family(store)
        delete_thread(store, "t")
        assert store.runs("a") == (RunRecord(thread_id="a", run=1, status=Status.RUNNING, created_at=2.5),)

    def test_a_runnable_thread_is_refused_and_nothing_copied(self, harness: Harness, store: CheckpointStore) -> None:
        owned(store, "t")
        write(store, "t", 3)
        fork(store, "a", "t", 2)
        with pytest.raises(Refused):
            delete_thread(store, "t")
        assert store.thread("a").origin == Origin(thread_id="t", seq=2)
        assert harness.count(store, "a")["segments"] == 0

    def test_floor_and_names_are_taken_over(self, store: CheckpointStore) -> None:
        owned(store, "t")
        write(store, "t", 6)
        store.amend("t", Amendment(names={"early": 2, "late": 5, "same": 3}))
        fork(store, "a", "t", 4)
        write(store, "a", 5)
        store.amend("a", Amendment(names={"same": 5}))
        fork(store, "b", "t", 3)
        store.amend("t", Amendment(floor=4))
        ended(store, "t")
        delete_thread(store, "t")
        row = store.thread("a")
        assert (row.floor, row.names) == (4, {"early": 2, "same": 5})
        assert [one.checkpoint for _, one in HistoryReader(store, "a").checkpoints()] == [5, 4, 2]
        row = store.thread("b")
        assert (row.floor, row.names) == (3, {"early": 2, "same": 3})

    def test_what_is_grafted_is_out_of_sight(self, store: CheckpointStore) -> None:
        self.family(store)
        row = store.thread("a")
        given = grafts(store, "t", row)
        assert store.graft(row, given[2:])
        assert store.graft(row, given[2:]) is False
        assert store.graft(row, given[1:3]) is False
        self.check_family(store)
        assert store.graft(row, given[:2])
        assert store.graft(row, ())
        self.check_family(store)
        assert store.thread("a") == row
        assert store.forks("t")[-1] == Fork(thread_id="a", seq=4)
        assert store.segments("a", last=4) == given[::-1]
        # It is the same whether it had been begun.
        delete_thread(store, "t")
        self.check_family(store)
        assert store.segments("a", last=1, limit=1) == given[:1]

    def test_only_what_it_inherits_is_grafted(self, store: CheckpointStore) -> None:
        self.family(store)
        row = store.thread("b")
        strange = [replace(segment, thread_id="b") for segment in store.segments("t", first=3, last=3)]
        for segments in (strange, store.segments("t", last=1)):
            with pytest.raises(StoreMisuse):
                store.graft(row, segments)
        assert store.segments("b") == []

    def test_another_fork_than_was_read_is_left_alone(self, store: CheckpointStore) -> None:
        self.family(store)
        origin, row = store.thread("t"), store.thread("a")
        given = grafts(store, "t", row)
        for other in (
            replace(row, created_at=9.5),
            replace(row, thread_id="none"),
            replace(row, origin=Origin(thread_id="b", seq=4)),
            replace(row, origin=Origin(thread_id="t", seq=5)),
        ):
            moved = [replace(segment, thread_id=other.thread_id) for segment in given]
            assert store.graft(other, moved) is False
            assert store.adopt(other, origin) is False
        assert store.adopt(row, replace(origin, origin=Origin(thread_id="b", seq=1))) is False
        assert store.thread("a") == row
        assert [segment.first for segment in store.segments("a")] == [7, 6, 5]
        assert len(store.forks("t")) == 3

    def test_a_fork_that_is_being_copied_in_holds_its_origin(self, store: CheckpointStore) -> None:
        self.family(store)
        row = new_thread("held", origin=Origin(thread_id="t", seq=3), seq=3, head=3, status=Status.PAUSED)
        store.load(ThreadImage(thread=row, runs=(), messages=()))
        with pytest.raises(ThreadReferenced) as caught:
            delete_thread(store, "t")
        assert caught.value.forks == ("held",)
        held = store.thread("held")
        assert held.driver == LOADING
        assert store.graft(held, grafts(store, "t", held)) is False
        assert store.adopt(held, store.thread("t")) is False
        self.check_family(store)

    def test_what_belongs_to_a_thread_from_its_beginning_holds_it(self, store: CheckpointStore) -> None:
        owned(store, "t")
        ended(store, "t")
        store.create(new_thread("part", origin=Origin(thread_id="t", seq=0), status=Status.WAITING))
        with pytest.raises(ThreadReferenced):
            delete_thread(store, "t")
        delete_thread(store, "part")
        delete_thread(store, "t")

    def test_a_reader_is_not_led_to_another_thread_of_the_same_id(self, store: CheckpointStore) -> None:
        self.family(store)
        readers = [HistoryReader(store, "c") for _ in range(4)]
        for reader in readers:
            reader.checkpoint(8)
        walk = readers[3].checkpoints()
        assert [next(walk)[1].checkpoint for _ in range(3)] == [8, 7, 6]
        for name in ("t", "a"):
            if name == "a":
                ended(store, name)
            delete_thread(store, name)
            owned(store, name, created_at=7.5)
            rows = tuple(
                part
                for seq in range(1, 9)
                for part in (Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, b"x"), delta(seq, b"other"))
            )
            store.commit([commit(1, 8, thread_id=name, rows=rows, head=8)])
        lines = wrote("t", 1, 4) + wrote("a", 5, 6) + wrote("c", 7, 8)
        assert [(row.version, row.payload) for row in readers[0].channels({"log": 8})["log"]] == lines
        thread_id, row = readers[1].checkpoint(3)
        assert (thread_id, row.payload) == ("c", b"c")
        assert b"other" not in [row.payload for row in readers[2].rows_of(5)]
        assert [(row.checkpoint, row.payload) for _, row in walk] == [(seq, b"c") for seq in range(5, 0, -1)]

    def test_several_delete_it_while_it_is_forked(self, harness: Harness, store: CheckpointStore) -> None:
        """Whoever comes in time has all of it, whoever comes too late is told so; nobody gets half."""
        owned(store, "t")
        write(store, "t", 12)
        fork(store, "a", "t", 9)
        ended(store, "t")

        def branch(number: int) -> str:
            row = new_thread(f"f{number}", origin=Origin(thread_id="t", seq=3 + number), seq=3 + number)
            harness.open().create(replace(row, head=row.seq))
            return row.thread_id

        def delete() -> str:
            delete_thread(harness.open(), "t")
            return ""

        calls: list[Callable[[], str]] = [partial(branch, number) for number in range(6)]
        answers = race([*calls[:3], delete, delete, *calls[3:]])
        assert all(isinstance(answer, str | UnknownThread) for answer in answers), answers
        made = [answer for answer in answers if isinstance(answer, str) and answer]
        delete_thread(store, "t")
        with pytest.raises(UnknownThread):
            store.thread("t")
        assert sorted(row.thread_id for row in store.threads().threads) == sorted([*made, "a"])
        for name in made:
            seq = 3 + int(name[1:])
            assert store.thread(name).origin is None
            assert told(store, name, seq) == wrote("t", 1, seq)
        assert told(store, "a", 9) == wrote("t", 1, 9)
        assert store.thread("a").token == TOKEN
