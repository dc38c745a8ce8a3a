"""How many small tasks one Ray task carries: pure arithmetic over measured node times."""

from __future__ import annotations

TARGET_SECONDS = 0.05
"""Work that a group should hold: some 25 times what a Ray task costs (1.9 ms measured); little to lose to a crash."""
LARGEST = 512
_WEIGHT = 0.3


class NodeTimes:
    """A running mean of each node's time, in seconds."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def learn(self, node: str, seconds: float) -> None:
        """Note how long a task took; for a group, its tasks on average: single ones differ too much to be trusted."""
        mean = self._means.get(node)
        self._means[node] = seconds if mean is None else mean + _WEIGHT * (seconds - mean)

    def group_size(self, node: str, waiting: int, slots: int) -> int:
        """How many of `waiting` tasks of a node the next group takes, when `slots` groups can run side by side.

        One while nothing is known. Never so many that another slot would go empty.
        """
        mean = self._means.get(node)
        if mean is None or waiting <= 1:
            return 1
        wanted = int(TARGET_SECONDS / max(mean, 1e-6)) or 1
        fair = -(-waiting // max(slots, 1))
        return max(1, min(wanted, fair, LARGEST))
