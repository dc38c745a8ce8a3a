"""How many: numbers that a caller gives, checked before anything is done."""

from __future__ import annotations

import sys
from typing import Any

from ..runtime.errors import InputError


def check_whole(name: str, given: Any, *, least: int) -> None:
    """Raise `InputError` for what is neither None nor a whole number of at least `least`."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < least):
        raise InputError(f"{name} is {given!r}; give a whole number of at least {least}, or None")


def check_rate(given: Any) -> None:
    """Raise `InputError` for what is neither None nor a number per second."""
    if given is not None and not (_is_number(given) and given > 0):
        raise InputError(f"rate is {given!r}; give threads per second, a finite number above 0, or None for no bound")


def check_sample(given: Any) -> None:
    """Raise `InputError` for what is neither None, nor how many, nor a share."""
    if given is None or (_is_number(given) and (given >= 1 if isinstance(given, int) else 0 < given < 1)):
        return
    raise InputError(
        f"sample is {given!r}; give how many, a whole number of at least 1, or a share between 0 and 1, such as 0.1"
    )


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= sys.float_info.max
