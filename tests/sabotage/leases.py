"""Ways of telling that an owner is frozen which blame owners that are not."""

from __future__ import annotations

import math
from datetime import timedelta

from perdure.actors.lease import LeaseWatch


class CountsAll(LeaseWatch):
    """Takes the age of a lease off the clock: time in which the supervisor itself did not look counts too."""

    def __init__(self, lease: timedelta, longest_gap: timedelta) -> None:
        super().__init__(lease, longest_gap)
        self._gap = math.inf


class IgnoresOutages(LeaseWatch):
    """Goes on counting while the store does not answer."""

    def outage(self) -> None:
        return
