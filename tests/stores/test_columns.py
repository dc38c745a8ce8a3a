"""Rows as columns: what makes up a channel is found as it would be row by row, and many deltas decode as one would."""

from __future__ import annotations

import random
from typing import Any

import pytest

from perdure.stores.chains import Key, base_of, by_version
from perdure.stores.codec import Codec
from perdure.stores.columns import Rows, Strand, columns_of, joined, upto
from perdure.stores.deltas import Delta, apply_deltas, apply_stored, decode_delta, encode_delta
from perdure.stores.errors import Corrupt, DisallowedType, StoreError
from perdure.stores.segment_codec import decode_segment, encode_segment
from perdure.stores.segments import Kind, Row

CODEC = Codec()


def history(dice: random.Random) -> list[Row]:
    """Rows of some commits as they may be in one segment: several channels and writers, branches that were left."""
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
                payload = dice.randbytes(dice.randint(0, 20))
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


@pytest.mark.parametrize("seed", range(60))
def test_a_strand_is_what_following_row_by_row_finds(seed: int) -> None:
    written = history(random.Random(seed))
    _, rows = decode_segment(encode_segment("t", written))
    assert isinstance(rows, Rows)
    groups = by_version(written)
    for channel in ("a", "b", "ä", "", "none"):
        for version in range(42):
            wanted = expected(groups, channel, version)
            strand = rows.strand(channel, version)
            if strand is None:
                assert wanted == [], (channel, version)
                continue
            found = Rows(joined([strand]))
            assert found == wanted, (channel, version)
            assert strand.base == base_of(wanted)
            for older in {row.version for row in wanted}:
                assert upto(found, older) == [row for row in wanted if row.version <= older]
            assert upto(found, version + 1) is None


def test_strands_of_several_segments_are_put_together() -> None:
    rows = [Row(Kind.DELTA, seq, "ä", seq, seq - 1, f"w{seq}", 0, bytes([seq])) for seq in range(1, 9)]
    parts = [columns_of(rows[:3]), columns_of(Rows(columns_of(rows[3:4]))), columns_of(rows[4:])]
    assert Rows(joined(Strand(part, range(part.length)) for part in parts)) == rows
    assert joined([]).length == 0
    assert Rows(columns_of([])) == ()


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
    found = apply_stored(CODEC, ["first"], bytes(count), payloads)
    assert found == wanted
    assert [type(item) for item in found] == [type(item) for item in wanted]
    assert apply_stored(CODEC, ["first"], bytes(count), [memoryview(each) for each in payloads]) == wanted


def test_other_operations_among_many() -> None:
    deltas = [Delta(0, [1, 2]), Delta(5, [[(0, "new")], [1], ["end"]]), Delta(0, [3]), Delta(0, []), Delta(0, [4])]
    payloads = [encode_delta(CODEC, each)[1] for each in deltas]
    assert apply_stored(CODEC, [0, 0], bytes(5), payloads) == apply_deltas([0, 0], deltas)
    counts = [encode_delta(CODEC, Delta(4, each))[1] for each in range(9)]
    assert apply_stored(CODEC, 2**70, bytes(9), counts) == 2**70 + 36


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
        apply_stored(CODEC, [], bytes(10), payloads)
