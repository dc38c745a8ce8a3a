"""Waking a parked thread at its time: a message like any other, so that a wake-up is neither lost nor done twice."""

from __future__ import annotations

from ..stores.codec import Codec
from ..stores.operations import Expect
from ..stores.records import PARKED, Message, Status, ThreadRecord
from .payloads import WAKE, pack

TIMED = PARKED - {Status.PAUSED}
"""Statuses that end when the time has come; a paused thread looks at its timers once it goes on."""


def wake_message(parked: ThreadRecord, now: float) -> tuple[Message, Expect]:
    """The message that wakes a thread which was parked as `parked`, and what must hold for it to be delivered.

    Its id says at which commit the thread was parked: whoever else wakes it from there delivers the same message, and
    the store takes the second one for a repetition. It is sent for its `wake_at` even where the sender's clock has been
    set back since: the thread's next owner takes the later of this time and its own, so that nothing it was woken for
    is found not to be due.
    """
    time = max(now, parked.wake_at)
    message = Message(message_id=f"{WAKE}-{parked.seq}", kind=WAKE, payload=pack(Codec(), time), created_at=now)
    return message, Expect(statuses=TIMED)
