"""Whom the ends of actors are charged to: whether what one hosted may have ended it."""

from __future__ import annotations

from collections.abc import MutableMapping

from cachetools import TTLCache

from .deaths import blames
from .exits import Exits

REMEMBERED = 60.0
"""Seconds within which everybody has heard of the end of an actor that he has asked for something."""


class Verdicts:
    """Of one service's actors, by their names, which are never used twice."""

    def __init__(self, exits: Exits) -> None:
        self._exits = exits
        self._guilty: MutableMapping[str, bool] = TTLCache(maxsize=1024, ttl=REMEMBERED)
        """Of those that were seen to end."""
        self._frozen: set[str] = set()

    def freeze(self, name: str) -> None:
        """An actor is killed since its lease expired: not the fault of what it hosts."""
        self._frozen.add(name)

    def forget(self, name: str) -> None:
        """A frozen actor has been judged."""
        self._frozen.discard(name)

    def judge(self, name: str) -> bool:
        """Whether one that was seen to end just now was ended by what it hosted: not with its node, nor by us. Kept for
        those who hear of it later: who had asked it for something, and whose answer comes no more, or after its end."""
        guilty = self._guilty.get(name)
        if guilty is None:
            guilty = self._guilty[name] = self._exits.alone and name not in self._frozen
        return guilty

    def of(self, name: str) -> bool | None:
        """The verdict on one that was seen to end; None for any other."""
        return self._guilty.get(name)

    def blames(self, name: str, error: Exception) -> bool:
        """The same of any that has ended, for which `error` is all that Ray says if nothing was seen."""
        seen = self._guilty.get(name)
        return blames(error) and name not in self._frozen if seen is None else seen
