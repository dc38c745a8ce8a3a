"""numpy: arrays as their own buffers behind a small header, scalars as their bytes.

numpy is never imported to encode; a value of its types means that the process did.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgpack

from ..errors import Corrupt
from .optional import require
from .scalars import Unsupported

_ALIGNMENT = 64
_FREE_CELLS = 1 << 24
"""So many cells may be without a byte (as those of dtype U0 are)."""


def encode_array(array: Any) -> bytes:
    """An array's header and buffer. Raises `Unsupported`."""
    numpy = require("numpy")
    if type(array) is not numpy.ndarray:
        raise Unsupported("subclasses of numpy.ndarray are not stored; convert it with numpy.array(...)")
    if array.size > _FREE_CELLS and not array.nbytes:
        raise Unsupported(f"a numpy array of {array.size} cells without a byte in them is not stored; keep its shape")
    fortran = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
    header = msgpack.packb([_describe(array.dtype), list(array.shape), fortran])
    head = struct.pack("<I", len(header)) + header
    flat = numpy.ascontiguousarray(array.T if fortran else array).reshape(-1)
    body = flat.view(numpy.uint8) if flat.nbytes else b""
    return b"".join([head, bytes(-len(head) % _ALIGNMENT), body])


def decode_array(payload: bytes | memoryview) -> Any:
    """The array, writable as it was (so its buffer is copied once). Raises `Corrupt`, `StoreMisuse`."""
    numpy = require("numpy")
    try:
        view = memoryview(payload)
        (length,) = struct.unpack_from("<I", view)
        described, shape, fortran = msgpack.unpackb(view[4 : 4 + length])
        dtype = _dtype(described)
        start = 4 + length + -(4 + length) % _ALIGNMENT
        body = bytearray(view[start:])
        if start > len(view) or any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(body):
            raise Corrupt("a stored numpy array was cut short")
        if not dtype.itemsize and math.prod(shape) > _FREE_CELLS:
            raise Corrupt("a stored numpy array claims more cells than its bytes pay for")
        return numpy.ndarray(tuple(shape), dtype, body, order="F" if fortran else "C")
    except Corrupt:
        raise
    except Exception as error:  # numpy raises what it likes on a malformed dtype
        raise Corrupt(f"a stored numpy array does not decode: {error}") from error


def scalar_parts(value: Any) -> list[Any]:
    """A numpy scalar's type and bytes. Raises `Unsupported`."""
    numpy = require("numpy")
    if type(value) is numpy.str_:
        return ["str", str.__str__(value)]  # numpy's own would drop NULs at the end
    if type(value) is numpy.bytes_:
        return ["bytes", b"".join([value])]
    if not isinstance(value, numpy.generic):
        raise Unsupported("of numpy only arrays and scalars are stored")
    return [_describe(value.dtype), value.tobytes()]


def build_scalar(parts: list[Any]) -> Any:
    """The scalar again. Raises `Corrupt`, `StoreMisuse`, or what numpy says of wrong parts."""
    numpy = require("numpy")
    described, data = parts
    if described in ("str", "bytes"):
        if type(data) is not (str if described == "str" else bytes):
            raise Corrupt("a stored numpy text is malformed")
        return numpy.str_(data) if described == "str" else numpy.bytes_(data)
    dtype = _dtype(described)
    if dtype.itemsize != len(data):
        raise Corrupt("a stored numpy scalar was cut short")
    return numpy.ndarray((), dtype, bytearray(data))[()]


def _describe(dtype: Any) -> Any:
    """A dtype as plain data: a string, [base, shape] or {names, formats, offsets, itemsize, aligned}."""
    if dtype.hasobject:
        raise Unsupported("numpy data of dtype object is not stored; give it a plain dtype or use a list")
    described: Any
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        described = [_describe(base), list(shape)]
    elif dtype.names is None:
        described = dtype.str
    else:
        if any(len(dtype.fields[name]) > 2 for name in dtype.names):
            raise Unsupported("numpy fields with titles are not stored")
        described = {
            "names": list(dtype.names),
            "formats": [_describe(dtype.fields[name][0]) for name in dtype.names],
            "offsets": [dtype.fields[name][1] for name in dtype.names],
            "itemsize": dtype.itemsize,
            "aligned": dtype.isalignedstruct,
        }
    same = _dtype(described)
    if same != dtype or same.type is not dtype.type:
        raise Unsupported(f"numpy data of dtype {dtype} is not stored; convert it to a dtype of numpy's own")
    return described


def _dtype(described: Any) -> Any:
    numpy = require("numpy")
    if isinstance(described, str):
        dtype = numpy.dtype(described)
    elif isinstance(described, list):
        base, shape = described
        dtype = numpy.dtype((_dtype(base), tuple(shape)))
    else:
        aligned = described["aligned"] is True
        formats = [_dtype(item) for item in described["formats"]]
        plain = {key: described[key] for key in ("names", "offsets", "itemsize")}
        dtype = numpy.dtype({**plain, "formats": formats}, align=aligned)
    if dtype.hasobject:
        # such an array's buffer would be taken for pointers
        raise Corrupt("a stored numpy array claims to hold Python objects")
    return dtype
