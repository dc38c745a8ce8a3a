"""A store with a fault does not pass the suite: each of these has one, and the test that is for it notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from perdure.stores.base import CommitResult
from perdure.stores.errors import Fenced, StoreError
from perdure.stores.memory import MemoryStore
from perdure.stores.records import (
    Commit,
    Committed,
    Delivery,
    Expect,
    GraphRecord,
    Message,
    ThreadFilter,
    ThreadPage,
    ThreadRecord,
)
from perdure.testing import Commits, Deletion, Harness, Listing, Messages, Ownership, Segments
from tests.stores.backends import Backend, memory_backend


class Unfenced(MemoryStore):
    """Takes a commit from whoever comes with the right seq."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        rows = [self.thread(one.thread_id) for one in commits]
        return super().commit(
            [replace(one, epoch=row.epoch, token=row.token) for one, row in zip(commits, rows, strict=True)]
        )


class Forgetful(MemoryStore):
    """Does not find a commit again whose answer was lost."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [
            Fenced(one.thread_id, one.epoch, one.epoch) if isinstance(result, Committed) and result.repeated else result
            for one, result in zip(commits, super().commit(commits), strict=True)
        ]


class Torn(MemoryStore):
    """Writes the commits of a group one after the other, and stops at the first that is refused."""

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results: list[CommitResult] = []
        for one in commits:
            refused = any(not isinstance(result, Committed) for result in results)
            results += [Fenced(one.thread_id, one.epoch, 0)] if refused else super().commit([one])
        return results


class Doubling(MemoryStore):
    """Takes a repeated message for a new one."""

    def deliver(
        self, thread_id: str, message: Message, expect: Expect, *, graph: GraphRecord | None = None
    ) -> Delivery:
        another = replace(message, message_id=f"{message.message_id} {self.thread(thread_id).inbox}")
        return super().deliver(thread_id, another, expect, graph=graph)


class Generous(MemoryStore):
    """Gives a thread to everybody who claims it."""

    def claim(
        self, thread_id: str, *, epoch: int, token: str, owner: str, crashed: bool = False, at: float = 0.0
    ) -> ThreadRecord:
        present = self.thread(thread_id).epoch
        return super().claim(thread_id, epoch=present, token=token, owner=owner, crashed=crashed, at=at)


class Repeating(MemoryStore):
    """Shows the first thread of each further page twice."""

    def threads(self, where: ThreadFilter | None = None, *, limit: int = 100, cursor: str | None = None) -> ThreadPage:
        page = super().threads(where, limit=limit, cursor=cursor)
        return page if cursor is None else replace(page, threads=(*page.threads[:1], *page.threads)[:limit])


class Lingering(MemoryStore):
    """Deletes nothing."""

    def delete(self, thread_id: str) -> None:
        self.thread(thread_id)


class Stale(MemoryStore):
    """Answers with the row as it was when it was first asked for."""

    seen: dict[str, ThreadRecord]

    def thread(self, thread_id: str) -> ThreadRecord:
        self.seen = {} if not hasattr(self, "seen") else self.seen
        return self.seen.setdefault(thread_id, super().thread(thread_id))


Check = Callable[[Harness, MemoryStore], None]

CASES: list[tuple[type[MemoryStore], Check]] = [
    (Unfenced, lambda h, s: Commits().test_a_stale_commit_writes_nothing(h, s, {"token": "other"})),
    (Forgetful, lambda h, s: Commits().test_a_lost_answer_is_found_again(h, s)),
    (Torn, lambda h, s: Commits().test_in_a_group_each_succeeds_or_fails_alone(h, s)),
    (Doubling, lambda h, s: Messages().test_messages_are_numbered_and_repeats_are_not(h, s)),
    (Generous, lambda h, s: Ownership().test_of_many_claimers_one_wins(s)),
    (Repeating, lambda h, s: Listing().test_a_listing_while_threads_come_and_go(s)),
    (Lingering, lambda h, s: Deletion().test_deletion_leaves_nothing(h, s)),
    (Stale, lambda h, s: Segments().test_readers_see_whole_commits(h, s)),
]


@pytest.mark.parametrize(("broken", "check"), CASES, ids=[broken.__name__ for broken, _ in CASES])
def test_a_fault_is_noticed(broken: type[MemoryStore], check: Check) -> None:
    class Made(Backend):
        def connect(self) -> MemoryStore:
            return broken()

    sound = memory_backend()
    harness = Made("memory://", False, sound.count, sound.damage)
    store = harness.open()
    assert isinstance(store, MemoryStore)
    with pytest.raises((AssertionError, StoreError, pytest.fail.Exception)) as caught:
        check(harness, store)
    # Rewritten, an assertion says what it compared; `assert x` alone would say nothing.
    assert str(caught.value)
    found = sound.open()
    assert isinstance(found, MemoryStore)
    check(sound, found)
