"""Reducers: finding a key's reducer in its annotation, and the ones whose effect is known in closed form."""

from __future__ import annotations

import collections.abc
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, get_origin

from ..stores.deltas import Delta, Op
from .annotations import describe
from .channels import Channel, Fold, PlainChannel, Reducer, ReducerChannel
from .errors import GraphValidationError
from .messages import add_messages, apply_edit, edit_messages

Folded = tuple[Any, list[Delta]]


def channel_of(name: str, annotation: Any, metadata: Sequence[Any], default: Callable[[], Any] | None) -> Channel:
    """The channel of one key, given its bare type, its `Annotated` metadata and what makes its default.

    Raises `GraphValidationError` for a reducer that does not take (old, update).
    """
    reducer = _reducer_in(name, metadata)
    if reducer is None:
        return PlainChannel(name, annotation, default)
    fold = next((fold for known, fold in _FOLDS if known is reducer), None)
    empty = list if reducer is add_messages else _empty_of(annotation)
    return ReducerChannel(name, annotation, default, reducer=reducer, empty=empty, fold=fold)


def _reducer_in(name: str, metadata: Sequence[Any]) -> Reducer | None:
    """The last function in the metadata; what pydantic and others keep there is passed over."""
    found = None
    for item in metadata:
        module = (item if isinstance(item, type) else type(item)).__module__
        if module.startswith("langgraph."):
            raise GraphValidationError(
                f"key {name!r} is annotated with {describe(item)} of LangGraph; give a reducer, a function of (old, "
                "update)"
            )
        if callable(item) and not isinstance(item, type) and not _is_metadata(item):
            found = item
    if found is not None:
        _check_signature(name, found)
    return found


def _is_metadata(item: Any) -> bool:
    """Whether pydantic put it there. (That is not imported for this: it takes a worker a fifth of a second.)"""
    return any((base.__module__, base.__name__) in _METADATA for base in type(item).__mro__)


_METADATA = frozenset({("pydantic.fields", "FieldInfo"), ("annotated_types", "BaseMetadata")})


def _check_signature(name: str, reducer: Reducer) -> None:
    try:
        signature = inspect.signature(reducer)
    except (ValueError, TypeError):  # a builtin that does not tell
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise GraphValidationError(
            f"key {name!r}: its reducer {getattr(reducer, '__qualname__', reducer)!s}{signature} cannot be called with "
            "(old, update); give a function of these two"
        ) from None


def _empty_of(annotation: Any) -> Callable[[], Any] | None:
    """What makes the empty value of a type; None if it has none."""
    origin = get_origin(annotation) or annotation
    kind = _ABSTRACT.get(origin, origin)
    if not isinstance(kind, type) or kind is object:
        return None
    try:
        kind()
    except Exception:  # noqa: BLE001 — any class may be named, and its constructor may raise anything
        return None
    return kind


_ABSTRACT: dict[Any, type] = {
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}


def _fold_sum(old: Any, updates: Sequence[Any]) -> Folded | None:
    kind = type(old)
    if any(type(update) is not kind for update in updates):
        return None
    if kind is list:
        items = list(old)
        for update in updates:
            items += update
        return items, [Delta(Op.APPEND, list(update)) for update in updates]
    if kind is str or kind is bytes:
        return kind().join((old, *updates)), [Delta(Op.CONCAT, update) for update in updates]
    return None


def _fold_union(old: Any, updates: Sequence[Any]) -> Folded | None:
    kind = type(old)
    if any(type(update) is not kind for update in updates):
        return None
    if kind is dict:
        merged = dict(old)
        for update in updates:
            merged.update(update)
        return merged, [Delta(Op.MERGE, [dict(update), []]) for update in updates]
    if kind is set or kind is frozenset:
        return old.union(*updates), [Delta(Op.UNION, kind(update)) for update in updates]
    return None


def _fold_messages(old: Any, updates: Sequence[Any]) -> Folded | None:
    if type(old) is not list:
        return None
    messages, deltas = old, []
    for update in updates:
        edit = edit_messages(messages, update)
        messages = apply_edit(messages, edit)
        if edit.replaced or edit.removed:
            deltas.append(Delta(Op.MESSAGES, [sorted(edit.replaced.items(), key=_first), edit.removed, edit.appended]))
        else:
            deltas.append(Delta(Op.APPEND, edit.appended))
    return messages, deltas


_first = operator.itemgetter(0)
_SUM = Fold(_fold_sum, grows=True)
_UNION = Fold(_fold_union, grows=False)
_FOLDS: tuple[tuple[Reducer, Fold], ...] = (
    (operator.add, _SUM),
    (operator.iadd, _SUM),
    (operator.concat, _SUM),
    (operator.or_, _UNION),
    (operator.ior, _UNION),
    (add_messages, Fold(_fold_messages, grows=False)),
)
"""The reducers that are known, and what they do; compared by identity, since a user's need not be hashable."""
