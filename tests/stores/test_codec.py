"""The codec: a value comes back equal and of the same type at every depth, or is refused; bytes never do harm."""

from __future__ import annotations

import dataclasses
import enum
import math
import os
import pickle
import random
import struct
import sys
import threading
import time as clock
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from perdure.stores.codec import Codec, Encoding, Opaque
from perdure.stores.errors import Corrupt, DisallowedType, StoreError, StoreMisuse, Unencodable

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


Pair = namedtuple("Pair", "one two")  # noqa: PYI024 — the untyped kind is stored too


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
CODEC = Codec(CLASSES)
BARE = Codec()


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types, in the same order, at every depth."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in (list, tuple) or issubclass(kind, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return same(list(one.items()), list(other.items()))
    if kind in (set, frozenset):
        return len(one) == len(other) and all(any(same(item, twin) for twin in other) for item in one)
    if kind in (float, complex):
        return struct.pack(">dd", one.real, one.imag) == struct.pack(">dd", other.real, other.imag) or one != one
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
    st.sampled_from([Path("a/b"), Path(), PurePosixPath("/x/\udcff"), PureWindowsPath(r"c:\x"), range(3), range(9, 0, -2)]),
    st.sampled_from([UTC, ZoneInfo("Europe/Paris"), timezone(timedelta(hours=1), "name")]),
)
KEYS = st.recursive(
    HASHABLE.filter(lambda value: not isinstance(value, Decimal) or not value.is_snan()),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner),
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
        st.builds(Plain, inner, inner),
        st.builds(Frozen, inner, inner),
        st.builds(Sub, inner),
        st.builds(SlotsSub, inner),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(lambda a, more: Model(a=a, more=more), inner, inner),
        st.builds(Box, inner),
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(value: Any) -> None:
    encoding, payload = CODEC.encode(value)
    assert encoding == Encoding.MSGPACK
    assert same(CODEC.decode(encoding, payload), value)
    assert same(CODEC.decode(encoding, memoryview(payload)), value)


@pytest.mark.parametrize(
    "value",
    [
        *(2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**5000, True, 0.0, -0.0, math.inf, math.nan),
        *("\ud800", {"\udcff": "\ud800"}, "", b"", bytearray(), [bytearray(b"x")], ({"a": [bytearray(b"y"), "\ud800"]},)),
        [b"\xc4", b"x" * 70_000, "\u0144" * 100, 0xC7],
        {1: 2, 1.5: 3, None: 4, (1, (2,)): 5, frozenset({1}): 6, Color.RED: 7, b"k": 8},
        {"b": 1, "a": 2},
        datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        Decimal("sNaN12"),
        Decimal("-0E+3"),
        Fraction(-1, 10**30),
        [[], (), set(), frozenset(), {}],
        Plain({"deep": [Point(1, Frozen((2,)))]}),
        GenericModel[int](item=3),
        GenericModel[Strict](item=Strict(n=1)),
        Root([1, 2]),
        Checked(4),
        Model(a=bytearray(b"z"), extra=[bytearray()]),
    ],
    ids=lambda value: repr(value)[:40] if not isinstance(value, int) else type(value).__name__,
)
def test_values_worth_naming(value: Any) -> None:
    assert same(back(value), value)


def test_the_name_of_a_zone_comes_back() -> None:
    assert back(datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET"))).tzname() == "CET"
    assert back(UTC) is UTC


def test_whatever_a_dataclass_holds_comes_back() -> None:
    value = Sub(1)
    value.total = "changed"
    copy = back(value)
    assert vars(copy) == vars(value)
    cached = FrozenSub([1])
    assert cached.twice
    assert back(cached) == cached
    assert not hasattr(back(SlotsSub(1)), "late")
    assert back(Plain(1)).total is None


def test_a_model_comes_back_whole_and_unvalidated() -> None:
    value = Model(a=1, extra=2)
    value._secret = {3}
    assert value.costly
    copy = back(value)
    assert copy == value
    assert copy.model_fields_set == value.model_fields_set == {"a", "extra"}
    assert copy.model_extra == {"extra": 2}
    assert copy._secret == {3}
    assert back(Strict.model_construct(n=-1)).n == -1


def test_objects_that_share_become_two() -> None:
    inner = [1]
    one, other = back((inner, inner))
    assert one == other == inner


# -- columnar ----------------------------------------------------------------------------------------------------

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
    pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Paris")}),
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
    pa.record_batch({"a": [[1], None, []], "s": [{"x": 1}, None, {"x": 2}]}),
    pa.array([1, 2, None]),
    pa.array([1, 2, 3])[1:],
    pa.nulls(100_000),
    pa.array([[]]),
    pa.chunked_array([[1], [], [2, 3]]),
    pa.chunked_array([], pa.int8()),
    pa.scalar(5),
    pa.scalar(None, pa.string()),
    pa.array([1, 1, 2], pa.int64()),
    pa.RunEndEncodedArray.from_arrays([3, 5], [1, 2]),
    pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
    pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
]


