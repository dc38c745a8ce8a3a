"""Segments: what goes in comes out, Arrow can read it, and no damage goes unnoticed."""

from __future__ import annotations

import os
import struct
import zlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.stores.errors import Corrupt, NewerFormat, StoreError, StoreMisuse
from perdure.stores.segment_codec import MAX_SIZE, decode_batch, decode_segment, encode_segment
from perdure.stores.segment_layouts import message, read_message, read_squeezed, squeezed
from perdure.stores.segments import SCHEMA, Kind, Row

LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.builds(
    Row,
    kind=st.integers(0, 255),
    checkpoint=LONGS,
    channel=TEXTS,
    version=LONGS,
    prev=LONGS,
    writer=TEXTS,
    encoding=st.integers(0, 255),
    payload=st.binary(max_size=300),
    namespace=TEXTS,
)
SMALL = Row(Kind.VALUE, 7, "messages", 7, 6, "agent/0", 0, b"\x81\xa1a\x01")


def sealed(flags: int, size: int, body: bytes, version: int = 2) -> bytes:
    """A segment with a right checksum around whatever is in it."""
    rest = struct.pack("<BQ", flags, size) + body
    return b"PRDS" + struct.pack("<BI", version, zlib.crc32(rest)) + rest


@given(TEXTS, st.lists(ROWS, max_size=8))
@settings(deadline=None)
def test_round_trip(thread_id: str, rows: list[Row]) -> None:
    assert decode_segment(encode_segment(thread_id, rows)) == (thread_id, tuple(rows))


@given(TEXTS, st.lists(ROWS, max_size=5))
@settings(deadline=None, max_examples=50)
def test_arrow_reads_the_same_rows(thread_id: str, rows: list[Row]) -> None:
    batch = decode_batch(encode_segment(thread_id, rows))
    assert batch.schema.equals(SCHEMA)
    assert batch.to_pylist() == [{"thread": thread_id, **row._asdict()} for row in rows]


def test_arrow_writes_what_is_read() -> None:
    columns = {**SMALL._asdict(), "thread": "t", "kind": int(SMALL.kind)}
    batch = pa.RecordBatch.from_pylist([columns], schema=SCHEMA)
    encoded = decode_batch(encode_segment("t", [SMALL]))
    assert encoded.equals(batch)
    assert encoded.nbytes == batch.nbytes


@given(TEXTS, st.lists(ROWS, max_size=8))
@settings(deadline=None, max_examples=50)
def test_both_layouts_hold_the_same(thread_id: str, rows: list[Row]) -> None:
    for columns in (
        read_message(memoryview(message(thread_id, rows))),
        read_squeezed(memoryview(squeezed(thread_id, rows))),
    ):
        assert (columns.thread, columns.rows()) == (thread_id, tuple(rows))
        assert [columns.row(index) for index in range(len(rows))] == rows


def test_a_small_row_stays_small() -> None:
    assert len(encode_segment("thread-0000-0000-0001", [SMALL])) <= 150


def test_a_memoryview_will_do() -> None:
    data = b"xx" + encode_segment("t", [SMALL])
    assert decode_segment(memoryview(data)[2:]) == ("t", (SMALL,))


@pytest.mark.parametrize("payload", [bytes(64 << 20), os.urandom(64 << 20)], ids=["zeros", "random"])
def test_64_mib(payload: bytes) -> None:
    rows = (SMALL._replace(payload=payload), SMALL)
    assert decode_segment(encode_segment("t", rows)) == ("t", rows)


@pytest.mark.parametrize("payload", [b"x", os.urandom(900)], ids=["compressed", "raw"])
def test_every_flipped_bit_is_noticed(payload: bytes) -> None:
    data = bytearray(encode_segment("thread", [SMALL._replace(payload=payload)]))
    for index in range(len(data)):
        for bit in range(8):
            data[index] ^= 1 << bit
            with pytest.raises((Corrupt, NewerFormat) if index == 4 else Corrupt):
                decode_segment(bytes(data))
            data[index] ^= 1 << bit


def test_every_cut_is_noticed() -> None:
    data = encode_segment("thread", [SMALL])
    for end in range(len(data)):
        for read in (decode_segment, decode_batch):
            with pytest.raises(Corrupt):
                read(data[:end])
    with pytest.raises(Corrupt):
        decode_segment(data + b"\0")


def test_a_newer_format_says_so() -> None:
    data = bytearray(encode_segment("thread", [SMALL]))
    data[4] = 9
    with pytest.raises(NewerFormat, match=r"format 9.*up to 2.*upgrade"):
        decode_segment(bytes(data))


def test_claimed_sizes_are_bounded() -> None:
    """A size in the header is memory that decompression would claim before it looks at the bytes."""
    for size in (2**62, MAX_SIZE, 1, 0):
        with pytest.raises(Corrupt):
            decode_segment(sealed(1, size, pa.compress(bytes(1000), "zstd", asbytes=True)))
        with pytest.raises(Corrupt):
            decode_segment(sealed(2, size, pa.compress(bytes(1000), "lz4_raw", asbytes=True)))
    for flags, version in ((3, 2), (5, 2), (8, 2), (2, 1), (4, 1)):
        with pytest.raises(Corrupt):
            decode_segment(sealed(flags, 3, b"abc", version))


@pytest.mark.parametrize("rows", [[], [SMALL], [SMALL, SMALL._replace(channel="ä", payload=bytes(5000))]])
def test_segments_of_format_1_are_read(rows: list[Row]) -> None:
    """It had Arrow's own message in every segment, as it was or packed with zstd."""
    raw = message("t", rows)
    packed = pa.compress(raw, "zstd", asbytes=True)
    for old in (sealed(0, len(raw), raw, 1), sealed(1, len(raw), packed, 1)):
        assert decode_segment(old) == ("t", tuple(rows))
        assert decode_batch(old).to_pylist() == [{"thread": "t", **row._asdict()} for row in rows]


@given(st.binary(max_size=900), st.sampled_from([0, 1, 2, 4, 6]))
@settings(deadline=None, max_examples=300)
def test_arbitrary_batches_with_a_right_checksum(body: bytes, flags: int) -> None:
    for read in (decode_segment, decode_batch):
        with pytest.raises(StoreError):
            read(sealed(flags, len(body), body))


@given(st.data(), st.sampled_from([0, 4]))
@settings(deadline=None, max_examples=400)
def test_mutated_batches_with_a_right_checksum(data: st.DataObject, flags: int) -> None:
    rows = [SMALL._replace(payload=b"p" * 20)]
    plain = bytearray(squeezed("t", rows) if flags else message("t", rows))
    for _ in range(data.draw(st.integers(1, 3))):
        plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    for read in (decode_segment, decode_batch):
        try:
            read(sealed(flags, len(plain), bytes(plain)))
        except Corrupt:
            pass


@pytest.mark.parametrize(
    "change", [{"kind": 256}, {"kind": -1}, {"version": 2**63}, {"channel": "\ud800"}, {"encoding": 300}]
)
def test_what_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(StoreMisuse, match="'my-thread'"):
        encode_segment("my-thread", [SMALL._replace(**change)])  # type: ignore[arg-type]


def test_too_large_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.stores.segment_codec.MAX_SIZE", 5000)
    with pytest.raises(StoreMisuse, match="object storage"):
        encode_segment("t", [SMALL._replace(payload=bytes(5000))])
