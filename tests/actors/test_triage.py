"""What the supervisor makes of a thread's row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.actors.members import Phase
from perdure.actors.names import owner_prefix, supervisor_name
from perdure.actors.roster import Roster
from perdure.actors.triage import Verdict, triage
from perdure.stores.records import IN_PROCESS, Status, ThreadRecord

KEY = "k"
MINE = f"{owner_prefix(KEY)}a"
ROW = ThreadRecord(thread_id="t", graph="g", version="1", status=Status.RUNNING, token="token", owner=MINE, epoch=3)


def roster(phase: Phase | None, *, hosts: bool = False) -> Roster:
    found = Roster(max_actors=8, spares=0, idle=30)
    if phase is not None:
        found.enter(MINE, phase, "g", 0.0)
    if hosts:
        found.assign(MINE, "t", 3, 0.0)
    return found


@pytest.mark.parametrize(
    ("row", "pool", "verdict"),
    [
        (replace(ROW, status=Status.INTERRUPTED), roster(None), Verdict.LEAVE),
        (replace(ROW, driver=IN_PROCESS), roster(None), Verdict.LEAVE),
        (ROW, roster(Phase.BUSY, hosts=True), Verdict.POKE),
        (replace(ROW, owner="somebody"), roster(Phase.BUSY, hosts=True), Verdict.LEAVE),
        (replace(ROW, status=Status.QUEUED, token="", owner=""), roster(None), Verdict.TAKE),
        (replace(ROW, owner=supervisor_name(KEY)), roster(None), Verdict.TAKE),
        (replace(ROW, owner=f"{owner_prefix('other')}a"), roster(Phase.IDLE), Verdict.ASK_LEASE),
        (ROW, roster(None), Verdict.TAKE_AFTER_CRASH),
        (ROW, roster(Phase.IDLE), Verdict.ASK_OWNER),
        (ROW, roster(Phase.SILENT), Verdict.LEAVE),
    ],
)
def test_each_row_gets_its_verdict(row: ThreadRecord, pool: Roster, verdict: Verdict) -> None:
    assert triage(row, pool, KEY) is verdict
