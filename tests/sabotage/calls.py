"""Ways to lose, or to do twice, what nodes ask for and are given."""

from __future__ import annotations

import uuid
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from perdure.runtime.apply import Applier
from perdure.runtime.calls import Call
from perdure.runtime.desk import Record
from perdure.runtime.scope import Scope
from perdure.runtime.task import Origin
from perdure.runtime.waking import wake_message
from perdure.stores.operations import Expect
from perdure.stores.records import Message, Status, ThreadRecord

RECEIVE = Applier.receive


def enter_at_once(scope: Scope, index: int | None = None) -> Future[Call | None]:
    """`Scope.enter` that waits for nothing."""
    answer: Future[Call | None] = Future()
    answer.set_result(None)
    return answer


def record_later(scope: Scope, index: int, call: Call) -> Future[Call]:
    """`Scope.record` that goes on before the result is durable."""
    scope.desk.ask(Record(scope.task.path, index, call))
    answer: Future[Call] = Future()
    answer.set_result(call)
    return answer


def consume_first(applier: Applier, path: str, index: int, message: Message) -> Call | None:
    """`Applier.receive` that consumes the signal in a commit before the one that records it."""
    recorder: Any = applier._recorder
    kept = recorder.call

    def call_in_the_next(*given: Any) -> None:
        recorder.seal()
        kept(*given)

    recorder.call = call_in_the_next
    try:
        return RECEIVE(applier, path, index, message)
    finally:
        del recorder.call


def fresh_key(origin: Origin, path: str, call: int | None) -> str:
    """`idempotency_key` that draws a new one each time."""
    return uuid.uuid4().hex


def wake_again(parked: ThreadRecord, now: float) -> tuple[Message, Expect]:
    """`wake_message` with a new id each time, for a thread that may be awake."""
    message, _ = wake_message(parked, now)
    return replace(message, message_id=uuid.uuid4().hex), Expect(statuses=frozenset(Status))
