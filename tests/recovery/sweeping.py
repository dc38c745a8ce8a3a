"""Run many threads of the 40-step graph, each with faults of its own, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perdure import Client, Status, ThreadHandle
from perdure.stores.processes import ProcessId
from perdure.stores.sqlite import SqliteStore
from tests.recovery.checks import check_attempts, check_history, durable_tasks
from tests.recovery.faults import Entry, Notes, Point
from tests.recovery.graphs_forty import answer_to, expected, graph


@dataclass(slots=True)
class Case:
    """One thread and what is to happen to it."""

    points: list[Point]
    durability: str

    @property
    def name(self) -> str:
        shown = [f"{number}{act}" for number, act in self.points[:3]]
        return "-".join([self.durability, *shown, *(["and-more"] if len(self.points) > 3 else [])])


@dataclass(slots=True)
class Ran:
    """What became of one thread."""

    case: Case
    log: list[Entry]
    steps: int
    """Supersteps in the history."""
    tasks: int
    """Tasks whose results are in the history."""
    attempts: int
    """Times that a node began."""
    seconds: float

    @property
    def calls(self) -> list[Entry]:
        return [entry for entry in self.log if "call" in entry]

    @property
    def acted(self) -> list[str]:
        """The faults that came to pass: `commit after`."""
        return [f"{entry['name']} {entry['act']}" for entry in self.calls if entry["act"]]


class Sweep:
    """Runs cases on one service. `patience`: seconds without any commit or claim after which a thread is stranded."""

    def __init__(self, client: Client, *, together: int = 3, patience: float = 120.0) -> None:
        self._client = client
        self._together = together
        self._patience = patience
        assert isinstance(client.store, SqliteStore)
        self._database: Path = client.store.path
        self._progress: dict[str, tuple[tuple[int, int], float]] = {}
        self.done: list[Ran] = []

    def run(self, cases: Iterable[Case]) -> list[Ran]:
        """All cases; each is checked when it has ended. Raises `AssertionError` naming the first that failed."""
        todo = list(cases)
        running: dict[str, tuple[Case, ThreadHandle, float]] = {}
        done: list[Ran] = []
        while todo or running:
            while todo and len(running) < self._together:
                case = todo.pop(0)
                running[case.name] = (case, self._start(case), time.monotonic())
            for name, (case, handle, since) in list(running.items()):
                if self._look(handle):
                    del running[name]
                    done.append(self._checked(case, handle, time.monotonic() - since))
            time.sleep(0.01)
        self.done += done
        return done

    def _start(self, case: Case) -> ThreadHandle:
        notes = self._notes(case.name)
        notes.write_plan(case.points)
        return self._client.submit(
            graph,
            {"n": 0},
            thread_id=case.name,
            durability=case.durability,
            configurable={"log": str(notes.log)},
        )

    def _look(self, handle: ThreadHandle) -> bool:
        """Answer what is asked. Whether the thread has ended."""
        row = handle.info
        mark = (row.seq, row.epoch)
        if handle.thread_id not in self._progress or self._progress[handle.thread_id][0] != mark:
            self._progress[handle.thread_id] = (mark, time.monotonic())
        if row.status is Status.INTERRUPTED:
            (question,) = handle.get_state().interrupts
            handle.resume(answer_to(question.value))
        late = time.monotonic() - self._progress[handle.thread_id][1] > self._patience
        if late or row.status in (Status.PAUSED, Status.FAILED, Status.CANCELLED):
            tail = "\n".join(map(str, self._notes(handle.thread_id).entries()[-12:]))
            raise AssertionError(f"{'stranded' if late else 'stopped'}: {row}\n{self._client.actors()}\n{tail}")
        return row.status is Status.SUCCEEDED

    def _checked(self, case: Case, handle: ThreadHandle, seconds: float) -> Ran:
        log = self._notes(case.name).entries()
        try:
            assert handle.result(timeout=60) == expected()
            segments = check_history(self._client.store, case.name)
            started = check_attempts(case.name, segments, log)
            messages = self._client.store.messages(case.name, unread=False)
            assert [message.number for message in messages] == list(range(1, len(messages) + 1))
            assert all(message.applied > 0 for message in messages)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}\n" + "\n".join(map(str, log))) from error
        tasks = durable_tasks(case.name, segments)
        steps = len({task.rpartition("\n")[0] for task in tasks})
        return Ran(case, log, steps, len(tasks), sum(started.values()), seconds)

    def _notes(self, name: str) -> Notes:
        return Notes.beside(self._database, name)


def owners_left(runs: Iterable[Ran]) -> set[ProcessId]:
    """Processes that owned one of the threads and still live."""
    claims = (entry for run in runs for entry in run.log if "claimed" in entry)
    return {owner for entry in claims if (owner := ProcessId(entry["pid"], entry["started"])).alive}
