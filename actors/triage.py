"""What a thread's row says about its owner: a pure decision of the supervisor, for each thread that its sweep meets."""

from __future__ import annotations

from enum import Enum, auto

from ..stores.records import SERVICE, ThreadRecord
from .members import Phase
from .names import owner_prefix, supervisor_name
from .roster import Roster


class Verdict(Enum):
    """What to do about a thread."""

    LEAVE = auto()
    """Somebody sees to it, or nobody has to."""
    POKE = auto()
    """Its actor is at work; it may not know of its newest mail."""
    TAKE = auto()
    """Nobody owns it."""
    TAKE_AFTER_CRASH = auto()
    """Its owner died, and no supervisor was there to see it."""
    ASK_OWNER = auto()
    """Its actor lives and is not known to host it: it may have taken it up, or lost it."""
    ASK_LEASE = auto()
    """Its owner is of another cluster session, of which only the store knows anything."""


def triage(row: ThreadRecord, roster: Roster, key: str) -> Verdict:
    """Look at one row. `key` names the service (`names.service_key`)."""
    if row.driver != SERVICE or not row.status.runnable:
        return Verdict.LEAVE
    host = roster.host_of(row.thread_id)
    if host is not None:
        return Verdict.POKE if row.owner == host.name else Verdict.LEAVE
    if not row.token or row.owner == supervisor_name(key):
        # A supervisor holds a thread itself only while it parks it: one before this one has died there.
        return Verdict.TAKE
    if not row.owner.startswith(owner_prefix(key)):
        return Verdict.ASK_LEASE
    owner = roster.members.get(row.owner)
    if owner is None:
        return Verdict.TAKE_AFTER_CRASH
    # One that has not answered yet is left to its lease.
    return Verdict.LEAVE if owner.phase is Phase.SILENT else Verdict.ASK_OWNER
