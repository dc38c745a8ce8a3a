"""Values without parts: numbers, dates, ids, paths. Each becomes the bytes of one ext.

Decoders may raise any `ValueError`, `struct.error` and the like on bytes that are not theirs; the reader turns these
into `Corrupt`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from .encodings import Leaf

_DATETIME = struct.Struct(">HBBBBBIB")
_TIME = struct.Struct(">BBBIB")
_DATE = struct.Struct(">HBB")
_SPAN = struct.Struct(">iii")
_COMPLEX = struct.Struct(">dd")
_FRACTION_BITS = 1 << 16
"""Of numerator and denominator together: the time that reducing a fraction takes grows with their square."""
_PATHS: tuple[type[PurePath], ...] = (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)


class Unsupported(TypeError):
    """The value has no stored form; the message is the hint for the user."""


def _from_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _to_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def fraction_parts(value: Fraction) -> list[int]:
    """Numerator and denominator. Raises `Unsupported`."""
    parts = [value.numerator, value.denominator]
    if sum(part.bit_length() for part in parts) > _FRACTION_BITS:
        raise Unsupported(
            f"a fraction of more than {_FRACTION_BITS} bits is not stored; keep its two numbers in a tuple"
        )
    return parts


def to_fraction(numerator: int, denominator: int) -> Fraction:
    """The fraction again. Raises `ValueError`, `ZeroDivisionError`."""
    if numerator.bit_length() + denominator.bit_length() > _FRACTION_BITS:
        raise ValueError("a fraction too large to be reduced in time")
    return Fraction(numerator, denominator)


def _from_span(value: timedelta) -> bytes:
    return _SPAN.pack(value.days, value.seconds, value.microseconds)


def _to_span(data: bytes) -> timedelta:
    return timedelta(*_SPAN.unpack(data))


def _from_zone(zone: tzinfo | None) -> bytes:
    if zone is None:
        return b""
    if zone is UTC:
        return b"U"
    if type(zone) is timezone:
        # the pickle protocol's documented (offset[, name]); equality ignores the name, people do not
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return b"F" + _from_span(offset) + (b"" if not name else b"\0" + name[0].encode("utf-8", "surrogatepass"))
    if type(zone) is ZoneInfo and zone.key is not None:
        return b"Z" + zone.key.encode()
    raise Unsupported("its time zone has no name to store; use zoneinfo.ZoneInfo(...) or datetime.timezone")


def _to_zone(data: bytes) -> tzinfo | None:
    if data == b"":
        return None
    if data == b"U":
        return UTC
    if data[:1] == b"Z":
        return ZoneInfo(data[1:].decode())
    if data[:1] != b"F":
        raise ValueError("unknown kind of time zone")
    offset, name = _to_span(data[1:13]), data[13:]
    if not name:
        return timezone(offset)
    if name[:1] != b"\0":
        raise ValueError("malformed time zone")
    return timezone(offset, name[1:].decode("utf-8", "surrogatepass"))


def _to_known_zone(data: bytes) -> tzinfo:
    zone = _to_zone(data)
    if zone is None:
        raise ValueError("empty time zone")
    return zone


def _from_datetime(value: datetime) -> bytes:
    day = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold)
    return _DATETIME.pack(*day) + _from_zone(value.tzinfo)


def _to_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, micro, fold = _DATETIME.unpack_from(data)
    zone = _to_zone(data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _from_time(value: time) -> bytes:
    head = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return head + _from_zone(value.tzinfo)


def _to_time(data: bytes) -> time:
    hour, minute, second, micro, fold = _TIME.unpack_from(data)
    return time(hour, minute, second, micro, _to_zone(data[_TIME.size :]), fold=fold)


def _from_path(value: PurePath) -> bytes:
    return bytes([_PATHS.index(type(value))]) + str(value).encode("utf-8", "surrogatepass")


def _to_path(data: bytes) -> PurePath:
    return _PATHS[data[0]](data[1:].decode("utf-8", "surrogatepass"))


_Encode = tuple[Leaf, Callable[[Any], bytes]]

ENCODERS: Mapping[type, _Encode] = MappingProxyType(
    {
        int: (Leaf.BIG_INT, _from_int),  # the packer takes those of 64 bits itself
        complex: (Leaf.COMPLEX, lambda value: _COMPLEX.pack(value.real, value.imag)),
        datetime: (Leaf.DATETIME, _from_datetime),
        date: (Leaf.DATE, lambda value: _DATE.pack(value.year, value.month, value.day)),
        time: (Leaf.TIME, _from_time),
        timedelta: (Leaf.TIMEDELTA, _from_span),
        timezone: (Leaf.TIMEZONE, _from_zone),
        ZoneInfo: (Leaf.TIMEZONE, _from_zone),
        Decimal: (Leaf.DECIMAL, lambda value: str(value).encode()),
        UUID: (Leaf.UUID, lambda value: value.bytes),
        **dict.fromkeys(_PATHS, (Leaf.PATH, _from_path)),
    }
)
"""By exact class: the tag and the bytes of a value."""

DECODERS: Mapping[int, Callable[[bytes], Any]] = MappingProxyType(
    {
        Leaf.BIG_INT: _to_int,
        Leaf.COMPLEX: lambda data: complex(*_COMPLEX.unpack(data)),
        Leaf.BYTEARRAY: bytearray,
        Leaf.DATETIME: _to_datetime,
        Leaf.DATE: lambda data: date(*_DATE.unpack(data)),
        Leaf.TIME: _to_time,
        Leaf.TIMEDELTA: _to_span,
        Leaf.TIMEZONE: _to_known_zone,
        Leaf.DECIMAL: lambda data: Decimal(data.decode()),
        Leaf.UUID: lambda data: UUID(bytes=data),
        Leaf.PATH: _to_path,
    }
)
"""By tag: the value of some bytes."""
