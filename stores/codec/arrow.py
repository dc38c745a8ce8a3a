"""Arrow data, pandas and polars as Arrow IPC streams that any Arrow reader opens.

What an Arrow stream alone would not tell (was it a table, an array, a pandas series?) stands in the schema's metadata.
Reading validates every buffer, so that damaged bytes end in `Corrupt` and not in a crash of the process.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from ..errors import Corrupt, StoreError
from .optional import require
from .scalars import Unsupported

_KIND = b"perdure.kind"
_NAME = b"perdure.name"
_COLUMN = "value"
_FREE_CELLS = 1 << 24
"""So many cells are read whatever the payload's size; above, no more than 64 for each of its bytes."""

_EXPANDING = (
    pa.types.is_run_end_encoded,
    pa.types.is_union,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)

Write = Callable[[object], bytes]
Read = Callable[[bytes], Any]


def encode_arrow(value: Any, write: Write) -> bytes | None:
    """The IPC stream of an Arrow, pandas or polars value; None if `value` is none. Raises `Unsupported`.

    `write` encodes a series' name.
    """
    try:
        return _encode(value, write)
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError) as error:
        if isinstance(error, Unsupported):
            raise
        hint = "convert its columns, or keep it as a list of dicts"
        raise Unsupported(f"Arrow cannot hold it ({error}); {hint}") from error


def _encode(value: Any, write: Write) -> bytes | None:
    kind, library = type(value), type(value).__module__.partition(".")[0]
    if library == "pyarrow":
        return _encode_pyarrow(value)
    if library == "pandas" and kind.__name__ in ("DataFrame", "Series"):
        return _encode_pandas(value, write)
    if library == "polars" and kind.__name__ in ("DataFrame", "Series"):
        return _encode_polars(value, write)
    return None


def _encode_pyarrow(value: Any) -> bytes | None:
    if type(value) is pa.Table:
        return _stream(value.schema, value.to_batches(), b"table")
    if type(value) is pa.RecordBatch:
        return _stream(value.schema, [value], b"batch")
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        schema = pa.schema([pa.field(_COLUMN, value.type)])
        chunks = value.chunks if isinstance(value, pa.ChunkedArray) else [value]
        batches = [pa.RecordBatch.from_arrays([chunk], schema=schema) for chunk in chunks]
        return _stream(schema, batches, b"chunked" if isinstance(value, pa.ChunkedArray) else b"array")
    if isinstance(value, pa.Scalar):
        array = pa.array([value], type=value.type) if value.is_valid else pa.nulls(1, value.type)
        batch = pa.RecordBatch.from_arrays([array], names=[_COLUMN])
        return _stream(batch.schema, [batch], b"scalar")
    return None


def _encode_pandas(value: Any, write: Write) -> bytes:
    pandas = require("pandas")
    if type(value) is pandas.DataFrame:
        columns = value.columns
        ranged = type(columns) is pandas.RangeIndex
        label = [columns.start, columns.stop, columns.step, columns.name] if ranged else None
        facts = [label, [place for place, dtype in enumerate(value.dtypes) if dtype == "object"]]
        payload = _stream_table(pa.Table.from_pandas(value), b"pandas.frame", write(facts))
        back = decode_arrow(payload, lambda _: facts)
        same = value.equals(back) and columns.identical(back.columns) and list(value.dtypes) == list(back.dtypes)
        same = same and all(_same_objects(value[column], back[column]) for column in columns)
    elif type(value) is pandas.Series:
        table = pa.Table.from_pandas(value.to_frame(_COLUMN))
        facts = [value.name, [0] if value.dtype == "object" else []]
        payload = _stream_table(table, b"pandas.series", write(facts))
        back = decode_arrow(payload, lambda _: facts)
        same = value.equals(back) and value.dtype == back.dtype and _same_objects(value, back)
    else:
        raise Unsupported("subclasses of pandas types are not stored; convert it to a plain DataFrame or Series")
    if same and value.index.identical(back.index) and value.attrs == back.attrs:
        return payload
    # Arrow quietly turns some columns into others (mixed numbers, exotic objects): only what comes back is kept
    raise Unsupported("it does not come back from Arrow as it was; give its columns plain types, as with astype()")


