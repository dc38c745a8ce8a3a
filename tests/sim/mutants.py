"""Engines and stores that are broken on purpose, each in one way that the simulator must notice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.runtime.draft import Draft
from perdure.runtime.loop import ThreadLoop
from perdure.runtime.options import Durability, RunOptions
from perdure.runtime.ports import Need
from perdure.runtime.recorder import Recorder
from perdure.runtime.task import Done, Stopped
from perdure.stores.base import CheckpointStore, CommitResult
from perdure.stores.errors import Fenced
from perdure.stores.records import Commit, Committed, Delivery, Expect, GraphRecord, Message, ThreadRecord
from perdure.stores.segments import Kind
from tests.sim.faults import Delegating
from tests.sim.seeds import with_loop
from tests.sim.world import UNTOUCHED, Tampering


class NoFence(Delegating):
    """Takes a commit from whoever sends it."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        rows = [self.inner.thread(commit.thread_id) for commit in commits]
        pairs = zip(commits, rows, strict=True)
        return self.inner.commit([replace(commit, epoch=row.epoch, token=row.token or "x") for commit, row in pairs])


class NoCompare(Delegating):
    """Gives a thread to whoever claims it, whatever epoch was observed."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        found = self.inner.thread(thread_id)
        if found.token and found.epoch == epoch + 1:
            return found
        return self.inner.claim(thread_id, epoch=epoch, token=token, owner=owner, crashed=crashed, at=at)


class SaysDone(Delegating):
    """Acknowledges commits that it refused."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results = self.inner.commit(commits)
        return [
            Committed(seq=commit.last, inbox=0) if isinstance(result, Fenced) else result
            for commit, result in zip(commits, results, strict=True)
        ]


class ParksBlindly(Delegating):
    """Does not look whether mail came before a thread is given up."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit([replace(commit, expect_inbox=None) for commit in commits])


class DeliversTwice(Delegating):
    """Takes a message that is sent again for a new one."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self._times: dict[str, int] = {}

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        times = self._times[message.message_id] = self._times.get(message.message_id, 0) + 1
        again = replace(message, message_id=f"{message.message_id}.{times}") if times > 1 else message
        return self.inner.deliver(thread_id, again, expect, graph=graph)


class ForgetsUndelivered(Delegating):
    """Does not record what a cancelled thread had not read."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit(
            [replace(commit, applied=tuple(pair for pair in commit.applied if pair[1] > 0)) for commit in commits]
        )


class LosesDeltas(Delegating):
    """Keeps one delta a channel and commit."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit([replace(commit, rows=self._few(commit)) for commit in commits])

    def _few(self, commit: Commit) -> tuple[Any, ...]:
        kept = {(row.channel, row.version): row for row in commit.rows if row.kind == Kind.DELTA}
        return tuple(row for row in commit.rows if row.kind != Kind.DELTA or kept[row.channel, row.version] is row)


class KeepsNoAnswers(Delegating):
    """Does not keep the answers to interrupts."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return self.inner.commit(
            [replace(commit, rows=tuple(row for row in commit.rows if row.kind != Kind.ANSWER)) for commit in commits]
        )


class MergesAsTheyCome(ThreadLoop):
    """Merges results in the order in which they arrived."""

    def _merge(self) -> None:
        at = self.at
        order = list(at.results)
        at.next = tuple(sorted(at.next, key=lambda task: order.index(task.path)))
        super()._merge()


class RecordsNoResults(ThreadLoop):
    """Keeps results of unfinished steps in memory only."""

    def _record(self, outcome: Done | Stopped, kind: Kind, data: Any) -> bool:
        return True if kind == Kind.RESULT else super()._record(outcome, kind, data)


class WaitsForNothing(ThreadLoop):
    """Goes on before what it did is durable, whatever was asked for."""

    def _set_options(self, options: RunOptions) -> None:
        super()._set_options(options)
        if self._options.durability is Durability.SYNC:
            self._options = replace(options, durability=Durability.ASYNC)


class TellsAtOnce(ThreadLoop):
    """Tells observers of steps that are not durable yet."""

    def _submit(self, draft: Draft) -> None:
        super()._submit(draft)
        self._durable, before = draft.seq, self._durable
        self._tell()
        self._durable = before


class LeavesAtOnce(ThreadLoop):
    """Gives the thread up without waiting for the store's word."""

    def _until_durable(self) -> Generator[Need, None, None]:
        return
        yield


class NeverFull(ThreadLoop):
    """Makes no full checkpoint before it has to."""

    def _set_options(self, options: RunOptions) -> None:
        super()._set_options(options)
        self._recorder.pace(replace(options, durability=Durability.EXIT))


class SplitsMessages(ThreadLoop):
    """Consumes a message in the commit before the one that holds its effect, as the engine once did."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._recorder.__class__ = _ConsumesEarly


class _ConsumesEarly(Recorder):
    def consume(self, message: Message) -> None:
        self.at.mail.remove(message)
        self.open().applied.append(message.number)


def _of_store(wrap: Callable[[CheckpointStore], CheckpointStore]) -> Tampering:
    return replace(UNTOUCHED, store=wrap)


MUTANTS: Mapping[str, Tampering] = {
    **{
        wrap.__name__: _of_store(wrap)
        for wrap in (
            NoFence,
            NoCompare,
            SaysDone,
            ParksBlindly,
            DeliversTwice,
            ForgetsUndelivered,
            LosesDeltas,
            KeepsNoAnswers,
        )
    },
    **{
        loop.__name__: with_loop(loop)
        for loop in (
            MergesAsTheyCome,
            RecordsNoResults,
            WaitsForNothing,
            TellsAtOnce,
            LeavesAtOnce,
            NeverFull,
            SplitsMessages,
        )
    },
}
