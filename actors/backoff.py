"""How long a thread whose process keeps dying waits before it is started again."""

from __future__ import annotations

import tenacity

_BACKOFF = tenacity.wait_exponential(multiplier=0.5, max=30.0) + tenacity.wait_random(0, 0.1)


def restart_delay(crashes: int, budget: int) -> float:
    """Seconds to wait before the restart after this many crashes without durable progress, the last one included.

    The first restart comes at once: most crashes are not of the thread's making. One that the budget does not allow
    comes at once too, since it only pauses the thread.
    """
    if crashes <= 1 or crashes >= budget:
        return 0.0
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = crashes - 1
    return _BACKOFF(state)