def _same_objects(series: Any, back: Any) -> bool:
    return series.dtype != "object" or [type(item) for item in series] == [type(item) for item in back]


def _encode_polars(value: Any, write: Write) -> bytes:
    polars = require("polars")
    if type(value) is polars.DataFrame:
        frame, kind = value, b"polars.frame"
    elif type(value) is polars.Series:
        frame, kind = polars.DataFrame({_COLUMN: value}), b"polars.series"
    else:
        raise Unsupported("subclasses of polars types are not stored; convert it to a plain DataFrame or Series")
    if any(dtype.base_type() is polars.Object for dtype in frame.dtypes):
        raise Unsupported("it has a column of Python objects; cast it")
    name = write(value.name) if type(value) is polars.Series else b""
    try:
        table = frame.to_arrow(compat_level=polars.CompatLevel.newest())
    except polars.exceptions.PanicException as error:
        raise Unsupported("polars cannot export it; a NUL in the name of a column is one reason") from error
    payload = _stream_table(table, kind, name)
    back = decode_arrow(payload, lambda _: value.name)
    if back.equals(value, null_equal=True) and getattr(back, "schema", None) == getattr(value, "schema", None):
        return payload
    raise Unsupported("it does not come back from Arrow as it was; cast its columns to plain types")


def _stream_table(table: pa.Table, kind: bytes, name: bytes = b"") -> bytes:
    return _stream(table.schema, table.to_batches(), kind, name)


def _stream(schema: pa.Schema, batches: list[pa.RecordBatch], kind: bytes, name: bytes = b"") -> bytes:
    metadata = {**(schema.metadata or {}), _KIND: kind, **({_NAME: name} if name else {})}
    if kind.startswith((b"pandas.", b"polars.")):
        _check_frame(schema, kind, Unsupported)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema.with_metadata(metadata)) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(metadata))
    payload = sink.getvalue().to_pybytes()
    _cells_fit(sum(_cells(column) for batch in batches for column in batch.columns), len(payload), Unsupported)
    return payload


def decode_arrow(payload: bytes | memoryview, read: Read) -> Any:
    """The value of an IPC stream, its buffers used in place where the library can. Raises `Corrupt`, `StoreMisuse`."""
    try:
        schema, batches = _read_stream(payload)
        metadata = dict(schema.metadata or {})
        kind, name = metadata.pop(_KIND, b""), metadata.pop(_NAME, b"")
        schema = schema.with_metadata(metadata) if metadata else schema.remove_metadata()
        return _build(kind, schema, batches, read(name) if name else None)
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # damaged bytes fail in any way that three libraries know
        raise Corrupt(f"stored Arrow data does not decode: {error}") from error


def _read_stream(payload: bytes | memoryview) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    buffer = pa.py_buffer(payload)
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if message.type in ("record batch", "dictionary") and _compressed(message.metadata):
            # we never write such; a tiny one could claim any amount of memory
            raise Corrupt("stored Arrow data is compressed inside, which no Perdure writes")
    reader = pa.ipc.open_stream(buffer)
    batches, cells = [], 0
    for batch in reader:
        batch.validate(full=True)
        cells += sum(map(_cells, batch.columns))
        _cells_fit(cells, len(payload), Corrupt)
        batches.append(batch)
    return reader.schema, batches


def _build(kind: bytes, schema: pa.Schema, batches: list[pa.RecordBatch], name: Any) -> Any:
    batches = [batch.replace_schema_metadata(schema.metadata) for batch in batches]
    if kind == b"table":
        return pa.Table.from_batches(batches, schema)
    if kind == b"batch":
        (batch,) = batches
        return batch
    if kind.startswith((b"pandas.", b"polars.")):
        return _build_frame(kind, pa.Table.from_batches(batches, schema), name)
    chunks = [batch.column(0) for batch in batches]
    if kind == b"chunked":
        return pa.chunked_array(chunks, type=schema.field(0).type)
    (array,) = chunks
    if kind == b"array":
        return array
    if kind == b"scalar" and len(array) == 1:
        return array[0]
    raise Corrupt(f"stored Arrow data is of unknown kind {kind[:40]!r}")


