"""Carries faults out, and undoes those that last."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

from perdure import Client, StoreUnavailable
from perdure.stores.processes import ProcessId
from tests.chaos.places import Place
from tests.chaos.schedule import Fault
from tests.chaos.victims import Cast, cast_of, chosen

LEASE = 2.0
"""Seconds of the service's leases."""
FREEZES = {"freeze owner shortly": 0.4 * LEASE, "freeze owner": 2.5 * LEASE}
"""The longest, in seconds: too short for the lease to expire, and long enough for it."""
AWAY = 2.0
"""Seconds that the store is away at most."""
BREATH = 5.0
"""Seconds that a fault waits at most for a commit since the last one: it is to strike a service that works."""


class Striker:
    """Strikes as the schedule says; `struck` counts what came to pass and `missed` what found no victim."""

    def __init__(self, client: Client, place: Place, tell: Callable[[str], None]) -> None:
        self.struck: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._client = client
        self._place = place
        self._tell = tell
        self._thaws: list[tuple[float, ProcessId]] = []
        self._commits = 0

    def play(self, faults: list[Fault], seconds: float) -> None:
        """All of them, each at its time, in the order of the schedule; then no process is left frozen."""
        began = time.monotonic()
        end = began + seconds
        for fault in faults:
            self._until(began + fault.at)
            self._until_progress(min(end, time.monotonic() + BREATH))
            if time.monotonic() >= end:
                break
            victim = self._strike(fault)
            counted = self.struck if victim else self.missed
            counted[fault.kind] += 1
            self._tell(f"{fault}: {victim or 'nobody there'}")
        self._until(end)
        for _, process in self._thaws:
            process.send(signal.SIGCONT)
        self._thaws.clear()

    def _until(self, when: float) -> None:
        """Wait, and let go on who has been frozen for long enough."""
        while (now := time.monotonic()) < when:
            due = [one for one in self._thaws if one[0] <= now]
            for one in due:
                one[1].send(signal.SIGCONT)
                self._thaws.remove(one)
            time.sleep(min(0.02, when - now))

    def _until_progress(self, latest: float) -> None:
        """Until something was committed since the last time."""
        while time.monotonic() < latest:
            try:
                commits = sum(row.seq for row in self._client.threads())
            except StoreUnavailable:
                commits = self._commits
            if commits > self._commits:
                self._commits = commits
                return
            self._until(min(latest, time.monotonic() + 0.1))

    def _strike(self, fault: Fault) -> str:
        """Who was struck; empty for nobody."""
        if fault.kind.startswith("store"):
            self._place.vanish(fault.length * AWAY if fault.kind == "store gone" else 0.0)
            return "the store"
        try:
            cast = cast_of(self._client)
        except StoreUnavailable:
            return ""
        if fault.kind in FREEZES:
            return self._freeze(cast, fault)
        victim = chosen(_group(cast, fault.kind), fault.choice)
        if victim is None:
            return ""
        victim.send(signal.SIGKILL)
        return f"process {victim.pid}"

    def _freeze(self, cast: Cast, fault: Fault) -> str:
        frozen = {process for _, process in self._thaws}
        victim = chosen([one for one in cast.owners if one not in frozen], fault.choice)
        if victim is None:
            return ""
        victim.send(signal.SIGSTOP)
        seconds = (0.5 + 0.5 * fault.length) * FREEZES[fault.kind]
        self._thaws.append((time.monotonic() + seconds, victim))
        return f"process {victim.pid}, {seconds:.2f} s"


def _group(cast: Cast, kind: str) -> tuple[ProcessId, ...]:
    return {
        "kill owner": cast.owners,
        "kill spare": cast.spares,
        "kill worker": cast.workers,
        "kill supervisor": cast.supervisor,
    }[kind]
