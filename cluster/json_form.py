"""The JSON text of any value that a state can hold. Lossy where JSON is poorer, never a `repr`, the same every time.

Tuples and sets become lists (sets in the order of their items' texts), bytes base64, dates ISO 8601, decimals, UUIDs
and paths text; instances of classes their fields, enums their member's name; tables a list of rows. Numbers that JSON
has not are text: "NaN", "Infinity", "-Infinity", and integers of over 4,000 digits in hexadecimal.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..stores.codec import Opaque

_HUGE = 13_000
"""Bits of an integer from which Python refuses to write its decimal digits."""
_INFINITIES = {math.inf: "Infinity", -math.inf: "-Infinity"}
_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


def json_text(value: Any) -> str:
    """The value as JSON, without spaces, in UTF-8 as far as that can hold its texts (else escaped)."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_simpler)
    except (TypeError, ValueError):
        # a number or a key that JSON has not; rare, so only then all of the value is looked through
        text = json.dumps(_walked(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), separators=(",", ":"))
    return text


def _walked(value: Any) -> Any:
    # loops in place of comprehensions: in Python 3.11 each of these would take a frame of its own at every level
    if isinstance(value, Mapping):
        fields = {}
        for key, item in value.items():
            fields[key if type(key) is str else _key(key)] = _walked(item)
        return fields
    if isinstance(value, (list, tuple)):
        items = []
        for item in value:
            items.append(_walked(item))
        return items
    if isinstance(value, float) and not math.isfinite(value):
        return _INFINITIES.get(value, "NaN")
    if isinstance(value, int) and value.bit_length() > _HUGE:
        return hex(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _walked(_simpler(value))


def _key(key: Any) -> str:
    """A dict's key as text: a text as it is, anything else as its JSON."""
    plain = _walked(key)
    return plain if isinstance(plain, str) else json_text(plain)


def _simpler(value: Any) -> Any:
    """A value that JSON has no form for, as one that it has, or that is nearer to it."""
    if isinstance(value, Opaque):
        return value.data
    if isinstance(value, (set, frozenset)):
        return sorted((_walked(item) for item in value), key=json_text)
    if isinstance(value, range):
        return {"start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, (complex, Fraction)):
        return str(value)
    if type(value).__module__.partition(".")[0] in _LIBRARIES:
        return _columnar(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    try:
        return to_jsonable_python(value, timedelta_mode="iso8601", inf_nan_mode="strings")
    except PydanticSerializationError:
        return str(value)  # scalars of pandas and others, whose text is their form


def _columnar(value: Any) -> Any:
    """Tables as a list of rows, arrays as a list, scalars as Python's."""
    kind = type(value).__name__
    if kind == "DataFrame":
        rows = value.to_dicts() if hasattr(value, "to_dicts") else value.to_dict("records")
        return [dict(row) for row in rows]
    unit = getattr(getattr(value, "dtype", None), "kind", "")
    if unit == "M" and hasattr(value, "astype"):
        value = value.astype(str)  # nanoseconds, which Python's dates have not
    elif unit == "m" and hasattr(value, "astype"):
        value = value.astype("timedelta64[us]")
    for name in ("as_py", "to_pylist", "tolist", "to_list"):
        if hasattr(value, name):
            found = getattr(value, name)()
            return found if type(found) is not type(value) else str(found)
    if hasattr(value, "isoformat"):
        return value.isoformat() if value == value else None  # noqa: PLR0124 — NaT differs from itself
    return None if str(value) in ("NaT", "<NA>") else str(value)
