"""Claims and leases: one owner at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from ..stores.base import CheckpointStore
from ..stores.errors import (
    ClaimLost,
)
from ..stores.records import (
    OwnerRecord,
    Status,
    ThreadRecord,
)
from .harness import StoreSuite
from .racing import race
from .samples import new_thread


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
