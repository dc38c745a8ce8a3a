"""A value of every kind that a store keeps, and what it is to come back the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pyarrow as pa

VALUES: Mapping[str, Any] = MappingProxyType(
    {
        "none": None,
        "true": True,
        "int": 7,
        "negative int": -(2**63),
        "large int": 2**200 + 1,
        "float": 0.1,
        "nan": math.nan,
        "infinity": -math.inf,
        "negative zero": -0.0,
        "complex": 1 - 2j,
        "text": "ü 𝄞 \0 \n ' \" \\ {} %s ? $1",
        "empty text": "",
        "bytes": bytes(range(256)),
        "bytearray": bytearray(b"\0\xff"),
        "list": [1, [2.5, None], "x"],
        "tuple": (1, (2,), ()),
        "dict": {"a": 1, 2: (3,), (4, 5): {"b": [6]}, None: b"7"},
        "set": {1, "a", (2, 3)},
        "frozenset": frozenset({1, 2}),
        "range": range(1, 10, 3),
        "datetime": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        "naive datetime": datetime(2026, 2, 3, 4, 5, 6, 789),
        "datetime with an offset": datetime(2026, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "date": date(1, 1, 1),
        "time": time(23, 59, 59, 999_999),
        "timedelta": timedelta(days=-3, microseconds=1),
        "decimal": Decimal("1.10"),
        "fraction": Fraction(-1, 3),
        "uuid": UUID(int=1),
        "path": PurePosixPath("/a/b"),
        "arrow table": pa.table({"a": [1, None], "b": ["x", "y"]}),
        "arrow array": pa.array([[1], [], None]),
    }
)
"""Name -> value."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type, all the way down; NaN is NaN, and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, datetime):
        return bool(one == other and one.utcoffset() == other.utcoffset())
    if isinstance(one, (pa.Table, pa.Array)):
        return bool(one.equals(other))
    return bool(one == other)
