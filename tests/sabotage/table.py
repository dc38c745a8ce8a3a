"""Every way in which the protocol is broken on purpose: what is broken, and which test notices.

A check is run twice, on the product as it is and on the broken one: the first time it passes, the second time not. What
is run is the named test itself or, for the simulator's, its judge over the first seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any
from unittest.mock import patch

import pytest

from perdure.actors import timers
from perdure.runtime import context, plan
from perdure.runtime.apply import Applier
from perdure.runtime.measures import Measuring
from perdure.runtime.payloads import CANCEL
from perdure.runtime.position import Position
from perdure.runtime.scope import Scope
from perdure.stores import tidying
from perdure.stores.base import CheckpointStore
from perdure.stores.memory import MemoryStore
from perdure.stores.records import Status
from perdure.testing import (
    Amendments,
    Commits,
    Copies,
    Deletion,
    Harness,
    Listing,
    Messages,
    Ownership,
    Segments,
    Timers,
)
from tests.actors import test_leases, test_timers
from tests.runtime import test_engine_measures, test_engine_recorded, test_reruns, test_travel
from tests.runtime.test_engine_cancel import test_a_cancel_overtakes_what_came_before_it
from tests.sabotage import calls, engines, leases, stores
from tests.sabotage.statements import edit
from tests.sim.seeds import caught, play
from tests.sim.world import UNTOUCHED
from tests.stores.backends import Backend, memory_backend, postgres_backend, redis_backend
from tests.stores.test_retention import test_names_and_forks_are_kept

SEEDS = 300
SIMULATOR = "tests/sim/test_simulator.py::test_seeds"

Look = Callable[[bool, pytest.FixtureRequest], None]


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """One way to break it."""

    name: str
    breaks: str
    """What the broken product does."""
    promise: str
    """Which promise that breaks (docs/guarantees.md)."""
    noticed_by: str
    """The test that notices: path from the root, and name."""
    look: Look
    """Runs that test's check, on the broken product (True) or on the real one. Raises where a promise is broken."""


# -- under the simulator -----------------------------------------------------------------------------------------------


def simulated(name: str, promise: str, breaks: str, **tampering: Any) -> Sabotage:
    """Noticed by the judge of simulated histories, at one of the first seeds. The real product plays that one too."""
    tampered = replace(UNTOUCHED, **tampering)
    telling = cache(lambda: caught(tampered, SEEDS))

    def look(broken: bool, request: pytest.FixtureRequest) -> None:
        failure = told = telling()
        if told is not None and not broken:
            failure = play(told.seed)
        assert failure is None, failure.what

    return Sabotage(name=name, breaks=breaks, promise=promise, noticed_by=SIMULATOR, look=look)


# -- held to the conformance suite -------------------------------------------------------------------------------------

Check = Callable[[Harness, CheckpointStore], None]


def conformed(
    name: str, promise: str, breaks: str, broken_class: type[MemoryStore], theme: str, check: Check
) -> Sabotage:
    """Noticed by a test of the suite that every store has to pass."""
    sound = memory_backend()

    class Broken(Backend):
        def connect(self) -> CheckpointStore:
            return broken_class()

    def look(broken: bool, request: pytest.FixtureRequest) -> None:
        harness = Broken("memory://", False, sound.count, sound.damage) if broken else memory_backend()
        check(harness, harness.open())

    return Sabotage(name=name, breaks=breaks, promise=promise, noticed_by=f"testing/{theme}", look=look)


@dataclass(frozen=True, slots=True)
class Edit:
    """A condition that is taken out of a statement."""

    store: str
    """postgres or redis"""
    statement: str
    condition: str
    instead: str


def rewritten(name: str, promise: str, breaks: str, edited: Edit, theme: str, check: Check) -> Sabotage:
    """Noticed by a test of the suite, on a real server."""

    def look(broken: bool, request: pytest.FixtureRequest) -> None:
        server = request.getfixturevalue(f"{edited.store}_server")
        made = postgres_backend(server.database()) if edited.store == "postgres" else redis_backend(server.empty())
        try:
            store = made.open()
            if broken:
                edit(store, edited.statement, edited.condition, edited.instead)
            check(made, store)
        finally:
            made.close()

    return Sabotage(name=name, breaks=breaks, promise=promise, noticed_by=f"testing/{theme}", look=look)


# -- put in the place of a part of the product -------------------------------------------------------------------------


