"""pandas' own scalars: timestamps and spans with their unit and zone, and its two kinds of nothing."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from ..errors import Corrupt
from .optional import require
from .scalars import Unsupported


def scalar_parts(value: Any) -> list[Any]:
    """What a pandas scalar is made of. Raises `Unsupported`."""
    pandas = require("pandas")
    if value is pandas.NaT:
        return ["NaT"]
    if value is pandas.NA:
        return ["NA"]
    if type(value) is pandas.Timestamp:
        return ["timestamp", int(value.asm8.view("i8")), value.unit, value.tzinfo]
    if type(value) is pandas.Timedelta:
        return ["timedelta", int(value.asm8.view("i8")), value.unit]
    raise Unsupported("of pandas only DataFrame, Series, Timestamp, Timedelta, NaT, NA are stored; convert it to one")


def build_scalar(parts: list[Any]) -> Any:
    """The scalar again. Raises `Corrupt`, `StoreMisuse`, or what pandas says of wrong parts."""
    pandas, numpy = require("pandas"), require("numpy")
    kind, *rest = parts
    if kind == "NaT" and not rest:
        return pandas.NaT
    if kind == "NA" and not rest:
        return pandas.NA
    if kind == "timedelta":
        count, unit = rest
        return pandas.Timedelta(numpy.timedelta64(count, unit))
    if kind != "timestamp":
        raise Corrupt("a stored pandas scalar is of unknown kind")
    count, unit, zone = rest
    stamp = pandas.Timestamp(numpy.datetime64(count, unit))
    if zone is None:
        return stamp
    if not isinstance(zone, tzinfo):
        raise Corrupt("a stored pandas timestamp has no valid time zone")
    return stamp.tz_localize("UTC").tz_convert(zone)
