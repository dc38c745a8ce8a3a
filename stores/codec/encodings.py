"""The numbers that stored bytes carry. Every one of them is on disk somewhere: never reuse or renumber."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from msgpack import ExtType


class Encoding(IntEnum):
    """How a whole payload is encoded."""

    MSGPACK = 0
    """MessagePack; everything that it lacks is tagged (`Mark`, `Leaf`)."""
    ARROW_IPC = 1
    """An Arrow IPC stream: pyarrow, pandas, polars."""
    NUMPY = 2
    """A numpy array: a small header, then its buffer."""


class Mark(IntEnum):
    """Tags of composite values: an empty MessagePack ext, first item of the array that holds the parts.

    The parts are ordinary MessagePack, so that the packer's and the unpacker's own depth limits count every level.
    """

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    FRACTION = 4
    RANGE = 5
    ENUM = 6
    DATACLASS = 7
    MODEL = 8
    NAMEDTUPLE = 9
    NUMPY_SCALAR = 10
    PANDAS_SCALAR = 11


class Leaf(IntEnum):
    """Tags of values without parts: a MessagePack ext with the value's bytes."""

    BIG_INT = 32
    COMPLEX = 33
    BYTEARRAY = 34
    DATETIME = 35
    DATE = 36
    TIME = 37
    TIMEDELTA = 38
    TIMEZONE = 39
    DECIMAL = 40
    UUID = 41
    PATH = 42
    COLUMNAR = 43
    """A table or array inside another value: its payload, then one byte with its `Encoding`."""
    PICKLE = 44


class Marker(NamedTuple):
    """What a `Mark` decodes to until the array that it opens is complete."""

    mark: Mark


EXTS = MappingProxyType({mark: ExtType(mark, b"") for mark in Mark})
MARKERS = MappingProxyType({int(mark): Marker(mark) for mark in Mark})


@dataclass(frozen=True, slots=True, eq=True)
class Opaque:
    """A value whose class is not known here, shown without its code."""

    tag: str
    """The class, as `module:qualname`."""
    data: Any
    """Its fields by name, an enum member's name, or raw bytes."""

    def __hash__(self) -> int:
        # data may hold dicts; an opaque value must still serve as a key or in a set where the real one did
        return hash((self.tag, repr(self.data)))

    def __repr__(self) -> str:
        name = self.tag.partition(":")[2] or self.tag
        if isinstance(self.data, dict):
            return f"{name}({', '.join(f'{key}={value!r}' for key, value in self.data.items())})"
        if isinstance(self.data, str):
            return f"{name}.{self.data}"
        return f"{name}({self.data!r})"