def same_data(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        order = (one.flags.c_contiguous, one.flags.f_contiguous) if one.flags.forc else (True, None)
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes() and (
            order[1] is None or order == (other.flags.c_contiguous, other.flags.f_contiguous)
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


@pytest.mark.parametrize(
    "value",
    [*ARRAYS, *SCALARS, *FRAMES, *SERIES, *POLARS, pl.Series("n", [1, None]), *ARROW],
    ids=lambda value: type(value).__name__,
)
def test_columnar_round_trip(value: Any) -> None:
    encoding, payload = BARE.encode(value)
    assert same_data(value, BARE.decode(encoding, memoryview(payload)))
    scalar = isinstance(value, np.generic)
    assert encoding == (0 if scalar else Encoding.NUMPY if isinstance(value, np.ndarray) else Encoding.ARROW_IPC)
    assert same_data(value, back({"deep": [(value,)]}, BARE)["deep"][0][0])
    assert same_data(value, back(Plain(value)).a)


def test_an_array_comes_back_writable_and_tables_on_their_bytes() -> None:
    array = back(np.zeros(3))
    array += 1
    encoding, payload = BARE.encode(pa.array(range(1000)))
    column = BARE.decode(encoding, payload)
    start = column.buffers()[1].address - pa.py_buffer(payload).address
    assert 0 <= start < len(payload)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2020-01-01 01:02:03.123456789", tz="Europe/Paris"),
        pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Paris"),
        pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Paris"),
        pd.Timestamp("2020-01-01").as_unit("s"),
        pd.Timestamp("2020-01-01", tz=timezone(timedelta(hours=2))),
        pd.Timedelta("1 day 3 ns"),
        pd.NaT,
        pd.NA,
    ],
)
def test_pandas_scalars(value: Any) -> None:
    copy = back([value], BARE)[0]
    assert type(copy) is type(value)
    if isinstance(value, pd.Timestamp):
        assert (copy, copy.unit, str(copy.tz), copy.fold) == (value, value.unit, str(value.tz), value.fold)
    elif isinstance(value, pd.Timedelta):
        assert (copy, copy.unit) == (value, value.unit)
    else:
        assert copy is value


@given(st.lists(st.floats(width=32)), st.sampled_from(["<f4", ">f4", "<f8", "i1", "M8[ms]"]))
@settings(max_examples=50)
def test_any_array(items: list[float], dtype: str) -> None:
    array = np.array([0 if dtype[0] in "iM" else item for item in items], dtype)
    assert same_data(array, back(array, BARE))


# -- refusals ----------------------------------------------------------------------------------------------------


class Stranger:
    pass


class MyDict(dict[str, int]):
    pass


class MyArray(np.ndarray[Any, Any]):
    pass


@dataclasses.dataclass
class Unlisted:
    a: int = 1


@dataclasses.dataclass
class Odd(dict[str, int]):
    a: int = 1


OBJECTS = np.array([Stranger()], object)