def patched(
    name: str, promise: str, breaks: str, test: Callable[[], None], place: Any, part: str, instead: Any
) -> Sabotage:
    """Noticed by a test while `part` of the module `place` is another one."""

    def look(broken: bool, request: pytest.FixtureRequest) -> None:
        change: AbstractContextManager[Any] = patch.object(place, part, instead) if broken else nullcontext()
        with change:
            test()

    file = test.__module__.replace(".", "/")
    return Sabotage(name=name, breaks=breaks, promise=promise, noticed_by=f"{file}.py::{test.__name__}", look=look)


def _mail_in_turn(at: Position) -> plan.Action | None:
    """As the product's, but that a cancel waits for its turn."""
    first = at.mail[0]
    if first.kind == CANCEL:
        return plan.Halt(first)
    later = [message for message in at.mail if message.kind == CANCEL]
    at.mail = [message for message in at.mail if message.kind != CANCEL]
    try:
        return FROM_MAIL(at)
    finally:
        at.mail += later


FROM_MAIL = plan._from_mail


def _on_memory(test: Callable[[CheckpointStore], None]) -> Callable[[], None]:
    """The test, on a fresh store."""

    @wraps(test)
    def run() -> None:
        test(MemoryStore())

    return run


# -- all of them -------------------------------------------------------------------------------------------------------

ENGINES = (
    simulated("merge by arrival", "V6", "Merges results as they come in.", loop_class=engines.MergesAsTheyCome),
    simulated(
        "result not recorded", "V2", "Keeps a finished task's result in memory.", loop_class=engines.RecordsNoResults
    ),
    simulated(
        "no wait for durability",
        "V2",
        "Starts the next step before `sync` allows it.",
        loop_class=engines.WaitsForNothing,
    ),
    simulated(
        "released before durable", "V2", "Tells observers of steps that may be lost.", loop_class=engines.TellsAtOnce
    ),
    simulated(
        "given up unconfirmed", "V5", "Leaves a thread before the store has said so.", loop_class=engines.LeavesAtOnce
    ),
    simulated("never a full checkpoint", "V6", "Folds every step, whatever the policy.", loop_class=engines.NeverFull),
    simulated(
        "consumed early", "V4", "Consumes a message in a commit before its effect's.", loop_class=engines.SplitsMessages
    ),
    simulated(
        "acknowledge before commit",
        "V2",
        "Says that a commit is durable, then writes it.",
        writer_class=engines.AcknowledgesFirst,
    ),
    simulated(
        "double commit",
        "V2",
        "Takes a lost answer for a failure, and commits again.",
        writer_class=engines.CommitsAgain,
    ),
)

SIMULATED_STORES = (
    simulated("no epoch check at commit", "V3", "Takes a commit from any owner.", store=stores.NoFence),
    simulated(
        "claim without compare-and-set", "V3", "Gives a thread away twice for one epoch.", store=stores.NoCompare
    ),
    simulated("refusal reported as success", "V3", "Acknowledges a commit that it refused.", store=stores.SaysDone),
    simulated(
        "park without looking at the inbox", "V4", "Parks a thread that has unread mail.", store=stores.ParksBlindly
    ),
    simulated("double delivery", "V4", "Takes a message that is sent again for a new one.", store=stores.DeliversTwice),
    simulated(
        "dropped at the end",
        "V4",
        "Does not record what a thread ended without reading.",
        store=stores.ForgetsUndelivered,
    ),
    simulated(
        "one delta a commit", "V6", "Loses all but a channel's last change in a commit.", store=stores.LosesDeltas
    ),
    simulated("calls not kept", "V4", "Forgets what nodes were answered.", store=stores.KeepsNoCalls),
    simulated("epoch that falls", "V3", "Counts owners anew after the second change.", store=stores.EpochFalls),
)

