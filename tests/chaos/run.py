"""One chaos: users at work on a real service, faults as a seed has drawn them, then the judgement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from perdure import Client, HeadOptions
from perdure.stores.base import CheckpointStore
from tests.actors.services import service
from tests.chaos.checks import CHECKS, Broken, check_all, describe
from tests.chaos.clients import User, insist
from tests.chaos.evidence import gather
from tests.chaos.leaks import Leaks
from tests.chaos.places import PLACES
from tests.chaos.raw import read_raw
from tests.chaos.readers import Reader
from tests.chaos.schedule import draw
from tests.chaos.strikes import LEASE, Striker
from tests.faults.acks import AckLog, Acknowledged, AcknowledgingStore

USERS = 6
ACTORS = 8
BOUND = 120.0
"""Seconds that may pass without a commit. Starting a process takes Ray long where others want the CPUs."""
LONGEST = 300.0
"""Seconds after the last fault within which every thread has to end."""


@dataclass(slots=True)
class Report:
    """What was done and what held."""

    seed: int
    store: str
    seconds: float
    struck: Mapping[str, int] = field(default_factory=dict)
    missed: Mapping[str, int] = field(default_factory=dict)
    did: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    looked_at: Counter[str] = field(default_factory=Counter)
    threads: int = 0
    takeovers: int = 0
    settled: float = 0.0
    """Seconds from the last fault until every thread had ended."""
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"chaos on {self.store}, seed {self.seed}, {self.seconds:g} s"]
        lines.append(
            "faults: " + _counts(self.struck) + (f" (no victim: {_counts(self.missed)})" if self.missed else "")
        )
        lines.append("acknowledged: " + _counts(self.did))
        lines.append("left in doubt: " + (_counts(self.lost) or "nothing"))
        lines.append(
            f"{self.threads} threads, {self.takeovers} takeovers; the last ended {self.settled:.1f} s after the faults"
        )
        lines += [f"held: {name}: {count}" for name, count in self.looked_at.items()]
        lines += [f"BROKEN: {what}" for what in self.broken]
        return "\n".join(lines)


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(counted.items()) if times)


def chaos(
    head: HeadOptions,
    folder: Path,
    store: str,
    *,
    seed: int,
    seconds: float,
    tell: Callable[[str], None],
) -> Report:
    """Make chaos for so many seconds on a store of this kind. The report says what was broken, if anything was."""
    report = Report(seed, store, seconds)
    logs = folder / "threads"
    logs.mkdir()
    with PLACES[store](folder) as place:
        lease = timedelta(seconds=LEASE)
        with service(head, place.url, lease=lease, max_actors=ACTORS) as client, AckLog(folder / "acks") as acks:
            plain = client.store
            client.store = AcknowledgingStore(plain, acks)
            reader = Reader(plain)
            users = [User(client, logs, f"u{number}", f"{seed} {number}") for number in range(USERS)]
            leaks = Leaks(client)
            for each in (*users, reader):
                each.start()
            _until_at_work(client, users)
            striker = Striker(client, place, tell)
            striker.play(list(draw(seed, seconds)), seconds)
            _settle(plain, users, reader, report)
            client.store = plain
            report.struck, report.missed = striker.struck, striker.missed
            report.did = sum((user.did for user in users), Counter())
            report.lost = sum((user.lost for user in users), Counter())
            _judge(client, users, reader, folder, report)
            leaks.check_running(report)
        leaks.check_ended(place, report)
    return report


def _until_at_work(client: Client, users: Sequence[User]) -> None:
    """Until every user's first thread has made some progress: before that there is nobody to strike."""
    deadline = time.monotonic() + BOUND
    while len({row.tags for row in client.store.threads().threads if row.seq > 1}) < len(users):
        for user in users:
            if user.error is not None:
                raise user.error
        assert time.monotonic() < deadline, f"the service did not begin: {client.actors()}"
        time.sleep(0.05)


def _settle(store: CheckpointStore, users: Sequence[User], reader: Reader, report: Report) -> None:
    """The faults are over: nothing new is begun, and what there is has to go on until it has ended."""
    over = moved = time.monotonic()
    commits = -1
    for user in users:
        user.stop()
    while (busy := [user for user in users if user.is_alive()]) and (now := time.monotonic()) < over + LONGEST:
        done = insist(lambda: sum(row.seq for row in store.threads(limit=1000).threads))
        if done > commits:
            commits, moved = done, now
        elif now > moved + BOUND:
            break
        busy[0].join(0.5)
    waited = time.monotonic() - over
    for user in users:
        if user.is_alive():
            report.broken.append(f"V5: thread {user.busy!r} has not ended {waited:.0f} s after the last fault")
        if user.error is not None:
            raise user.error
    reader.end()
    report.settled = waited


def _judge(client: Client, users: Sequence[User], reader: Reader, folder: Path, report: Report) -> None:
    store = client.store
    raw = insist(lambda: read_raw(store))
    acked = Acknowledged.of(folder / "acks")
    report.broken += [f"V1: thread {lost!r} was acknowledged and is lost" for lost in acked.created - raw.keys()]
    report.threads = len(raw)
    for thread_id, kept in raw.items():
        one = gather(store, kept, thread_id, acked, folder / "threads", reader.seen.get(thread_id, ()))
        report.takeovers += one.row.epoch - 1
        try:
            report.looked_at.update(check_all(one))
        except Broken as broken:
            report.broken.append(f"{broken}\n{describe(one)}")
    report.looked_at.update(dict.fromkeys(CHECKS, 0))