@pytest.mark.parametrize(
    ("value", "path", "hint"),
    [
        ({"a": [1, 2, 3, Plain(1, b=Stranger())]}, "['a'][3].b", "dataclass or a pydantic model"),
        (Stranger(), "", "inside the node"),
        (Stranger, "", "inside the node"),
        ([print], "[0]", "inside the node"),
        ({"k": (1, {2: Model(a=MyDict())})}, "['k'][1][2].a", r"dict\(\.\.\.\)"),
        ([OrderedDict()], "[0]", r"dict\(\.\.\.\)"),
        ([type("MyStr", (str,), {})("x")], "[0]", r"str\(\.\.\.\)"),
        ([type("MyInt", (int,), {})(1)], "[0]", r"int\(\.\.\.\)"),
        ([Unlisted()], "[0]", r"test_codec:Unlisted.*compile\(allow=\[Unlisted\]\)"),
        ({"a": Odd()}, "['a']", r"dict\(\.\.\.\)"),
        ([memoryview(b"x")], "[0]", r"bytes\(\.\.\.\)"),
        (["\u0144", {"x": (msgpack.ExtType(5, b""),)}], "[1]['x'][0]", "in a tuple"),
        ({Color: 1}, " key <EnumType>", "inside the node"),
        ([OBJECTS], "[0]", "dtype object"),
        (OBJECTS, "", "dtype object"),
        ([np.zeros(2).view(MyArray)], "[0]", "subclass|inside the node"),
        (np.ma.masked_array([1]), "", "arrays and scalars"),
        (np.array(["a"], np.dtypes.StringDType()), "", "dtype object"),
        ([pd.DataFrame({"m": [1, "x"]})], "[0]", "Arrow cannot hold it"),
        (pd.DataFrame({"m": pd.Series([1, 1.5], dtype=object)}), "", "does not come back|cannot hold"),
        ([pd.Index([1])], "[0]", "only DataFrame"),
        (pl.DataFrame({"o": pl.Series([Stranger()], dtype=pl.Object)}), "", "Python objects"),
        (pl.DataFrame({"a": [1]}).lazy(), "", "inside the node"),
        (pa.schema([]), "", "inside the node"),
        ([Strict.model_construct()], "[0]", "'n' is not set"),
        (threading.Lock(), "", "inside the node"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_refusals_tell_type_place_and_remedy(value: Any, path: str, hint: str) -> None:
    with pytest.raises(Unencodable, match=hint) as caught:
        CODEC.encode(value)
    assert caught.value.path == path
    assert caught.value.type_name.rpartition(".")[2] in str(caught.value)
    assert same(back({"still": "works"}), {"still": "works"})


def test_zones_without_a_name_are_refused() -> None:
    with open("/usr/share/zoneinfo/UTC", "rb") if os.path.exists("/usr/share/zoneinfo/UTC") else _tzdata() as file:
        zone = ZoneInfo.from_file(file)
    with pytest.raises(Unencodable, match="zoneinfo"):
        CODEC.encode([datetime(2020, 1, 1, tzinfo=zone)])


def _tzdata() -> Any:
    import importlib.resources

    return (importlib.resources.files("tzdata") / "zoneinfo" / "UTC").open("rb")


def test_a_partial_dataclass_is_refused() -> None:
    value = Plain(1)
    del value.a
    with pytest.raises(Unencodable, match="'a' is not set"):
        CODEC.encode(value)


@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"x": items[0]}, lambda items: Plain(items[0])])
def test_too_deep_is_refused(wrap: Any) -> None:
    value: Any = 1
    for _ in range(100_000):
        value = wrap([value])
    with pytest.raises(Unencodable, match="1024 levels"):
        CODEC.encode(value)
    while value != 1:  # taken apart by hand: deep structures may overflow the stack when they are let go
        value = value["x"] if type(value) is dict else value.a if type(value) is Plain else value[0]


@pytest.mark.parametrize("depth", [400, 900])
def test_deep_comes_back(depth: int) -> None:
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    copy = back(value)
    for _ in range(depth):
        (copy,) = copy
    assert copy == ()


def test_cycles_are_refused() -> None:
    items: list[Any] = [1, {}]
    items[1]["back"] = (items,)
    with pytest.raises(Unencodable, match="contains itself") as caught:
        CODEC.encode({"a": items})
    assert caught.value.path == "['a'][1]['back'][0]"
    node = Plain(1)
    node.b = [node]
    with pytest.raises(Unencodable, match="contains itself"):
        CODEC.encode(node)
    raw: list[Any] = [bytearray(b"x")]
    raw.append(raw)
    with pytest.raises(Unencodable, match="contains itself"):
        CODEC.encode(raw)


