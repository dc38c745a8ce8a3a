"""Random histories, and a model that knows what every checkpoint of them must read as."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from perdure.runtime.control import FORMAT, Control, encode_control
from perdure.runtime.meaning import RuntimeMeaning
from perdure.stores.base import CheckpointStore
from perdure.stores.deletion import delete_thread
from perdure.stores.errors import UnknownCheckpoint
from perdure.stores.history import HistoryReader
from perdure.stores.operations import Amendment
from perdure.stores.records import Origin, Retention, Status
from perdure.stores.segments import Kind, Row
from perdure.stores.tidying import Tidier
from perdure.stores.transitions import protected
from tests.stores.backends import TOKEN, commit, new_thread, owned

MEANING = RuntimeMeaning()
CHANNELS = ("log", "a", "b", "c")


def control_row(seq: int, manifest: dict[str, int], parent: int = 0, at: float | None = None) -> Row:
    """A CHECKPOINT row as the runtime writes it, made at second `seq` unless told otherwise."""
    control = Control(
        format=FORMAT,
        step=seq,
        since=0,
        run=1,
        source="loop",
        parent=parent,
        at=float(seq) if at is None else at,
        version="1",
        next=(),
        joins={},
        manifest=dict(manifest),
        done=(),
    )
    return Row(Kind.CHECKPOINT, seq, "", seq, parent, "", 0, encode_control(control))


@dataclass
class Checkpoint:
    """What a reader must find."""

    manifest: dict[str, int]
    chains: dict[str, list[bytes]]
    pending: list[bytes] = field(default_factory=list)


@dataclass
class Model:
    """Random threads in a store; the model is told of nothing that retention does."""

    store: CheckpointStore
    seed: int
    own: dict[str, dict[int, Checkpoint]] = field(default_factory=dict)
    """By thread: the checkpoints that it wrote itself."""
    forked: dict[str, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        owned(self.store, "t0")
        self.own["t0"] = {}

    def act(self) -> None:
        """Do something at random."""
        thread_id = self.chance.choice(list(self.own))
        action = self.chance.choices((self.write, self.fork, self.name, self.unname, self.remove), (20, 2, 2, 1, 2))[0]
        action(thread_id)

    # -- what is there -------------------------------------------------------------------------------------------

    def visible(self, thread_id: str) -> dict[int, Checkpoint]:
        """The checkpoints that a reader must find."""
        row = self.store.thread(thread_id)
        safe = protected(row, self.store.forks(thread_id))
        found = {seq: one for seq, one in self.own[thread_id].items() if seq >= row.floor or seq in safe}
        if row.origin is not None:
            above = self.visible(row.origin.thread_id)
            found |= {seq: one for seq, one in above.items() if seq <= row.origin.seq}
        return found

    def check(self) -> None:
        """Every thread reads exactly as it was written, but for what its floor hides."""
        for thread_id in self.own:
            expected = self.visible(thread_id)
            reader = HistoryReader(self.store, thread_id)
            where = (self.seed, thread_id)
            assert [row.checkpoint for _, row in reader.checkpoints()] == sorted(expected, reverse=True), where
            for seq, one in expected.items():
                row = reader.checkpoint(seq)[1]
                assert MEANING.manifest(row) == one.manifest, (*where, seq)
                chains = reader.channels(one.manifest, at=seq)
                assert {name: [row.payload for row in chain] for name, chain in chains.items()} == one.chains, where
                if seq in self.own[thread_id]:
                    assert [row.payload for row in reader.pending(seq)] == one.pending, (*where, seq)
            for seq in set(self.lineage(thread_id)) - set(expected):
                try:
                    reader.checkpoint(seq)
                except UnknownCheckpoint:
                    continue
                raise AssertionError((*where, seq, "is hidden, and was found"))
            head = self.store.thread(thread_id).head
            assert not head or head in expected, where

    def lineage(self, thread_id: str) -> dict[int, Checkpoint]:
        """All checkpoints that a thread ever had."""
        found = dict(self.own[thread_id])
        origin = self.forked.get(thread_id)
        if origin is not None:
            found |= {seq: one for seq, one in self.lineage(origin.thread_id).items() if seq <= origin.seq}
        return found

    # -- what is done --------------------------------------------------------------------------------------------

    def write(self, thread_id: str, steps: int = 0) -> None:
        """One commit of one or several steps, some of which go on from an older checkpoint."""
        row = self.store.thread(thread_id)
        head, rows = row.head, []
        known = dict(self.lineage(thread_id))
        back = [seq for seq in self.visible(thread_id) if row.origin is None or seq >= row.origin.seq]
        last = row.seq + (steps or self.chance.choice((1, 1, 1, 2, 5)))
        for seq in range(row.seq + 1, last + 1):
            if head and self.chance.random() < 0.25:
                # What becomes known of a task between two checkpoints.
                task = Row(Kind.RESULT, seq, "task", head, 0, "task", 0, f"result {thread_id} {seq}".encode())
                rows.append(task)
                if head in self.own[thread_id]:
                    known[head].pending.append(task.payload)
                continue
            parent = self.chance.choice(back) if back and self.chance.random() < 0.1 else head
            made, changes = self._step(thread_id, seq, known.get(parent))
            rows += [control_row(seq, made.manifest, parent), *changes]
            known[seq] = self.own[thread_id][seq] = made
            head = seq
        given = commit(row.seq + 1, last, thread_id=thread_id, rows=tuple(rows), head=head or None)
        (result,) = self.store.commit([given])
        assert not isinstance(result, Exception), result

    def _step(self, thread_id: str, seq: int, before: Checkpoint | None) -> tuple[Checkpoint, list[Row]]:
        manifest = dict(before.manifest) if before else {}
        chains = {name: list(chain) for name, chain in before.chains.items()} if before else {}
        rows: list[Row] = []
        for name in self.chance.sample(CHANNELS, self.chance.randint(0, 3)):
            prev = manifest.get(name, 0)
            shape = "value"
            if prev:
                shapes = ("delta", "delta", "deltas", "delta", "both", "value")
                shape = "delta" if name == "log" else self.chance.choice(shapes)
            kinds = {
                "value": (Kind.VALUE,),
                "delta": (Kind.DELTA,),
                "deltas": (Kind.DELTA, Kind.DELTA),
                "both": (Kind.DELTA, Kind.SNAPSHOT),
            }[shape]
            for number, kind in enumerate(kinds):
                payload = f"{thread_id} {name} {seq} {number}".encode() * self.chance.choice((1, 1, 20))
                rows.append(Row(kind, seq, name, seq, prev, "node", 0, payload))
                chains[name] = [*chains[name], payload] if kind is Kind.DELTA else [payload]
            manifest[name] = seq
        return Checkpoint(manifest, chains), rows

    def fork(self, thread_id: str) -> None:
        """A new thread from any checkpoint that is there."""
        seqs = list(self.visible(thread_id))
        if not seqs or len(self.own) >= 6:
            return
        at = self.chance.choice(seqs)
        name = f"t{len(self.own)}.{self.chance.randrange(1 << 30)}"
        self.store.create(new_thread(name, origin=Origin(thread_id=thread_id, seq=at), seq=at, head=at))
        self.store.claim(name, epoch=0, token=TOKEN, owner="o")
        origin = self.store.thread(name).origin
        assert origin is not None
        self.own[name], self.forked[name] = {}, origin

    def name(self, thread_id: str) -> None:
        """A name for any checkpoint of the thread's own."""
        seqs = [seq for seq in self.visible(thread_id) if seq in self.own[thread_id]]
        if seqs:
            name = self.chance.choice(("x", "y", "z"))
            self.store.amend(thread_id, Amendment(names={name: self.chance.choice(seqs)}))

    def unname(self, thread_id: str) -> None:
        """Take a name away."""
        self.store.amend(thread_id, Amendment(names={self.chance.choice(("x", "y", "z")): 0}))

    def remove(self, thread_id: str) -> None:
        """Delete a thread; its forks take over what they had of it."""
        if len(self.own) < 2:
            return
        row = self.store.thread(thread_id)
        given: dict[str, Any] = {"status": Status.SUCCEEDED, "release": True}
        self.store.commit([commit(row.seq + 1, thread_id=thread_id, rows=(), **given)])
        expected = {fork: self.visible(fork) for fork, origin in self.forked.items() if origin.thread_id == thread_id}
        # Where it took off a fork has only what became known of tasks since then.
        pending = {
            fork: [one.payload for one in HistoryReader(self.store, fork).pending(self.forked[fork].seq)]
            for fork in expected
        }
        delete_thread(self.store, thread_id)
        wrote = self.own.pop(thread_id)
        above = self.forked.pop(thread_id, None)
        for fork, seen in expected.items():
            last = self.forked[fork].seq
            for seq, one in wrote.items():
                if seq <= last:
                    self.own[fork][seq] = replace(one, pending=pending[fork] if seq == last else [])
            del self.forked[fork]
            if above is not None:
                self.forked[fork] = above
            now = self.visible(fork)
            # Its own retention holds for them now, and what other forks alone had kept goes with the thread.
            floor = max(self.store.thread(fork).floor, row.floor)
            assert all(now[seq].manifest == seen[seq].manifest for seq in seen if seq >= floor), (self.seed, fork)

    def retention(self) -> Retention:
        """Any."""
        most = self.chance.choice((None, 1, 2, 5, 20))
        keep = self.chance.choice((None, None, 3.0, 30.0))
        return Retention(max_checkpoints=most, keep_for=timedelta(seconds=keep) if keep is not None else None)


def tidied(
    store: CheckpointStore, thread_id: str, retention: Retention, *, thorough: bool = True, now: float | None = None
) -> int:
    """Tidy a thread; how many transactions that took."""
    at = float(store.thread(thread_id).seq) if now is None else now
    return len(list(Tidier(store=store, meaning=MEANING, retention=retention).thread(thread_id, at, thorough=thorough)))
