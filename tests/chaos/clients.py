"""The users: each submits threads one after the other and sees each to its end, whatever happens meanwhile.

What a call acknowledged is noted before anything else is done. After `StoreUnavailable` a user cannot know whether the
message was accepted; so no text is ever said twice, and the judge takes what the store has.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from perdure import Client, Refused, StoreUnavailable, ThreadHandle
from perdure.cluster.errors import Cancelled
from perdure.runtime.errors import InvalidUpdateError, NotInterrupted, UnknownInterrupt
from perdure.stores.errors import ThreadExists
from perdure.stores.records import Status
from tests.chaos.graphs import answer_to, draw_script, graph
from tests.chaos.witness import LOG

T = TypeVar("T")

TOO_LATE = (Refused, NotInterrupted, UnknownInterrupt, Cancelled)
"""The thread had gone on by itself before a message reached it."""
PATIENCE = 5.0
"""Seconds that a call which waits for its effect may take before the user does something else."""
MEDDLING = 8
"""Pauses and updates of one run, at most. There are none when the faults are over."""


class User(threading.Thread):
    """Submits threads until it is told to stop, and follows each until it has ended."""

    def __init__(self, client: Client, folder: Path, name: str, seed: str) -> None:
        super().__init__(name=name, daemon=True)
        self.did: Counter[str] = Counter()
        """What was acknowledged, by kind."""
        self.lost: Counter[str] = Counter()
        """What was left in doubt."""
        self.threads: list[str] = []
        self.error: BaseException | None = None
        self.busy = ""
        """The thread that it follows."""
        self._client = client
        self._folder = folder
        self._random = Random(seed)
        self._stopping = threading.Event()
        self._said = 0

    def stop(self) -> None:
        """Begin no further thread."""
        self._stopping.set()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._one()
        except BaseException as error:
            self.error = error
        self.busy = ""

    # -- one thread ------------------------------------------------------------------------------------------------

    def _one(self) -> None:
        thread_id = f"{self.name}-{len(self.threads)}"
        self.threads.append(thread_id)
        self.busy = thread_id
        handle = self._submitted(thread_id)
        more = self._random.choice([0, 0, 1, 2])
        doomed = self._random.random() < 0.1
        self._follow(handle, doomed)
        while more and not doomed and not self._stopping.is_set():
            more -= 1
            self._follow(self._submitted(thread_id, if_exists="continue"), doomed)

    def _submitted(self, thread_id: str, **options: Any) -> ThreadHandle:
        """Submit until it is accepted: each attempt with a name of its own, as the last may have been accepted too."""
        log = str(self._folder / thread_id)
        durability = self._random.choice(["async", "async", "sync", "exit"])
        while True:
            self._said += 1
            given = {"run": f"r{self._said}", "script": draw_script(self._random)}
            try:
                handle = self._client.submit(
                    graph,
                    given,
                    thread_id=thread_id,
                    metadata={LOG: log},
                    tags=(self.name,),
                    configurable={LOG: log},
                    durability=durability,
                    **options,
                )
            except StoreUnavailable:
                self.lost["submit"] += 1
                time.sleep(0.05)
            except ThreadExists:
                # The attempt before was accepted after all, though its answer was lost.
                return insist(lambda: self._client.thread(thread_id, graph=graph))
            else:
                self.did["submit"] += 1
                return handle

    def _follow(self, handle: ThreadHandle, doomed: bool) -> None:
        """Until the thread has ended. Now and then something is said to it; one that is doomed is cancelled."""
        meddling = MEDDLING
        while True:
            row = insist(lambda: handle.info)
            if row.status.ended:
                return
            if row.status is Status.INTERRUPTED:
                self._answer(handle)
            elif row.status is Status.WAITING:
                self._signal(handle, row.waits)
            elif row.status is Status.PAUSED:
                self._unpause(handle, row.reason)
            elif meddling and not self._stopping.is_set() and self._random.random() < 0.05:
                meddling -= 1
                self._meddle(handle)
            if doomed and self._random.random() < 0.02:
                self._do("cancel", lambda: handle.cancel("enough"))
            time.sleep(0.02 + 0.03 * self._random.random())

    def _answer(self, handle: ThreadHandle) -> None:
        def answer() -> None:
            questions = handle.get_state().interrupts
            for one in questions[: self._random.randint(1, len(questions) or 1)]:
                handle.resume(answer_to(one.value), interrupt_id=one.id)

        self._do("answer", answer)

    def _signal(self, handle: ThreadHandle, waits: Sequence[str]) -> None:
        """Send what it waits for; now and then something else first, which stays where it is until it is asked for."""
        wanted = waits[0].partition(":")[2]
        name = wanted if self._random.random() < 0.8 else {"even": "odd", "odd": "even"}[wanted]
        self._said += 1
        value = f"{handle.thread_id}: {self._said}"
        self._do("signal", lambda: handle.signal(name, value))

    def _unpause(self, handle: ThreadHandle, reason: str) -> None:
        """Pauses come from ourselves, or from a budget that was spent."""
        self.did[f"found paused: {reason.partition(' ')[0]}"] += reason != "breathe"
        self._do("retry", handle.retry)

    def _meddle(self, handle: ThreadHandle) -> None:
        if self._random.random() < 0.3:
            self._do("pause", lambda: handle.pause("breathe"))
            return
        self._said += 1
        text = f"{handle.thread_id}: {self._said}"
        self._do("update", lambda: handle.update_state({"heard": [text]}, timeout=PATIENCE))

    def _do(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except StoreUnavailable:
            self.lost[what] += 1
        except TOO_LATE:
            self.did[f"{what}, too late"] += 1
        except TimeoutError:
            self.did[f"{what}, slow"] += 1
        except InvalidUpdateError:
            self.did[f"{what}, refused"] += 1
        else:
            self.did[what] += 1


def insist(call: Callable[[], T]) -> T:
    """The answer to a call that changes nothing, which is made until there is one."""
    while True:
        try:
            return call()
        except StoreUnavailable:
            time.sleep(0.05)
