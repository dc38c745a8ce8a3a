"""Whom a crash is charged to: pure decisions over a thread's row.

Where many threads shared the process that died, nobody knows which of them ended it: none is charged, and each runs
alone next. Only a crash alone counts, and as long as one counts the thread stays alone. All that this takes is in the
row: how it wants to run, its crashes, and its last owner, whose name says whether it was shared.
"""

from __future__ import annotations

from ..stores.records import SHARED, ThreadRecord
from .names import is_shared


def charged(row: ThreadRecord, *, died: bool) -> bool:
    """Whether the death of its owner counts against the thread."""
    return died and not is_shared(row.owner)


def shares(row: ThreadRecord, *, died: bool) -> bool:
    """Whether a thread may run beside others next. `died`: its owner did, over whatever it had."""
    return row.isolation == SHARED and not row.crashes and not died
