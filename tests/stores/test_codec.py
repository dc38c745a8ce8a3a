"""The codec: a value comes back equal and of the same type at every depth, or is refused with the remedy."""

from __future__ import annotations

import dataclasses
import enum
import importlib.resources
import math
import os
import pickle
import sys
import threading
import time as clock
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings

from perdure.stores.codec import Codec, Encoding, Opaque
from perdure.stores.errors import Corrupt, DisallowedType, StoreMisuse, Unencodable
from tests.stores.values import (
    BARE,
    CLASSES,
    CODEC,
    LOOSE,
    VALUES,
    Checked,
    Color,
    Frozen,
    FrozenSub,
    GenericModel,
    Model,
    Plain,
    Point,
    Right,
    Root,
    SlotsSub,
    Strict,
    Sub,
    back,
    same,
)


@given(VALUES)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(value: Any) -> None:
    encoding, payload = CODEC.encode(value)
    assert encoding == Encoding.MSGPACK
    assert same(CODEC.decode(encoding, payload), value)
    assert same(CODEC.decode(encoding, memoryview(payload)), value)


@pytest.mark.parametrize(
    "value",
    [
        *(2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**5000, True, 0.0, -0.0, math.inf, math.nan),
        *(
            "\ud800",
            {"\udcff": "\ud800"},
            "",
            b"",
            bytearray(),
            [bytearray(b"x")],
            ({"a": [bytearray(b"y"), "\ud800"]},),
        ),
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
        LOOSE(a=bytearray(b"z"), extra=[bytearray()]),
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
    value = LOOSE(a=1, extra=2)
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
    assert (copy.n, copy.added, copy._private) == (2, [1], 4)


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
    encoded = CODEC.encode({"m": LOOSE(a=Plain(1), x=2), "p": Point(1), Color.RED: {Frozen((1,), ())}, "t": Right.READ})
    shown = viewer.decode(*encoded)
    assert shown["p"] == Point(1)
    assert shown["m"].tag == f"{Model.__module__}:Model"
    assert repr(shown["m"]) == "Model(a=Plain(a=1, b=2), b=5, made=[], x=2, _secret=0)"
    assert [repr(key) for key in shown] == ["'m'", "'p'", "Color.RED", "'t'"]
    assert repr(shown["t"]) == "Right(1)"
    assert shown[Opaque(f"{Color.__module__}:Color", "RED")]
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
    value: dict[str, Any] = {
        "a": [Stranger, Plain(OrderedDict(x=1))],
        "f": math.sin,
        "o": OBJECTS.astype(str).astype(object),
    }
    copy = trusting.decode(*trusting.encode(value))
    assert copy["a"] == value["a"]
    assert copy["f"] is math.sin
    assert copy["o"].tolist() == value["o"].tolist()
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
