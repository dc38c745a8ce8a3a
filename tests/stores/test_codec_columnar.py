"""Tables and arrays: with Arrow, numpy, pandas and polars, alone and inside other values."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.stores.codec import Encoding
from tests.stores.values import ARRAYS, ARROW, BARE, FRAMES, POLARS, SCALARS, SERIES, Plain, back, same_data


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
@settings(deadline=None, max_examples=50)
def test_any_array(items: list[float], dtype: str) -> None:
    array = np.array([0 if dtype[0] in "iM" else item for item in items], dtype)
    assert same_data(array, back(array, BARE))
