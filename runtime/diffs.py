"""What differs between two states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..stores.codec import Codec
from .sameness import same


class ValueChange(NamedTuple):
    """A key that both states have, with another value in each."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What one state has that another has not. A key is in one of the four at most."""

    before: str
    """Id of the checkpoint that is compared with..."""
    after: str
    """...this one."""
    added: Mapping[str, Any] = field(default_factory=dict)
    """Keys that only `after` has, with their values."""
    removed: Mapping[str, Any] = field(default_factory=dict)
    """Keys that only `before` has, with their values."""
    changed: Mapping[str, ValueChange] = field(default_factory=dict)
    appended: Mapping[str, list[Any]] = field(default_factory=dict)
    """Lists that only grew: what came to their end."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed or self.appended)

    def __str__(self) -> str:
        parts = [
            *(f"{key} = {_short(value)}" for key, value in self.added.items()),
            *(f"{key} removed" for key in self.removed),
            *(f"{key}: {_short(one.before)} -> {_short(one.after)}" for key, one in self.changed.items()),
            *(f"{key} + {_short(items)}" for key, items in self.appended.items()),
        ]
        return ", ".join(parts) or "no key differs"


def diff_values(
    before: Mapping[str, Any], after: Mapping[str, Any], codec: Codec, *, ids: tuple[str, str] = ("", "")
) -> StateDiff:
    """The difference of two states' values: of those that are not the same to `same`."""
    changed: dict[str, ValueChange] = {}
    appended: dict[str, list[Any]] = {}
    for key in after:
        if key not in before:
            continue
        old, new = before[key], after[key]
        if same(old, new, codec):
            continue
        if type(old) is list and type(new) is list and len(new) > len(old) and same(old, new[: len(old)], codec):
            appended[key] = new[len(old) :]
        else:
            changed[key] = ValueChange(old, new)
    return StateDiff(
        *ids,
        added={key: after[key] for key in after if key not in before},
        removed={key: before[key] for key in before if key not in after},
        changed=changed,
        appended=appended,
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
