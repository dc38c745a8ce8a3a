"""Classes, strategies and data that the tests of the codec share, and what it is to come back the same."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
from hypothesis import strategies as st

from perdure.stores.codec import Codec

T = TypeVar("T")


class Color(enum.Enum):
    RED = "r"
    GREEN = (1, 2)


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Plain:
    a: Any
    b: Any = 2
    total: Any = dataclasses.field(init=False, default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    items: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class FrozenSub:
    a: Any

    @cached_property
    def twice(self) -> list[Any]:
        return [self.a, self.a]


@dataclasses.dataclass
class Sub(Plain):
    c: Any = 3

    def __post_init__(self) -> None:
        self.total = [self.a]
        self.extra_attribute = "set in __post_init__"


@dataclasses.dataclass(slots=True)
class SlotsSub:
    a: Any
    late: Any = dataclasses.field(init=False)


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "one two")


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    a: Any
    b: Any = 5
    made: list[Any] = pydantic.Field(default_factory=list)
    _secret: Any = pydantic.PrivateAttr(default=0)
    _unset: Any = pydantic.PrivateAttr()

    @cached_property
    def costly(self) -> int:
        return 1


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def never(cls, value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value


class GenericModel(pydantic.BaseModel, Generic[T]):
    item: T


class Root(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    n: int


CLASSES = (
    *(Color, Word, Level, Right, Plain, Frozen, FrozenSub, Sub, SlotsSub, Box, Point, Pair),
    *(Model, Strict, GenericModel, GenericModel[int], GenericModel[Strict], Root, Checked),
)
LOOSE: Any = Model
CODEC = Codec(CLASSES)
BARE = Codec()


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types, in the same order, at every depth."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind.__module__.partition(".")[0] in ("numpy", "pandas", "polars", "pyarrow"):
        return bool(same_data(one, other))
    if kind in (list, tuple) or issubclass(kind, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return same(list(one.items()), list(other.items()))
    if kind in (set, frozenset):
        return len(one) == len(other) and all(any(same(item, twin) for twin in other) for item in one)
    if kind in (float, complex):
        return repr(one) == repr(other)
    if kind is Decimal:
        return bool(one.compare_total(other) == 0)
    if kind in (datetime, time):
        zones = type(one.tzinfo) is type(other.tzinfo) and one.tzinfo == other.tzinfo
        return repr(one) == repr(other) and one.fold == other.fold and zones
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name, ...), getattr(other, f.name, ...)) for f in dataclasses.fields(one))
    if isinstance(one, pydantic.BaseModel):
        return all(
            same(getattr(one, name), getattr(other, name))
            for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
        )
    return bool(one == other)


def back(value: Any, codec: Codec = CODEC) -> Any:
    return codec.decode(*codec.encode(value))


TIMEZONES = st.one_of(
    st.none(),
    st.just(UTC),
    st.timezones(),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
    st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=4)),
)
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(max_size=10),
    st.text(st.characters(), max_size=4),
    st.binary(max_size=10),
    st.complex_numbers(),
    st.datetimes(timezones=TIMEZONES),
    st.dates(),
    st.builds(time, st.integers(0, 23), st.integers(0, 59), tzinfo=TIMEZONES, fold=st.integers(0, 1)),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.sampled_from([*Color, *Word, *Level, Right(0), *Right, Right.READ | Right.WRITE]),
    st.sampled_from([Path("a/b"), Path(), PurePosixPath("/x/\udcff"), PureWindowsPath(r"c:\x")]),
    st.sampled_from([range(3), range(9, 0, -2)]),
    st.sampled_from([UTC, ZoneInfo("Europe/Paris"), timezone(timedelta(hours=1), "name")]),
)
KEYS = st.recursive(
    HASHABLE.filter(lambda value: not isinstance(value, Decimal) or not value.is_snan()),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        inner.map(Point),
    ),
    max_leaves=3,
)
VALUES = st.recursive(
    st.one_of(HASHABLE, st.binary(max_size=5).map(bytearray)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(KEYS, max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
        st.tuples(inner, inner).map(lambda pair: Plain(*pair)),
        st.tuples(inner, inner).map(lambda pair: Frozen(*pair)),
        inner.map(Sub),
        inner.map(SlotsSub),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
        st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
        st.tuples(inner, inner).map(lambda pair: LOOSE(a=pair[0], more=pair[1])),
        inner.map(Box),
    ),
    max_leaves=12,
)


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::2],
    np.zeros(()),
    np.zeros((0, 3), "f4"),
    np.array(["a", "bcd"]),
    np.array([b"x", b""]),
    np.array(["2020", "NaT"], "M8[us]"),
    np.array([1], "m8[s]"),
    np.array([1, 2], ">i4"),
    np.array([True, False]),
    np.array([1 + 2j], "c8"),
    np.zeros(2, "V3"),
    np.zeros(2, "U0"),
    np.array([(1, [2.0, 3.0])], [("a", "i2"), ("b", "f8", (2,))]),
    np.zeros(2, np.dtype({"names": ["x"], "formats": ["i2"], "offsets": [4], "itemsize": 16})),
    np.zeros(1, np.dtype([("a", "i1"), ("b", "i8")], align=True)),
]
SCALARS = [
    *(np.float64(1.5), np.float32("nan"), np.int8(-1), np.bool_(True), np.uint64(2**64 - 1), np.complex64(1j)),
    *(np.str_("a\0"), np.bytes_(b"a\0"), np.datetime64("2020-01-01", "ns"), np.timedelta64("NaT"), np.float16(2)),
    np.array([(1, 2.0)], [("a", "i2"), ("b", "f8")])[0],
]
FRAMES = [
    pd.DataFrame({"a": [1, 2], "s": ["x", None], "f": [1.5, math.nan]}),
    pd.DataFrame(np.eye(2)),
    pd.DataFrame(),
    pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "NaT"]).tz_localize("Europe/Paris")}),
    pd.DataFrame({"c": pd.Categorical(["a", "b"], categories=["b", "a"], ordered=True)}, index=["x", "y"]),
    pd.DataFrame({("a", 1): [1], ("b", 2): [2]}, index=pd.MultiIndex.from_tuples([("k", 1)], names=["p", None])),
    pd.DataFrame({"I": pd.array([1, None], "Int64"), "o": pd.Series(["a", "b"], dtype=object)}),
]
SERIES = [pd.Series([1, 2], name=("n", 1)), pd.Series(["a", None]), pd.Series([], dtype="f8", name=3)]
POLARS = [
    pl.DataFrame({"a": [1, None], "s": ["x", "y"], "l": [[1], []], "d": [date(2020, 1, 1), None], "n": [None, None]}),
    pl.DataFrame({"e": pl.Series(["a"], dtype=pl.Enum(["a", "b"])), "c": pl.Series(["x"], dtype=pl.Categorical)}),
    pl.DataFrame({"st": [{"q": 1}], "t": [datetime(2020, 1, 1, tzinfo=UTC)], "b": [b"x"]}),
    pl.DataFrame(),
]
ARROW = [
    pa.table({"a": [1, None], "s": pa.array(["x", "y"]).dictionary_encode()}).replace_schema_metadata({"mine": "1"}),
    pa.table({}),
    pa.Table.from_batches([pa.record_batch({"a": [1]}), pa.record_batch({"a": [2, 3]})]),
    pa.RecordBatch.from_pylist([{"a": [1], "s": {"x": 1}}, {"a": None, "s": None}, {"a": [], "s": {"x": 2}}]),
    pa.array([1, 2, None]),
    pa.array([1, 2, 3])[1:],
    pa.nulls(100_000),
    pa.array([[]]),
    pa.chunked_array([[1], [], [2, 3]]),
    pa.chunked_array([], pa.int8()),
    pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]),
    pa.scalar(5),
    pa.scalar(None, pa.string()),
    pa.array([1, 1, 2], pa.int64()),
    pa.RunEndEncodedArray.from_arrays(pa.array([3, 5], pa.int64()), pa.array([1, 2])),
    pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
]


def same_data(one: Any, other: Any) -> Any:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        order = (one.flags.c_contiguous, one.flags.f_contiguous) if one.flags.forc else (True, None)
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
            and (order[1] is None or order == (other.flags.c_contiguous, other.flags.f_contiguous))
        )
    if isinstance(one, str):
        return str.__eq__(one, other)
    if isinstance(one, bytes):
        return bytes.__eq__(one, other)
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        return type(one.columns) is type(other.columns)
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
        return True
    if isinstance(one, pl.DataFrame):
        return one.equals(other) and one.schema == other.schema
    if isinstance(one, pl.Series):
        return one.equals(other, check_dtypes=True, check_names=True)
    if isinstance(one, pa.Table):
        return one.equals(other, check_metadata=True)
    if isinstance(one, pa.ChunkedArray):
        return one.type == other.type and one.chunks == other.chunks
    return bool(one.equals(other))