def test_two_classes_of_one_name_are_refused() -> None:
    def make() -> type:
        @dataclasses.dataclass
        class Local:
            a: int

        return Local

    with pytest.raises(StoreMisuse, match="Local"):
        Codec([make(), make()])
    local = make()
    assert back(local(1), Codec([local])) == local(1)


# -- schemas that change -----------------------------------------------------------------------------------------


def evolve(old: type, new: type) -> Any:
    """A codec for `new` under the name that `old` was stored by."""
    new.__qualname__, new.__module__ = old.__qualname__, old.__module__
    return Codec([new])


def test_a_field_with_a_default_may_be_added_and_any_removed() -> None:
    @dataclasses.dataclass
    class NewPlain:
        a: int
        added: list[int] = dataclasses.field(default_factory=list)
        other: int = 7

    assert evolve(Plain, NewPlain).decode(*CODEC.encode(Plain(1))) == NewPlain(1, [], 7)

    class NewPoint(NamedTuple):
        y: int
        z: int = 9

    assert evolve(Point, NewPoint).decode(*CODEC.encode(Point(1, 2))) == NewPoint(2, 9)

    class NewStrict(pydantic.BaseModel):
        n: int
        added: list[int] = pydantic.Field(default_factory=lambda: [1])
        _private: int = pydantic.PrivateAttr(default=4)

    copy = evolve(Strict, NewStrict).decode(*CODEC.encode(Strict(n=2)))
    assert (copy.n, copy.added) == (2, [1])


def test_a_missing_required_field_is_told() -> None:
    @dataclasses.dataclass
    class NewPlain:
        needed: int

    class NewPoint(NamedTuple):
        needed: int

    class NewStrict(pydantic.BaseModel):
        needed: int

    class NewColor(enum.Enum):
        BLUE = 1

    for old, new, value in (
        (Plain, NewPlain, Plain(1)),
        (Point, NewPoint, Point(1)),
        (Strict, NewStrict, Strict(n=1)),
    ):
        with pytest.raises(Corrupt, match=f"{old.__qualname__} has no field 'needed'"):
            evolve(old, new).decode(*CODEC.encode(value))
    with pytest.raises(Corrupt, match="no member 'RED'"):
        evolve(Color, NewColor).decode(*CODEC.encode(Color.RED))
    with pytest.raises(Corrupt, match="another kind"):
        evolve(Plain, NewColor).decode(*CODEC.encode(Plain(1)))


# -- what may be built -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [Plain(1), Point(1), Color.RED, Model(a=1), [{"x": Frozen(1)}]])
def test_only_listed_classes_are_built(value: Any) -> None:
    with pytest.raises(DisallowedType, match="allow"):
        BARE.decode(*CODEC.encode(value))


def test_a_name_is_never_imported() -> None:
    parts = [msgpack.ExtType(7, b""), "antigravity:Anything", {}, {}]
    with pytest.raises(DisallowedType, match="antigravity:Anything"):
        CODEC.decode(0, msgpack.packb(parts))
    assert "antigravity" not in sys.modules


def test_opaque() -> None:
    viewer = Codec([Point], opaque=True)
    encoded = CODEC.encode({"m": Model(a=Plain(1), x=2), "p": Point(1), Color.RED: {Frozen((1,), ())}, "t": Right.READ})
    shown = viewer.decode(*encoded)
    assert shown["p"] == Point(1)
    assert shown["m"].tag == f"{__name__}:Model"
    assert repr(shown["m"]) == "Model(a=Plain(a=1, b=2, total=None), b=5, made=[], x=2, _secret=0)"
    assert [repr(key) for key in shown] == ["'m'", "'p'", "Color.RED", "'t'"]
    assert repr(shown["t"]) == "Right(1)"
    assert shown[Opaque(f"{__name__}:Color", "RED")]
    with pytest.raises(Unencodable):
        viewer.encode(shown)
    with pytest.raises(dataclasses.FrozenInstanceError):
        shown["m"].tag = "x"


