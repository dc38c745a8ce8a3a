"""The kill in the middle of the demo: SIGKILL for the process that owns the thread, and what the store and the journal
say of how the work went on."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from perdure import CheckpointStore, Status, ThreadHandle
from perdure.examples.audit_watch import Attempt, FanOut, attempts, progress_bar
from perdure.stores.processes import ProcessId

PATIENCE = 60.0
"""Seconds that any one stage may take without progress."""
GIVEN_UP = frozenset({Status.PAUSED, Status.FAILED, Status.CANCELLED})


class DemoFailed(Exception):
    """Something did not go as promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What became of the work when its owner was killed. Times are seconds since the kill."""

    pid: int
    spares: int
    """Actors of the same pool that had a lease and no thread then."""
    kept: tuple[str, ...]
    """Files whose results the dead owner had committed."""
    claimed: float
    """A new owner had the thread (looked for every two milliseconds)."""
    running: float
    """A process that had not worked for the dead owner began with a file."""
    durable: float
    """The new owner's first result was found in the store."""
    repeated: tuple[str, ...]
    """Files that were begun more than once."""

    @property
    def broken(self) -> tuple[str, ...]:
        """Files that were begun again although their result was durable."""
        return tuple(sorted(set(self.kept) & set(self.repeated)))


class Kill:
    """Waits until half of the files are done, kills, and watches until all are."""

    def __init__(
        self, store: CheckpointStore, thread: ThreadHandle, fan_out: FanOut, journal: Path, console: Console
    ) -> None:
        self._store = store
        self._thread = thread
        self._fan_out = fan_out
        self._journal = journal
        self._console = console

    def run(self) -> Recovery:
        """Do it. Raises `DemoFailed` where there is nothing to kill, or nobody goes on."""
        fan_out = self._fan_out
        with progress_bar(self._console) as bar:
            task = bar.add_task("results in the store", total=None)
            for done in self._looks("half of the files"):
                bar.update(task, completed=done, total=len(fan_out.files) or None)
                if fan_out.merged:
                    raise DemoFailed(
                        f"all {done} files were done before there was anything to kill; audit a larger folder"
                    )
                if fan_out.files and 2 * done >= len(fan_out.files):
                    break
            pid, epoch, spares, killed_at = self._kill()
            self._console.print(f"kill -9 {pid}: the process that owns the thread, when {done} results were durable")
            claimed, durable = self._until_recovered(epoch)
            for done in self._looks("all files"):
                bar.update(task, completed=done)
                if fan_out.merged:
                    break
        begun = attempts(self._journal)
        return Recovery(
            pid=pid,
            spares=spares,
            kept=tuple(fan_out.files[path] for path, stored in fan_out.results.items() if stored.epoch <= epoch),
            claimed=claimed - killed_at,
            running=_first_by_another(begun, killed_at) - killed_at,
            durable=durable - killed_at,
            repeated=tuple(path for path, times in Counter(one.path for one in begun).items() if times > 1),
        )

    def _kill(self) -> tuple[int, int, int, float]:
        """SIGKILL to the owner's process, which its lease names: pid, epoch, spares that were ready, and when."""
        record = self._thread.info
        leases = self._store.owners()
        pool = record.owner.rpartition(".")[0]
        idle = [lease for lease in leases if lease.owner.startswith(pool) and not lease.threads]
        lease = next((lease for lease in leases if lease.owner == record.owner), None)
        if lease is None or not ProcessId(lease.pid, lease.started).alive:
            raise DemoFailed(f"the thread's owner {record.owner!r} has no lease of a living process to kill")
        killed_at = time.time()
        os.kill(lease.pid, signal.SIGKILL)
        return lease.pid, record.epoch, sum(one.owner != record.owner for one in idle), killed_at

    def _until_recovered(self, epoch: int) -> tuple[float, float]:
        """When a new owner was seen, and when its first result."""
        fan_out, claimed = self._fan_out, 0.0
        for _ in self._looks("a new owner's first result", pause=0.002):
            if not claimed and self._thread.info.epoch > epoch:
                claimed = time.time()
            if fan_out.merged and fan_out.merged.epoch <= epoch:
                raise DemoFailed("the last file was done just before the kill; audit a larger folder")
            found = [*fan_out.results.values(), *filter(None, [fan_out.merged])]
            durable = min((stored.seen for stored in found if stored.epoch > epoch), default=0.0)
            if claimed and durable:
                return claimed, durable
        raise AssertionError("unreachable")

    def _looks(self, what: str, pause: float = 0.02) -> Iterator[int]:
        """The number of durable tasks, again and again. Raises `DemoFailed` when it has not risen for too long, or
        cannot any more."""
        known, deadline = -1, 0.0
        while True:
            done = self._fan_out.look()
            if done > known:
                known, deadline = done, time.monotonic() + PATIENCE
            yield done
            record = self._thread.info
            if record.status in GIVEN_UP:
                raise DemoFailed(f"thread {record.thread_id!r} is {record.status}: {record.reason}")
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{what}: no progress for {PATIENCE:.0f} s; thread {record.thread_id!r} is {record.status}"
                )
            time.sleep(pause)


def _first_by_another(begun: Sequence[Attempt], moment: float) -> float:
    """When, after a moment, a process began that had not worked before it: those of the dead owner may end what they
    have in hand, and that is no recovery."""
    old = {attempt.pid for attempt in begun if attempt.at <= moment}
    found = next((attempt.at for attempt in begun if attempt.at > moment and attempt.pid not in old), None)
    if found is None:
        raise DemoFailed("no process began with a file after the kill")
    return found