CONFORMED = (
    conformed(
        "stale owner's commit",
        "V3",
        "Takes a commit from whoever knows the seq.",
        stores.Unfenced,
        "commits.py::test_a_stale_commit_writes_nothing",
        lambda h, s: Commits().test_a_stale_commit_writes_nothing(h, s, {"token": "other"}),
    ),
    conformed(
        "commit id not looked up",
        "V3",
        "Refuses a commit that it had written.",
        stores.Forgetful,
        "commits.py::test_a_lost_answer_is_found_again",
        Commits().test_a_lost_answer_is_found_again,
    ),
    conformed(
        "group torn",
        "V3",
        "Stops a group at the first commit that is refused.",
        stores.Torn,
        "commits.py::test_in_a_group_each_succeeds_or_fails_alone",
        Commits().test_in_a_group_each_succeeds_or_fails_alone,
    ),
    conformed(
        "stale write in a group commit",
        "V3",
        "Writes a refused commit's rows with its group.",
        stores.StaleInGroup,
        "commits.py::test_in_a_group_each_succeeds_or_fails_alone",
        Commits().test_in_a_group_each_succeeds_or_fails_alone,
    ),
    conformed(
        "message id not looked up",
        "V4",
        "Numbers a repeated message again.",
        stores.Doubling,
        "messages.py::test_messages_are_numbered_and_repeats_are_not",
        Messages().test_messages_are_numbered_and_repeats_are_not,
    ),
    conformed(
        "second answer accepted",
        "V4",
        "Leaves an answered interrupt open.",
        stores.AnswersAgain,
        "messages.py::test_one_answer_to_each_interrupt",
        lambda h, s: Messages().test_one_answer_to_each_interrupt(s),
    ),
    conformed(
        "message wakes nobody",
        "V5",
        "Keeps a message, and leaves its thread parked.",
        stores.WakesNobody,
        "messages.py::test_which_messages_wake_a_thread",
        lambda h, s: Messages().test_which_messages_wake_a_thread(s, Status.INTERRUPTED, "resume"),
    ),
    conformed(
        "thread given to every claimer",
        "V3",
        "Does not compare the epoch.",
        stores.Generous,
        "ownership.py::test_of_many_claimers_one_wins",
        lambda h, s: Ownership().test_of_many_claimers_one_wins(s),
    ),
    conformed(
        "crash not charged",
        "V5",
        "Counts no crash, so that no budget is ever spent.",
        stores.Uncharged,
        "ownership.py::test_claim_compares_the_epoch",
        lambda h, s: Ownership().test_claim_compares_the_epoch(s),
    ),
    conformed(
        "listing shows a thread twice",
        "V5",
        "Shows the first of each page again.",
        stores.Repeating,
        "listing.py::test_a_listing_while_threads_come_and_go",
        lambda h, s: Listing().test_a_listing_while_threads_come_and_go(s),
    ),
    conformed(
        "nothing deleted",
        "V8",
        "Leaves what is to be deleted.",
        stores.Lingering,
        "deletion.py::test_deletion_leaves_nothing",
        Deletion().test_deletion_leaves_nothing,
    ),
    conformed(
        "no reference check in deletion",
        "V2",
        "Deletes what forks still read.",
        stores.Unreferenced,
        "deletion.py::test_forks_hold_their_origin",
        lambda h, s: Deletion().test_forks_hold_their_origin(s),
    ),
    conformed(
        "housekeeping of a thread done to its successor",
        "V1",
        "Does not compare which thread an amendment is meant for.",
        stores.Mistaking,
        "amendments.py::test_an_amendment_of_a_thread_that_another_one_has_replaced",
        lambda h, s: Amendments().test_an_amendment_of_a_thread_that_another_one_has_replaced(s),
    ),
    conformed(
        "a thread deleted that has gone on",
        "V1",
        "Does not compare what is deleted with what was seen.",
        stores.Mistaking,
        "deletion.py::test_only_what_is_as_it_was_seen_is_deleted",
        lambda h, s: Deletion().test_only_what_is_as_it_was_seen_is_deleted(s),
    ),
    conformed(
        "piece of a copy added to anything",
        "V2",
        "Does not compare how far a thread that is copied in has come.",
        stores.Adding,
        "copies.py::test_loading_goes_on_only_from_where_it_was_seen",
        lambda h, s: Copies().test_loading_goes_on_only_from_where_it_was_seen(s),
    ),
    conformed(
        "stale reads",
        "V2",
        "Shows a row as it was when it was first read.",
        stores.Stale,
        "segments.py::test_readers_see_whole_commits",
        Segments().test_readers_see_whole_commits,
    ),
)

REWRITTEN = (
    rewritten(
        "no epoch check in Postgres",
        "V3",
        "The commit's statement compares the seq alone.",
        Edit("postgres", "commit", "row.epoch = input.epoch AND row.token = input.token AND row.seq", "row.seq"),
        "commits.py::test_a_stale_commit_writes_nothing",
        lambda h, s: Commits().test_a_stale_commit_writes_nothing(h, s, {"token": "other"}),
    ),
    rewritten(
        "stale write in a group in Postgres",
        "V3",
        "The segments come from all that was sent.",
        Edit(
            "postgres", "commit", "accepted AS (SELECT * FROM held WHERE expected)", "accepted AS (SELECT * FROM held)"
        ),
        "commits.py::test_in_a_group_each_succeeds_or_fails_alone",
        Commits().test_in_a_group_each_succeeds_or_fails_alone,
    ),
    rewritten(
        "no epoch check in Redis",
        "V3",
        "The commit's script compares the seq alone.",
        Edit("redis", "commit", "now.epoch ~= epoch or now.token ~= token or now.seq ~= before", "now.seq ~= before"),
        "commits.py::test_a_stale_commit_writes_nothing",
        lambda h, s: Commits().test_a_stale_commit_writes_nothing(h, s, {"token": "other"}),
    ),
    rewritten(
        "park without looking at the inbox in Redis",
        "V4",
        "The commit's script does not compare the inbox.",
        Edit("redis", "commit", "inbox ~= '' and inbox ~= now.inbox", "false"),
        "messages.py::test_parking_races_with_delivery",
        lambda h, s: Messages().test_parking_races_with_delivery(s),
    ),
)

