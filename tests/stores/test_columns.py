"""Rows as columns: what makes up a channel is found as it would be row by row, and many deltas decode as one would."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.stores.chains import Key, base_of, by_version
from perdure.stores.codec import Codec
from perdure.stores.columns import MANY, Rows, columns_of, size_of
from perdure.stores.deltas import Delta, apply_deltas, apply_stored, decode_delta, encode_delta
from perdure.stores.errors import Corrupt, DisallowedType, StoreError
from perdure.stores.records import Segment
from perdure.stores.segment_codec import decode_segment, encode_segment
from perdure.stores.segment_layouts import _BUFFERS, _MESSAGE, message, read_message
from perdure.stores.segment_reading import Tracing
from perdure.stores.segments import Kind, Row
from perdure.stores.strands import Chain, Strand, chain_of, joined, settled, strand_of

CODEC = Codec()


def history(dice: random.Random, *, large: bool = False) -> list[Row]:
    """Rows of some commits as they may be in one segment: several channels and writers, branches that were left. Large
    ones are laid out in another way than small ones."""
    rows: list[Row] = []
    versions: dict[str, list[int]] = {"a": [0], "b": [0], "ä": [0], "": [0]}
    for seq in range(1, dice.randint(2, 40)):
        for channel, known in versions.items():
            if dice.random() < 0.4:
                continue
            # Mostly the newest is changed, sometimes the thread had gone back to an older one.
            base = known[-1] if dice.random() < 0.8 else dice.choice(known)
            kinds = [Kind.DELTA] * dice.randint(1, 3) if base and dice.random() < 0.8 else [Kind.VALUE]
            if kinds[0] == Kind.DELTA and dice.random() < 0.2:
                kinds.append(dice.choice([Kind.SNAPSHOT, Kind.DELTA]))
            for number, kind in enumerate(kinds):
                payload = dice.randbytes(dice.randint(0, 2000 if large else 20))
                rows.append(Row(kind, seq, channel, seq, base, f"n{number}", 0, payload))
            known.append(seq)
        rows.append(Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, b"control"))
        if dice.random() < 0.3:
            rows.append(Row(Kind.RESULT, seq, "a", seq, 0, "a", 0, b"result"))
            rows.append(Row(Kind.VALUE, seq, "a", seq, 0, "a", 0, b"another's", "sub"))
    return rows


def expected(groups: dict[Key, list[Row]], channel: str, version: int) -> list[Row]:
    """Group by group."""
    found: list[Row] = []
    while group := groups.get((channel, version)):
        found[:0] = group
        version = base_of(group)
    return found


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_a_strand_is_what_following_row_by_row_finds(seed: int, large: bool) -> None:
    written = history(random.Random(seed), large=large)
    _, rows = decode_segment(encode_segment("t", written))
    groups = by_version(written)
    for channel in ("a", "b", "ä", "", "none"):
        for version in range(42):
            wanted = expected(groups, channel, version)
            strand = strand_of(rows, channel, version)
            if strand is None:
                assert wanted == [], (channel, version)
                continue
            found = Chain([strand])
            assert found == wanted, (channel, version)
            assert Rows(joined([strand])) == wanted
            assert strand.base == base_of(wanted)
            for older in {row.version for row in wanted}:
                assert found.upto(older) == [row for row in wanted if row.version <= older]
            assert found.upto(version + 1) is None


def test_strands_of_several_segments_are_put_together() -> None:
    rows = [Row(Kind.DELTA, seq, "ä", seq, seq - 1, f"w{seq}", 0, bytes([seq])) for seq in range(1, 9)]
    parts = [columns_of(rows[:3]), columns_of(Rows(columns_of(rows[3:4]))), columns_of(rows[4:])]
    assert Rows(joined(Strand(part, range(part.length)) for part in parts)) == rows
    assert joined([]).length == 0
    assert Rows(columns_of([])) == ()


def grown(first: int, last: int, *, size: int, beside: int = 0) -> Sequence[Row]:
    """A segment in which a channel grows, from version `first` to `last`; `beside` bytes of another with each."""
    rows: list[Row] = []
    for seq in range(first, last + 1):
        rows.append(Row(Kind.DELTA if seq > 1 else Kind.VALUE, seq, "grows", seq, seq - 1, "w", 0, bytes([seq]) * size))
        rows.append(Row(Kind.VALUE, seq, "other", seq, seq - 1, "w", 0, b"o" * beside))
    return decode_segment(encode_segment("t", rows))[1]


def test_a_chain_leaves_rows_where_they_are_most_of_their_segment_and_copies_others() -> None:
    segments = [
        grown(1, 9, size=10),
        grown(10, 99, size=900),
        grown(100, 120, size=100, beside=9000),
        grown(121, 130, size=5),
    ]
    ends = (9, 99, 120, 130)
    strands = [strand_of(rows, "grows", end) for rows, end in zip(segments, ends, strict=True)]
    found = settled([strand for strand in strands if strand is not None])
    wanted = [row for rows in segments for row in rows if row.channel == "grows"]
    assert found == wanted
    assert [len(strand.places) for strand in found.strands] == [9, 90, 31]
    assert columns_of(segments[1]) is found.strands[1].columns
    assert found.size < 2 * sum(len(row.payload) + 64 for row in wanted), "nothing large is kept for little"
    assert (len(found), found.base) == (130, 0)
    assert list(found.lengths()) == [len(row.payload) for row in wanted]
    for start in (0, 1):
        portions = list(found.portions(start))
        assert b"".join(encodings for encodings, _ in portions) == bytes(130 - start)
        payloads = [bytes(payload) for _, payloads in portions for payload in payloads]
        assert payloads == [row.payload for row in wanted[start:]]
    assert [found[place] for place in (0, 8, 9, 98, 99, 129, -1)] == [wanted[n] for n in (0, 8, 9, 98, 99, 129, 129)]
    with pytest.raises(IndexError):
        settled(found.strands)[130]
    for version in (1, 9, 10, 60, 99, 100, 130):
        assert found.upto(version) == wanted[:version]
    assert (found.upto(0), found.upto(131), chain_of(found)) == (None, None, found)
    assert chain_of(wanted) == found
    assert chain_of([]).strands == ()


def test_a_chain_is_decoded_in_portions_of_about_one_size_however_large_its_first_value_is() -> None:
    rows = [Row(Kind.VALUE, 1, "c", 1, 0, "w", 0, b"v" * 3_000_000)]
    rows += [Row(Kind.DELTA, seq, "c", seq, seq - 1, "w", 0, b"d" * 100) for seq in range(2, 3000)]
    strand = strand_of(decode_segment(encode_segment("t", rows))[1], "c", 2999)
    assert strand is not None
    portions = list(Chain([strand]).portions(1))
    assert sum(len(payloads) for _, payloads in portions) == 2998
    assert len(portions) == 5
    assert len(Chain([strand]).oldest.payload) == 3_000_000


def test_no_segment_is_kept_for_a_few_of_its_rows_and_what_is_kept_is_counted() -> None:
    sparse = [Row(Kind.CHECKPOINT, seq, "", seq, 0, "", 0, b"") for seq in range(1, 1001)]
    large = Row(Kind.VALUE, 1000, "c", 1000, 0, "w", 0, b"v" * 40_000)
    strand = strand_of(decode_segment(encode_segment("t", [*sparse, large]))[1], "c", 1000)
    assert strand is not None
    assert strand.columns.length == 1001
    found = settled([strand])
    assert found.strands[0].columns.length == 1, "forty bytes for each of the others would be kept"
    assert 40_000 < found.size < 41_000
    dense = grown(1, 90, size=900)
    strand = strand_of(dense, "grows", 90)
    assert strand is not None
    assert settled([strand]).size == size_of(dense), "all of the segment stays in memory"


@pytest.mark.parametrize("prev", [7, 8, 40])
@pytest.mark.parametrize("writers", [1, 2])
def test_a_damaged_link_is_no_way_in_circles(prev: int, writers: int) -> None:
    rows = [Row(Kind.VALUE, 1, "c", 1, 0, "w", 0, b"v")]
    for seq in range(2, 10):
        link = prev if seq == 7 else seq - 1
        rows += [Row(Kind.DELTA, seq, "c", seq, link, f"w{number}", 0, b"d") for number in range(writers)]
    segment = Segment(thread_id="t", first=1, last=9, epoch=1, commit_id="c", rows=rows)
    tracing = Tracing({"c": 9})
    with pytest.raises(Corrupt, match="changes version"):
        tracing.follow([segment])


@pytest.mark.parametrize("offset", [-1, 0, 1 << 20, 1 << 30])
@pytest.mark.parametrize("buffer", [1, 4, 9, 18, 23])
def test_of_many_rows_too_each_has_to_begin_where_the_one_before_it_ends(buffer: int, offset: int) -> None:
    rows = [Row(Kind.VALUE, seq, f"c{seq}", seq, 0, f"w{seq}", 0, b"p" * 300, f"n{seq}") for seq in range(1, MANY + 9)]
    whole = bytearray(message("thread", rows))
    assert read_message(memoryview(whole)).rows() == tuple(rows)
    start = _MESSAGE.size + _MESSAGE.unpack_from(whole)[-2 * _BUFFERS :][2 * buffer]
    struct.pack_into("<i", whole, start + 4 * 40, offset)
    with pytest.raises(ValueError, match=r"row|column|[oO]ffset"):
        read_message(memoryview(whole))


def test_of_many_rows_too_a_column_has_as_many_as_the_others() -> None:
    rows = [Row(Kind.VALUE, seq, "c", seq, 0, "w", 0, b"p" * 300) for seq in range(1, MANY + 9)]
    for buffer in (1, 7, 12, 14, 23):
        whole = bytearray(message("thread", rows))
        fields = list(_MESSAGE.unpack_from(whole))
        fields[len(fields) - 2 * _BUFFERS + 2 * buffer + 1] -= 8
        _MESSAGE.pack_into(whole, 0, *fields)
        with pytest.raises(ValueError, match=r"row|column|[oO]ffset"):
            read_message(memoryview(whole))


def test_more_names_than_a_byte_tells_apart() -> None:
    rows = [Row(Kind.VALUE, seq, f"c{seq}", seq, 0, "w", 0, b"p" * 300) for seq in range(1, 400)]
    _, found = decode_segment(encode_segment("t", rows))
    for seq in (1, 255, 256, 399):
        strand = strand_of(found, f"c{seq}", seq)
        assert strand is not None
        assert Chain([strand]) == [rows[seq - 1]]
    assert strand_of(found, "c400", 400) is None


def test_rows_are_those_of_a_tuple() -> None:
    rows = tuple(Row(Kind.VALUE, seq, "c", seq, 0, "", 0, b"x" * seq) for seq in range(1, 5))
    lazy = Rows(columns_of(rows))
    assert (lazy[-1], lazy[1:3], len(lazy), hash(lazy)) == (rows[-1], rows[1:3], 4, hash(rows))
    with pytest.raises(IndexError):
        Rows(columns_of(rows))[4]
    assert lazy == rows
    assert rows == lazy
    assert lazy != rows[:-1]
    assert lazy.__reduce__() == (tuple, (rows,))


# -- many deltas at once -------------------------------------------------------------------------------------------

VALUES: list[Any] = [[1], ["x", (1, 2)], [{"a": {3}}], [b"\xc7\x00"], ["\u00c7\x00"], [[]], [None] * 40, ["y" * 5000]]


@pytest.mark.parametrize("count", [1, 3, 8, 400, 9000])
def test_many_deltas_decode_as_one_by_one(count: int) -> None:
    dice = random.Random(count)
    encoded = [encode_delta(CODEC, Delta(0, dice.choice(VALUES[: 7 if count > 400 else None]))) for _ in range(count)]
    wanted = apply_deltas(["first"], [decode_delta(CODEC, *each) for each in encoded])
    payloads = [payload for _, payload in encoded]
    found = apply_stored(CODEC, ["first"], [(bytes(count), payloads)])
    assert found == wanted
    assert [type(item) for item in found] == [type(item) for item in wanted]
    views = [memoryview(each) for each in payloads]
    split = [(bytes(len(views[start : start + 7])), views[start : start + 7]) for start in range(0, count, 7)]
    assert apply_stored(CODEC, ["first"], split) == wanted


def test_other_operations_among_many() -> None:
    deltas = [Delta(0, [1, 2]), Delta(5, [[(0, "new")], [1], ["end"]]), Delta(0, [3]), Delta(0, []), Delta(0, [4])]
    payloads = [encode_delta(CODEC, each)[1] for each in deltas]
    for many in (1, 2, 3, 5):
        split = [
            (bytes(len(payloads[start : start + many])), payloads[start : start + many]) for start in range(0, 5, many)
        ]
        assert apply_stored(CODEC, [0, 0], split) == apply_deltas([0, 0], deltas)
    counts = [encode_delta(CODEC, Delta(4, each))[1] for each in range(9)]
    assert apply_stored(CODEC, 2**70, [(bytes(9), counts)]) == 2**70 + 36


@pytest.mark.parametrize("place", [0, 5, 9])
@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"\xc1", Corrupt),
        (b"", Corrupt),
        (b"\x01\x02", Corrupt),
        (b"\x92\x00", Corrupt),
        (b"\xdd\xff\xff\xff\xff", Corrupt),
        (b"\x92\xc3\x90", Corrupt),
        (b"\xc7\x00\x01", Corrupt),
        (b"\x92\x00\x91\xc8\x00\x00\x01", Corrupt),
        (b"\x92\x00\x91\x92\xc7\x00\x06\xa3a:b", DisallowedType),
    ],
    ids=repr,
)
def test_one_that_is_damaged_among_many_is_noticed(place: int, payload: bytes, error: type[StoreError]) -> None:
    payloads = [encode_delta(CODEC, Delta(0, [number]))[1] for number in range(10)]
    payloads[place] = payload
    with pytest.raises(error):
        apply_stored(CODEC, [], [(bytes(10), payloads)])