class Exploding:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was loaded",))


def test_pickle_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", pickle)
    trusting = Codec(CLASSES, pickle=True)
    value = {"a": [Stranger, Plain(OrderedDict(x=1))], "f": math.sin, "o": OBJECTS.astype(str).astype(object)}
    copy = trusting.decode(*trusting.encode(value))
    assert copy["a"] == value["a"] and copy["f"] is math.sin and copy["o"].tolist() == value["o"].tolist()
    assert trusting.encode({"n": 1}) == CODEC.encode({"n": 1})
    stored = trusting.encode([Exploding()])
    with pytest.raises(DisallowedType, match="pickle"):
        CODEC.decode(*stored)
    assert repr(Codec(opaque=True).decode(*stored)).startswith("[pickle(b")
    with pytest.raises(Unencodable, match="cannot be pickled either"):
        trusting.encode([threading.Lock()])
    with pytest.raises(Corrupt):
        trusting.decode(0, msgpack.packb(msgpack.ExtType(44, b"not a pickle")))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, array = BARE.encode(pl.DataFrame({"a": [1]})), BARE.encode([np.zeros(1)])
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(StoreMisuse, match="pip install polars"):
        BARE.decode(*arrow)
    with pytest.raises(StoreMisuse, match="pip install numpy"):
        BARE.decode(*array)
    with pytest.raises(StoreMisuse, match="pip install cloudpickle"):
        Codec(pickle=True).encode(print)


# -- damaged and hostile bytes -----------------------------------------------------------------------------------


def attempt(encoding: int, payload: bytes) -> None:
    for codec in (CODEC, Codec(opaque=True)):
        try:
            value = codec.decode(encoding, payload)
        except (Corrupt, DisallowedType):
            continue
        assert "Marker(" not in _shown(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:10_000]
    except Exception:
        return ""


@given(st.sampled_from([*Encoding, 9]), st.binary(max_size=200))
@settings(max_examples=500)
@example(0, b"\xc7\x00\x01")
@example(0, b"\x92\x01\xc7\x00\x01")
@example(0, b"\x92\xc7\x00\x01\xc7\x00\x02")
@example(0, b"\x81\xc7\x00\x01\x01")
def test_arbitrary_bytes(encoding: int, payload: bytes) -> None:
    attempt(encoding, payload)


LEAVES = st.builds(lambda code, data: msgpack.ExtType(code, data), st.integers(0, 46), st.binary(max_size=20))
MARKS = st.integers(1, 11).map(lambda code: msgpack.ExtType(code, b""))
NAMES = st.sampled_from([f"{cls.__module__}:{cls.__qualname__}" for cls in CLASSES])
TREES = st.recursive(
    st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=4), st.binary(max_size=9), LEAVES, MARKS, NAMES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(MARKS, inner, inner).map(list),
        st.tuples(MARKS, NAMES, st.dictionaries(st.sampled_from(["a", "b", "n", "x", "__class__", "__dict__"]), inner)).map(list),
        st.tuples(MARKS, NAMES, st.dictionaries(st.text(max_size=2), inner), inner, inner, inner).map(list),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=10,
)


@given(TREES)
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_well_formed_nonsense(tree: Any) -> None:
    attempt(0, msgpack.packb(tree))


RICH = {
    "a": [Plain(Point(1, {2, 3})), Model(a=Color.RED, x=Right.READ), Frozen(Decimal("1.5"))],
    "t": datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
    "u": UUID(int=5),
    "n": np.arange(4),
    "s": np.float32(1),
    "p": pa.array([1, 2]),
}


@pytest.fixture(scope="module")
def seeds() -> list[tuple[int, bytes]]:
    return [CODEC.encode(value) for value in (RICH, *ARRAYS, *FRAMES, *SERIES, *POLARS, *ARROW)]