def _build_frame(kind: bytes, table: pa.Table, name: Any) -> Any:
    _check_frame(table.schema, kind, Corrupt)
    if kind.startswith(b"pandas."):
        pandas = require("pandas")
        label, objects = name
        if objects != sorted(set(objects)) or any(pa.types.is_dictionary(table.schema.types[at]) for at in objects):
            raise Corrupt("a stored pandas value is malformed")
        frame = table.to_pandas()
        for place in objects:
            # newer pandas makes its own string columns of what was one of Python objects
            items = pandas.Series(table.column(place).to_pylist(), index=frame.index, dtype=object)
            frame.isetitem(place, items)
        if kind == b"pandas.series":
            series = frame[_COLUMN]
            series.name = label
            return series
        if label is not None:
            start, stop, step, title = label
            frame.columns = pandas.RangeIndex(start, stop, step, name=title)
        return frame
    polars = require("polars")
    try:
        frame = polars.from_arrow(table)
        if frame.columns != table.column_names:  # polars gives a name to what has none
            frame.columns = table.column_names
    except polars.exceptions.PanicException as error:
        # not an Exception by its class: it would pass every handler and end the process
        raise Corrupt(f"stored Arrow data does not decode: {error}") from error
    if kind == b"polars.frame":
        return frame
    if kind == b"polars.series" and isinstance(name, str):
        return frame[_COLUMN].rename(name)
    raise Corrupt(f"stored Arrow data is of unknown kind {kind[:40]!r}")


def _check_frame(schema: pa.Schema, kind: bytes, error: type[Exception]) -> None:
    """Refuse types by which few bytes become much memory in a frame: whose cells may all refer to the same data, which
    pandas and polars then copy for each. Frames have dictionaries only as categories, and none of the others."""
    pandas = kind.startswith(b"pandas.")
    for top in schema.types:
        for each in _types(top):
            if pa.types.is_dictionary(each):
                text = pa.types.is_string(each.value_type) or pa.types.is_large_string(each.value_type)
                fits = each is top if pandas else text or pa.types.is_string_view(each.value_type)
            elif pa.types.is_string_view(each) or pa.types.is_binary_view(each):
                fits = not pandas
            else:
                fits = not any(expands(each) for expands in _EXPANDING)
            if not fits:
                raise error(f"Arrow data of type {str(top)[:200]} is not stored as that of a frame")


def _types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and all those that it is made of."""
    yield kind
    if isinstance(kind, pa.BaseExtensionType):
        yield from _types(kind.storage_type)
    elif isinstance(kind, pa.DictionaryType):
        yield from _types(kind.value_type)
    elif not isinstance(kind, pa.RunEndEncodedType):
        for index in range(kind.num_fields):
            yield from _types(kind.field(index).type)


def _cells_fit(cells: int, size: int, error: type[Exception]) -> None:
    # columns of nulls and run-end encoded ones have a length but no bytes: a few of these could claim any memory
    if cells > max(_FREE_CELLS, 64 * size):
        raise error(f"Arrow data of {size} bytes claims {cells} cells")


def _cells(array: Any) -> int:
    return len(array) + sum(map(_cells, _children(array)))


def _children(array: Any) -> Iterator[Any]:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield array.storage
    elif isinstance(array, pa.DictionaryArray):
        yield array.dictionary
    elif isinstance(array, pa.RunEndEncodedArray):
        yield array.values
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        for index in range(kind.num_fields):
            yield array.field(index)
    elif pa.types.is_nested(kind):
        yield array.values


def _compressed(metadata: pa.Buffer) -> bool:
    """Whether a message's flatbuffer sets RecordBatch.compression (field 3; a dictionary's batch is its field 1)."""
    data = metadata.to_pybytes()

    def field(table: int, slot: int) -> int:
        vtable = table - struct.unpack_from("<i", data, table)[0]
        if 4 + 2 * slot >= struct.unpack_from("<H", data, vtable)[0]:
            return 0
        offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]
        return table + offset if offset else 0

    def follow(position: int) -> int:
        return position + int(struct.unpack_from("<I", data, position)[0])

    message = follow(0)
    header = field(message, 2)
    if header == 0:
        return False
    batch = follow(header)
    if data[field(message, 1)] == 2:
        batch = follow(field(batch, 1))
    return field(batch, 3) != 0
