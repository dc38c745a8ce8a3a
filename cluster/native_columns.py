"""Columns of values in the one Arrow type that fits them all, where there is one; else as JSON text.

The type is decided by the values alone: bool, int64, float64, text, binary, date, timestamp (microseconds; with a zone
as UTC, without one as it is), and lists of one of these, at any depth. Integers among floats become floats if all of
them are exact as such. None is null. Everything else, and every mixture, is JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias

import pyarrow as pa

from .json_form import json_text


class Scalar(Enum):
    """What the values of a column have in common."""

    NOTHING = "no value but None"
    BOOL = "bool"
    INT = "integers that a double holds exactly"
    WIDE = "64-bit integers"
    FLOAT = "floats"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "dates"
    TIME = "dates with time and zone"
    NAIVE = "dates with time"
    JSON = "nothing: JSON"


@dataclass(frozen=True, slots=True)
class ListOf:
    """Lists (or tuples) whose items have this in common."""

    items: Shape


Shape: TypeAlias = Scalar | ListOf


def shape_of(values: Sequence[Any]) -> Shape:
    """What these values have in common."""
    shape: Shape = Scalar.NOTHING
    for kind in {*map(type, values)}:
        shape = joined(shape, _shape_of_kind(kind, [value for value in values if type(value) is kind]))
        if shape is Scalar.JSON:
            break
    return shape


def joined(one: Shape, other: Shape) -> Shape:
    """What values of two shapes have in common."""
    if one == other or other is Scalar.NOTHING:
        return one
    if one is Scalar.NOTHING:
        return other
    if isinstance(one, ListOf) and isinstance(other, ListOf):
        items = joined(one.items, other.items)
        return Scalar.JSON if items is Scalar.JSON else ListOf(items)
    # What two different shapes lead to does not depend on their order.
    return _TOGETHER.get(frozenset({one, other}), Scalar.JSON)


def column(values: Sequence[Any]) -> tuple[Shape, pa.Array[Any]]:
    """The values as an array, and what they have in common."""
    plain = [_plain(value) for value in values]
    shape = shape_of(plain)
    if shape is not Scalar.JSON:
        try:
            return shape, pa.array(plain, type=arrow_type(shape))
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            pass  # text with half a surrogate pair, a date beyond Arrow's years: only JSON has room for it
    return Scalar.JSON, json_column(values)


def json_column(values: Iterable[Any]) -> pa.Array[Any]:
    """The values as JSON text, None as null."""
    return pa.array([None if value is None else json_text(value) for value in values], type=pa.string())


def converted(array: pa.Array[Any], before: Shape, shape: Shape) -> pa.Array[Any]:
    """The array that `column` made, as a column of a shape that has more in common with others."""
    if before == shape:
        return array
    if shape is Scalar.JSON:
        return json_column(array.to_pylist())
    kind = arrow_type(shape)
    return array if array.type == kind else pa.array(array.to_pylist(), type=kind)


def arrow_type(shape: Shape) -> pa.DataType:
    """The Arrow type of a column; text where no value tells."""
    if isinstance(shape, ListOf):
        return pa.list_(arrow_type(shape.items))
    return _TYPES[shape]


_EXACT = 1 << 53
_LONG = 1 << 63

_SCALARS: Mapping[type, Scalar] = MappingProxyType(
    {
        type(None): Scalar.NOTHING,
        bool: Scalar.BOOL,
        float: Scalar.FLOAT,
        str: Scalar.TEXT,
        bytes: Scalar.BYTES,
        date: Scalar.DATE,
    }
)
_TYPES: Mapping[Scalar, pa.DataType] = MappingProxyType(
    {
        Scalar.NOTHING: pa.string(),
        Scalar.BOOL: pa.bool_(),
        Scalar.INT: pa.int64(),
        Scalar.WIDE: pa.int64(),
        Scalar.FLOAT: pa.float64(),
        Scalar.TEXT: pa.string(),
        Scalar.BYTES: pa.binary(),
        Scalar.DATE: pa.date32(),
        Scalar.TIME: pa.timestamp("us", "UTC"),
        Scalar.NAIVE: pa.timestamp("us"),
        Scalar.JSON: pa.string(),
    }
)
_TOGETHER: Mapping[frozenset[Shape], Scalar] = MappingProxyType(
    {frozenset({Scalar.INT, Scalar.FLOAT}): Scalar.FLOAT, frozenset({Scalar.INT, Scalar.WIDE}): Scalar.WIDE}
)


def _shape_of_kind(kind: type, values: Sequence[Any]) -> Shape:
    """What values of exactly one class have in common."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is int:
        low, high = min(values), max(values)
        if max(-low, high) <= _EXACT:
            return Scalar.INT
        return Scalar.WIDE if max(-low - 1, high) < _LONG else Scalar.JSON
    if kind is datetime:
        naive = {value.utcoffset() is None for value in values}
        return Scalar.JSON if len(naive) > 1 else Scalar.NAIVE if naive.pop() else Scalar.TIME
    if kind in (list, tuple):
        shape: Shape = Scalar.NOTHING
        for value in values:
            shape = joined(shape, shape_of(value))
            if shape is Scalar.JSON:
                return shape
        return ListOf(shape)
    return Scalar.JSON


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's."""
    if type(value).__module__.partition(".")[0] != "numpy" or value.dtype.kind not in "biufU":
        return value
    return value.tolist()
