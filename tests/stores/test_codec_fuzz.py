"""Fuzzing both ways: any value comes back equal and of the same type; any bytes end in an error of the stores or in a
value of an allowed type, in bounded time and memory, and without running code."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.stores.codec import Codec
from perdure.stores.deltas import Delta, apply_deltas, decode_delta, encode_delta
from perdure.stores.errors import Corrupt, StoreError, Unencodable
from perdure.stores.segment_codec import decode_segment, encode_segment
from perdure.stores.segments import Kind, Row
from tests.stores.hostile import TARGETS, VAULT, attempt, ipc, mutated
from tests.stores.values import BARE, CODEC, VALUES, Plain, back, same

ROOT = Path(__file__).parents[2]
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


# -- any value -----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CELLS: dict[str, tuple[st.SearchStrategy[Any], pa.DataType]] = {
    "int": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "float": (st.floats(allow_nan=False), pa.float64()),
    "bool": (st.booleans(), pa.bool_()),
    "text": (TEXT, pa.string()),
    "bytes": (st.binary(max_size=5), pa.binary()),
    "date": (st.dates(), pa.date32()),
    "time": (st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), pa.timestamp("us")),
    "span": (st.timedeltas(timedelta(-9999), timedelta(9999)), pa.duration("us")),
    "decimal": (st.integers(-(10**20), 10**20).map(lambda number: Decimal(number).scaleb(-3)), pa.decimal128(38, 3)),
    "list": (st.lists(st.integers(-9, 9), max_size=3), pa.list_(pa.int8())),
    "struct": (
        st.fixed_dictionaries({"x": st.integers(0, 9), "y": TEXT}),
        pa.struct([("x", pa.int8()), ("y", pa.string())]),
    ),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[Any], pa.DataType]:
    cells, kind = CELLS[draw(st.sampled_from(sorted(CELLS)))]
    return draw(st.lists(st.none() | cells, max_size=4)), kind


@st.composite
def arrow(draw: st.DrawFn) -> Any:
    cells, kind = draw(columns())
    array = pa.array(cells, kind)
    match draw(st.integers(0, 5)):
        case 0:
            return array
        case 1:
            return pa.chunked_array([array, array[: draw(st.integers(0, len(array)))]])
        case 2:
            return pa.table({"a": array, draw(TEXT) + "b": array}).replace_schema_metadata({"k": draw(TEXT)})
        case 3:
            return pa.RecordBatch.from_arrays([array], [draw(TEXT)])
        case 4 if kind in (pa.string(), pa.int64()):
            return array.dictionary_encode()
        case _:
            return pa.scalar(cells[0] if cells else None, kind)


@st.composite
def frames(draw: st.DrawFn) -> Any:
    """Of pandas and polars."""
    size = draw(st.integers(0, 4))
    names = draw(st.lists(TEXT, max_size=3, unique=True))
    kinds = ["int", "float", "bool", "text", "time", "span"]
    data = {}
    for name in names:
        data[name] = draw(st.lists(CELLS[draw(st.sampled_from(kinds))][0], min_size=size, max_size=size))
    match draw(st.integers(0, 4)):
        case 0:
            return pl.DataFrame({name.replace("\0", ""): cells for name, cells in data.items()}, strict=False)
        case 1:
            return pl.Series(draw(TEXT), draw(columns())[0], strict=False)
        case 2:
            return pd.DataFrame(
                data, index=draw(st.sampled_from([None, pd.Index(range(5, 5 + size), name="i")])) if data else None
            )
        case 3:
            return pd.Series(
                next(iter(data.values()), []), name=draw(st.none() | TEXT | st.integers()), dtype=None if data else "f8"
            )
        case _:
            return pd.DataFrame({name: pd.Categorical(cells) for name, cells in data.items()})


def untitled(dtype: np.dtype[Any]) -> bool:
    """Fields with titles are refused."""
    base = dtype.base
    return base.names is None or all(len(field) == 2 and untitled(field[0]) for field in (base.fields or {}).values())


NUMPY = st.one_of(
    npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0, max_side=4)),
    npst.arrays(npst.array_dtypes().filter(untitled), npst.array_shapes(max_dims=2, max_side=2)),
    npst.arrays(st.sampled_from(["f8", "i4", "U3"]), st.just((3, 4))).map(lambda array: array[::2, ::-1]),
    npst.scalar_dtypes().flatmap(npst.from_dtype),
)
ANYTHING = st.one_of(
    VALUES,
    NUMPY,
    arrow(),
    frames(),
)


def round_trip(value: Any) -> None:
    for given_ in (value, {"deep": [(value,)]}, Plain(value)):
        encoding, payload = CODEC.encode(given_)
        assert same(given_, CODEC.decode(encoding, memoryview(payload)))


@given(ANYTHING)
@settings(deadline=None, max_examples=250, suppress_health_check=SLOW)
def test_any_value_comes_back(value: Any) -> None:
    round_trip(value)


@pytest.mark.full
@given(ANYTHING)
@settings(deadline=None, max_examples=10_000, suppress_health_check=SLOW)
def test_any_value_comes_back_at_length(value: Any) -> None:
    round_trip(value)


@given(st.lists(VALUES, max_size=4), st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=SLOW)
def test_any_delta_comes_back_and_applies(items: list[Any], data: st.DataObject) -> None:
    base = data.draw(st.lists(VALUES, max_size=3))
    delta = Delta(0, items)
    copy = decode_delta(CODEC, *encode_delta(CODEC, delta))
    assert same(apply_deltas(base, [copy]), [*base, *items])


@given(st.lists(st.binary(max_size=400), max_size=4), TEXT, st.binary(min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_any_segment_comes_back_out_of_the_vault(payloads: list[bytes], thread_id: str, noise: bytes) -> None:
    rows = tuple(Row(Kind.VALUE, seq, "c", seq, 0, "", 0, each) for seq, each in enumerate(payloads, 1))
    place = ("segment", thread_id, "1", "1", "id")
    kept = VAULT.seal(place, encode_segment(thread_id, rows))
    assert decode_segment(VAULT.open(place, kept)) == (thread_id, rows)
    with pytest.raises(StoreError):
        decode_segment(VAULT.open(place, mutated(random.Random(noise), kept, noise) + b"\0"))


# -- any bytes -----------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(TARGETS)), st.binary(max_size=300))
@settings(deadline=None, max_examples=500)
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    attempt(TARGETS[name], data)


@given(st.sampled_from(sorted(TARGETS)), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=500)
def test_changed_bytes(name: str, luck: random.Random) -> None:
    seeds = TARGETS[name].seeds
    attempt(TARGETS[name], mutated(luck, luck.choice(seeds), luck.choice(seeds)))


def test_what_the_mutations_start_from_decodes() -> None:
    for name, target in TARGETS.items():
        for seed in target.seeds:
            assert attempt(target, seed) or name == "segment", name
    raw = encode_segment("t", [])
    assert attempt(TARGETS["segment"], raw[9:])


def confined(tmp_path: Path, seed: int, rounds: int) -> dict[str, int]:
    """Hostile bytes in a process that has a gigabyte and a bounded time: a bomb, a hang or a crash ends it."""
    case = tmp_path / "case"
    command = [sys.executable, "-m", "tests.stores.hostile_child", str(case), str(seed), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit {done.returncode} at {case.read_text()[:2000]}\n{done.stderr[-3000:]}"
    told: dict[str, int] = json.loads(done.stdout)
    return told


def test_hostile_bytes_cost_little(tmp_path: Path) -> None:
    told = confined(tmp_path, seed=7, rounds=8000)
    assert told["attempts"] > 8300
    assert told["decoded"] > 100, "the mutations are so wild that nothing gets past the first check"
    assert told["grown"] < 400, "MiB"


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 104))
def test_hostile_bytes_cost_little_at_length(tmp_path: Path, seed: int) -> None:
    assert confined(tmp_path, seed=seed, rounds=300_000)["grown"] < 400


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (Path(self.path), "code ran")


def test_no_code_runs(tmp_path: Path) -> None:
    """Extension types of old pyarrows were unpickled by whoever opened the stream."""
    trap, file = Trap(str(tmp_path / "ran")), tmp_path / "ran"
    assert not pickle.loads(pickle.dumps(trap)) or file.read_text() == "code ran"
    file.unlink()
    for name in ("arrow.py_extension_type", "pandas.period", "pandas.interval", "arrow.json", "arrow.opaque"):
        metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(trap)}
        field = pa.field("value", pa.int64(), metadata=metadata)
        for kind in (b"array", b"table", b"pandas.frame", b"polars.frame"):
            schema = pa.schema([field], {b"perdure.kind": kind, b"perdure.name": CODEC.encode([None, []])[1]})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_batch(pa.RecordBatch.from_arrays([pa.array([1])], schema=pa.schema([field])).cast(schema))
            attempt(TARGETS["value 1"], bytes(sink.getvalue()))
    assert not file.exists()


# -- what fuzzing found --------------------------------------------------------------------------------------------


def test_large_fractions_are_refused_both_ways() -> None:
    """Reducing one of 800 KB took most of a minute."""
    largest = Fraction(2**32_000 + 1, 2**33_000)
    assert same(back(largest, BARE), largest)
    with pytest.raises(Unencodable, match="fraction"):
        BARE.encode([Fraction(2**40_000 + 1, 2**40_000)])


def test_many_keys_are_fine_unless_they_collide() -> None:
    value = {"numbers": {index * 7919: None for index in range(50_000)}, "set": set(range(20_000)), "f": {1.5, 2}}
    assert back(value, BARE) == value


def test_cells_without_a_byte_are_bounded_both_ways() -> None:
    few, many = np.zeros(9, []), np.zeros(2**40, [])
    assert same(back(few, BARE), few)
    with pytest.raises(Unencodable, match="without a byte"):
        BARE.encode([many])
    batches = pa.chunked_array([pa.nulls(1 << 23)] * 3)
    with pytest.raises(Unencodable, match="claims"):
        BARE.encode(batches)


def test_a_frame_that_polars_cannot_export_is_refused() -> None:
    """It panics, by an exception that is none: the process ended over a NUL in the name of a column."""
    with pytest.raises(Unencodable, match="NUL"):
        BARE.encode(pl.DataFrame({"a\0b": [1]}))


@pytest.mark.parametrize(
    "value", [pl.DataFrame({"": [1]}), pa.scalar(None, pa.list_(pa.int8()))], ids=["name", "scalar"]
)
def test_values_that_did_not_come_back(value: Any) -> None:
    """polars renames a column without a name, and a null scalar of lists could not be put into an array."""
    assert same(value, back(value, BARE))


def test_a_frame_of_views_is_refused_both_ways() -> None:
    """pandas copies a text for each view of it: 180 KB became 500 MB."""
    frame = pd.DataFrame({"a": pd.Series(pa.array(["x"], pa.string_view()), dtype=pd.ArrowDtype(pa.string_view()))})
    with pytest.raises(Unencodable, match="string_view"):
        BARE.encode(frame)
    with pytest.raises(Corrupt, match="string_view"):
        Codec().decode(1, ipc(pa.array(["x"], pa.string_view()), b"pandas.frame", [None, []]))
