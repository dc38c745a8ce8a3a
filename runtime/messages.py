"""`add_messages`: the reducer of a conversation.

A message is a dict (`{"role": "user", "content": "hi"}`) or any object with an `id`, such as LangChain's. What a node
returns is kept as it is, with an id if it had none; a text, or a pair (role, text), becomes a dict.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, NamedTuple

from typing_extensions import TypedDict

REMOVE_ALL_MESSAGES = "__remove_all__"
"""The id by which `RemoveMessage` removes every message before it."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoveMessage:
    """In an update: remove the message with this id."""

    id: str


def _random_id() -> str:
    return str(uuid.uuid4())


_NEW_ID: ContextVar[Callable[[], str]] = ContextVar("perdure_message_ids", default=_random_id)


@contextmanager
def message_ids(source: Callable[[], str]) -> Iterator[None]:
    """Take the ids of messages that have none from `source`, not from the operating system's random numbers."""
    token = _NEW_ID.set(source)
    try:
        yield
    finally:
        _NEW_ID.reset(token)


class MessagesEdit(NamedTuple):
    """What one update does to a list of messages: first replace, then remove, then append."""

    replaced: dict[int, Any]
    """By index in the old list."""
    removed: list[int]
    """Indexes in the old list, ascending."""
    appended: list[Any]


def add_messages(left: Any, right: Any) -> list[Any]:
    """Merge messages by id: one whose id is there takes that one's place, others are appended.

    Either may be one message or a list. Raises ValueError for removing an id that is not there, TypeError for what is
    no message.
    """
    old = _listed(left)
    old = [_with_id(_normal(one)) for one in old]
    return apply_edit(old, edit_messages(old, right))


def edit_messages(old: Sequence[Any], right: Any) -> MessagesEdit:
    """The edit that makes `add_messages(old, right)` of `old`, whose messages have ids. Changes neither."""
    update = [_normal(one) for one in _listed(right)]
    cleared = max((at for at, one in enumerate(update) if _removes(one) == REMOVE_ALL_MESSAGES), default=-1)
    if cleared >= 0:
        fresh = edit_messages([], update[cleared + 1 :])
        return MessagesEdit({}, list(range(len(old))), fresh.appended)
    edit = _Edit(old)
    for one in update:
        edit.take(one)
    return edit.result()


def apply_edit(old: Sequence[Any], edit: MessagesEdit) -> list[Any]:
    """The list that an edit makes of `old`."""
    if not edit.replaced and not edit.removed:
        return [*old, *edit.appended]
    removed = set(edit.removed)
    kept = [edit.replaced.get(at, one) for at, one in enumerate(old) if at not in removed]
    return [*kept, *edit.appended]


def message_id(message: Any) -> str | None:
    """A message's id; None if it has none yet."""
    found = message.get("id") if isinstance(message, dict) else message.id
    return found if found is None else str(found)


class MessagesState(TypedDict):
    """The state of a graph that is a conversation."""

    messages: Annotated[list[Any], add_messages]


class _Edit:
    """An edit in the making."""

    def __init__(self, old: Sequence[Any]) -> None:
        self._places = {message_id(one): at for at, one in enumerate(old)}
        self._replaced: dict[int, Any] = {}
        self._removed: set[int] = set()
        self._appended: dict[str | None, Any] = {}

    def take(self, message: Any) -> None:
        gone = _removes(message)
        if gone is not None:
            self._remove(gone)
            return
        message = _with_id(message)
        found = message_id(message)
        place = self._places.get(found)
        if place is None:
            self._appended[found] = message
        else:
            self._replaced[place] = message
            self._removed.discard(place)

    def result(self) -> MessagesEdit:
        replaced = {at: one for at, one in self._replaced.items() if at not in self._removed}
        return MessagesEdit(replaced, sorted(self._removed), list(self._appended.values()))

    def _remove(self, gone: str) -> None:
        if gone in self._places:
            self._removed.add(self._places[gone])
        elif self._appended.pop(gone, None) is None:
            raise ValueError(f"there is no message with the id {gone!r} to remove")


def _listed(given: Any) -> list[Any]:
    if given is None:
        raise TypeError("add_messages was given None; give a message or a list of messages")
    return given if isinstance(given, list) else [given]


def _normal(message: Any) -> Any:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if isinstance(message, tuple) and len(message) == 2 and isinstance(message[0], str):
        return {"role": message[0], "content": message[1]}
    if isinstance(message, dict) and (_removes(message) is not None or "role" in message or "type" in message):
        return message
    if not isinstance(message, dict) and hasattr(message, "id"):
        return message
    raise TypeError(
        f"{repr(message)[:80]} is no message; give a dict with role and content, a (role, text) pair, a text, or an "
        "object with an id"
    )


def _removes(message: Any) -> str | None:
    """The id that a message asks to remove; None if it is an ordinary one."""
    if isinstance(message, dict):
        return str(message["id"]) if message.get("role") == "remove" and "id" in message else None
    if isinstance(message, RemoveMessage) or getattr(message, "type", None) == "remove":
        return str(message.id)
    return None


def _with_id(message: Any) -> Any:
    """The message, or a copy of it with an id."""
    if message_id(message) is not None:
        return message
    fresh = _NEW_ID.get()()
    if isinstance(message, dict):
        return {**message, "id": fresh}
    if hasattr(message, "model_copy"):
        return message.model_copy(update={"id": fresh})
    if dataclasses.is_dataclass(message) and not isinstance(message, type):
        return dataclasses.replace(message, id=fresh)
    raise TypeError(
        f"{type(message).__name__} has no id, and none can be given to it; set it before returning the message"
    )