def test_mutated_bytes(seeds: list[tuple[int, bytes]]) -> None:
    """Every kind of payload with bytes changed, cut out or doubled; Arrow's own buffers among them."""
    luck = random.Random(7)
    end = clock.monotonic() + 8
    rounds = 0
    while clock.monotonic() < end and rounds < 6000:
        rounds += 1
        encoding, payload = luck.choice(seeds)
        data = bytearray(payload)
        for _ in range(luck.randint(1, 4)):
            at = luck.randrange(len(data) or 1)
            what = luck.random()
            if what < 0.6 and data:
                data[at] = luck.choice([0, 1, 0x7F, 0x80, 0xFF, luck.randrange(256)])
            elif what < 0.8:
                del data[at : at + luck.randint(1, 16)]
            else:
                data[at:at] = data[at : at + luck.randint(1, 16)]
        attempt(encoding, bytes(data))
    assert rounds > 200


def test_cut_short(seeds: list[tuple[int, bytes]]) -> None:
    for encoding, payload in seeds[:4]:
        for end in range(0, len(payload), 1 + len(payload) // 300):
            with pytest.raises(Corrupt):
                CODEC.decode(encoding, payload[:end])
    with pytest.raises(Corrupt):
        CODEC.decode(0, CODEC.encode(RICH)[1] + b"\0")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\x7f\xff\xff\xff" * 1000,
        b"\xdd\x00\x0f\xff\xff" * 200_000,
        b"\xdf\x7f\xff\xff\xff" * 1000,
        b"\x91" * 5_000_000,
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x92" * 900 + b"\x01" * 10,
    ],
    ids=["arrays", "many arrays", "maps", "deep", "str", "ext", "short"],
)
def test_announced_sizes_claim_no_memory(payload: bytes) -> None:
    start = clock.monotonic()
    with pytest.raises(Corrupt):
        CODEC.decode(0, payload)
    assert clock.monotonic() - start < 2


def ipc(batch: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_compressed_arrow_bodies_are_refused() -> None:
    """A hundred bytes of zstd could become any number of gigabytes."""
    kind = {"perdure.kind": "batch"}
    batch = pa.record_batch({"a": np.zeros(100_000)}).replace_schema_metadata(kind)
    assert isinstance(CODEC.decode(1, ipc(batch)), pa.RecordBatch)
    words = pa.record_batch({"a": pa.array(["x" * 1000] * 9).dictionary_encode()}).replace_schema_metadata(kind)
    for each in (batch, words):
        with pytest.raises(Corrupt, match="compressed"):
            CODEC.decode(1, ipc(each, compression="zstd"))


def test_rows_without_bytes_are_bounded() -> None:
    nulls = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])
    for array in (
        nulls,
        pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1]), pa.array([1])),
        pa.StructArray.from_arrays([nulls], ["x"]),
    ):
        with pytest.raises(Unencodable, match="claims"):
            CODEC.encode([array])
        batch = pa.record_batch({"value": array}).replace_schema_metadata({"perdure.kind": "array"})
        with pytest.raises(Corrupt, match="claims"):
            CODEC.decode(1, ipc(batch))


def test_an_array_of_pointers_is_never_made() -> None:
    for described in ("O", [["O"], [2]], {"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 8, "aligned": False}):
        header = msgpack.packb([described, [1], False])
        payload = struct.pack("<I", len(header)) + header
        payload += bytes(-len(payload) % 64) + b"A" * 8
        with pytest.raises(Corrupt):
            CODEC.decode(Encoding.NUMPY, payload)


# -- use ---------------------------------------------------------------------------------------------------------


def test_many_threads_share_a_codec() -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        for step in range(300):
            value = {"n": number, "s": [step, (uuid4(), Plain(step))]}
            if not same(back(value), value):
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_codec_can_be_sent() -> None:
    copy = pickle.loads(pickle.dumps(CODEC))
    assert same(copy.decode(*CODEC.encode(Plain(1))), Plain(1))


def test_small_values_take_a_microsecond() -> None:
    for value in ({"n": 1}, "text", 5):
        best = math.inf
        for _ in range(5):
            start = clock.perf_counter()
            for _ in range(2000):
                BARE.encode(value)
            best = min(best, (clock.perf_counter() - start) / 2000)
        assert best < 5e-6, f"{value!r} took {best * 1e6:.2f} us"  # 0.4-0.7 us; the slack is for busy machines
