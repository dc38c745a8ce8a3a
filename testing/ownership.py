"""Claims and leases: one owner at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import ClaimLost, StoreMisuse, UnknownThread
from ..stores.operations import Claim, Claimed
from ..stores.records import OwnerRecord, Status, ThreadRecord
from .harness import StoreSuite
from .racing import race
from .samples import ANY, message, new_thread


class Ownership(StoreSuite):
    def test_claim_compares_the_epoch(self, store: CheckpointStore) -> None:
        store.create(new_thread())
        row = store.claim("t", epoch=0, token="a", owner="one", at=7.5)
        assert (row.epoch, row.token, row.owner, row.status, row.crashes, row.updated_at) == (
            1,
            "a",
            "one",
            Status.RUNNING,
            0,
            7.5,
        )
        assert store.thread("t") == row
        assert store.claim("t", epoch=0, token="a", owner="one", at=8.0) == row
        for epoch in (0, 2, 7):
            with pytest.raises(ClaimLost) as caught:
                store.claim("t", epoch=epoch, token="b", owner="two")
            assert (caught.value.expected, caught.value.found) == (epoch, 1)
        assert store.claim("t", epoch=1, token="b", owner="two", crashed=True).crashes == 1
        with pytest.raises(ClaimLost):
            store.claim("t", epoch=0, token="a", owner="one")

    @pytest.mark.parametrize("status", list(Status))
    def test_claim_keeps_what_is_parked_or_ended(self, store: CheckpointStore, status: Status) -> None:
        store.create(new_thread(status=status))
        expected = Status.RUNNING if status.runnable else status
        assert store.claim("t", epoch=0, token="a", owner="one").status is expected

    def test_of_many_claimers_one_wins(self, store: CheckpointStore) -> None:
        store.create(new_thread())
        for epoch in range(5):
            answers = race([partial(store.claim, "t", epoch=epoch, token=f"k{i}", owner=f"o{i}") for i in range(8)])
            winners = [answer for answer in answers if isinstance(answer, ThreadRecord)]
            assert sum(isinstance(answer, ClaimLost) for answer in answers) == 7
            assert winners == [store.thread("t")]

    def test_many_are_taken_at_once(self, store: CheckpointStore) -> None:
        for name in ("a", "b", "c", "d"):
            store.create(new_thread(name), message(f"first-{name}", payload=name.encode()))
        store.deliver("b", message("more", kind="update", payload=b"more"), ANY)
        store.claim("c", epoch=0, token="other", owner="other")
        claims = [
            Claim(thread_id=name, epoch=0, token=f"k-{name}", owner="one", at=4.5) for name in ("d", "none", "c", "b")
        ]
        for _ in range(2):  # the second time its answer was lost
            d, none, c, b = store.take(claims)
            assert isinstance(none, UnknownThread)
            assert isinstance(c, ClaimLost)
            assert (c.thread_id, c.expected, c.found) == ("c", 0, 1)
            assert isinstance(b, Claimed)
            assert isinstance(d, Claimed)
            assert b.thread == store.thread("b")
            assert (d.thread.epoch, d.thread.token, d.thread.owner, d.thread.status) == (1, "k-d", "one", "running")
            assert d.thread.updated_at == 4.5
            assert d.runs == store.runs("d")
            assert b.messages == store.messages("b")
            assert [one.payload for one in b.messages] == [b"b", b"more"]
        assert store.thread("a").status is Status.QUEUED
        assert store.thread("c").owner == "other"
        assert store.take([]) == []

    def test_taking_many_counts_crashes_and_keeps_what_is_parked(self, store: CheckpointStore) -> None:
        store.create(new_thread("queued"))
        store.create(new_thread("held"))
        store.create(new_thread("parked", status=Status.PAUSED))
        store.claim("held", epoch=0, token="k", owner="o")
        epochs = {"queued": 0, "held": 1, "parked": 0}
        claims = [
            Claim(thread_id=name, epoch=epoch, token=f"{name}-2", owner="o2", crashed=True)
            for name, epoch in epochs.items()
        ]
        taken = {one.thread.thread_id: one.thread for one in store.take(claims) if isinstance(one, Claimed)}
        assert {name: (row.crashes, row.status) for name, row in taken.items()} == {
            "queued": (0, "running"),
            "held": (1, "running"),
            "parked": (0, "paused"),
        }
        assert all(store.thread(name) == row for name, row in taken.items())

    def test_no_thread_is_named_twice(self, store: CheckpointStore) -> None:
        store.create(new_thread())
        claim = Claim(thread_id="t", epoch=0, token="k", owner="o")
        with pytest.raises(StoreMisuse, match="twice"):
            store.take([claim, claim])
        assert store.thread("t").epoch == 0

    def test_of_many_takers_one_wins_each_thread(self, store: CheckpointStore) -> None:
        names = [f"t{number}" for number in range(12)]
        for name in names:
            store.create(new_thread(name))
        sets = [
            [Claim(thread_id=name, epoch=0, token=f"k{taker}", owner=f"o{taker}") for name in names[taker : taker + 8]]
            for taker in range(4)
        ]
        answers = race([partial(store.take, claims) for claims in sets])
        assert all(isinstance(answer, list) for answer in answers), answers
        won = [
            one.thread for answer in answers if isinstance(answer, list) for one in answer if isinstance(one, Claimed)
        ]
        assert sorted(row.thread_id for row in won) == sorted(names[:11])
        assert all(store.thread(row.thread_id) == row for row in won)

    def test_leases_rise(self, store: CheckpointStore) -> None:
        lease = OwnerRecord(owner="o", counter=3, host="h", pid=7, started=125, threads=(("t'1", 1), ("🦊", 2)))
        store.renew(lease)
        store.renew(lease)
        assert store.owners() == (lease,)
        store.renew(replace(lease, counter=2, threads=()))
        assert store.owners() == (lease,)
        higher = replace(lease, counter=4, threads=())
        store.renew(higher)
        assert store.owners() == (higher,)
        reborn = replace(lease, counter=1, started=25)
        store.renew(reborn)
        store.renew(replace(lease, owner="a"))
        assert store.owners() == (replace(lease, owner="a"), reborn)
        store.forget("o")
        store.forget("o")
        assert [kept.owner for kept in store.owners()] == ["a"]