PATCHED = (
    patched(
        "cancel does not overtake",
        "V4",
        "Reads a cancel when its turn comes.",
        test_a_cancel_overtakes_what_came_before_it,
        plan,
        "_from_mail",
        _mail_in_turn,
    ),
    patched(
        "head not compared",
        "V4",
        "Applies an update that was meant for another head.",
        test_travel.test_an_update_that_comes_late_is_refused_where_it_is_applied,
        Applier,
        "_comes_late",
        lambda applier, payload: False,
    ),
    patched(
        "no reference check in retention",
        "V2",
        "Drops what names and forks refer to.",
        _on_memory(test_names_and_forks_are_kept),
        tidying,
        "protected",
        lambda row, forks: frozenset(),
    ),
    patched(
        "lease expiry by the clock",
        "V5",
        "Blames owners for time in which nobody looked.",
        test_leases.test_a_supervisor_that_was_stopped_itself_does_not_blame_the_owners,
        test_leases,
        "LeaseWatch",
        leases.CountsAll,
    ),
    patched(
        "outage counted against owners",
        "V5",
        "Lets leases expire while the store is away.",
        test_leases.test_the_time_of_an_outage_counts_against_nobody,
        test_leases,
        "LeaseWatch",
        leases.IgnoresOutages,
    ),
)


RECORDED = (
    patched(
        "re-runs forgotten in retention",
        "V7",
        "Drops what a re-run has still to replay.",
        _on_memory(test_reruns.test_what_a_rerun_has_still_to_replay_is_kept),
        tidying,
        "lowest_replayed",
        lambda store, thread_id: float("inf"),
    ),
    patched(
        "what has no record is done",
        "V7",
        "Lets a re-run do what its original has no record of.",
        _on_memory(test_reruns.test_what_has_no_record_stops_the_run_with_the_reason),
        Scope,
        "replays",
        False,
    ),
    patched(
        "key from a fresh id",
        "V7",
        "Gives each attempt another idempotency key.",
        test_engine_recorded.test_a_key_is_the_same_for_every_attempt,
        context,
        "idempotency_key",
        calls.fresh_key,
    ),
    patched(
        "task entered too early",
        "V2",
        "Begins a @task before the steps before it are durable.",
        test_engine_recorded.test_a_task_begins_when_what_came_before_is_durable,
        Scope,
        "enter",
        calls.enter_at_once,
    ),
    patched(
        "task result not awaited",
        "V2",
        "Goes on before the result of a @task is durable.",
        test_engine_recorded.test_a_tasks_result_is_durable_before_its_node_goes_on,
        Scope,
        "record",
        calls.record_later,
    ),
    patched(
        "void numbers counted",
        "V2",
        "Counts what a failed attempt of a @task has measured.",
        _on_memory(test_engine_measures.test_an_attempt_of_a_call_that_raised_counts_for_nothing),
        Measuring,
        "begin",
        lambda measuring, call: None,
    ),
    patched(
        "signal consumed before it is recorded",
        "V4",
        "Consumes a signal in one commit, and records it in the next.",
        test_engine_recorded.test_a_signal_is_consumed_by_the_commit_that_records_it,
        Applier,
        "receive",
        calls.consume_first,
    ),
    conformed(
        "timer lost",
        "V5",
        "Forgets when a parked thread is due.",
        stores.Sleepless,
        "timers.py::test_every_parked_thread_may_be_due",
        lambda h, s: Timers().test_every_parked_thread_may_be_due(s, Status.SLEEPING),
    ),
    patched(
        "timer fired twice",
        "V4",
        "Has two supervisors wake a thread twice.",
        test_timers.test_sleepers_are_woken_at_their_time_and_two_supervisors_wake_each_once,
        timers,
        "wake_message",
        calls.wake_again,
    ),
)

TABLE = (*ENGINES, *SIMULATED_STORES, *CONFORMED, *REWRITTEN, *PATCHED, *RECORDED)
