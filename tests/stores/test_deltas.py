"""Deltas: applying what a finder found gives the new value, exactly; nothing is changed on the way."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.stores.codec import Codec
from perdure.stores.deltas import (
    Delta,
    Op,
    append_delta,
    apply_deltas,
    concat_delta,
    count_delta,
    decode_delta,
    dict_delta,
    encode_delta,
    messages_delta,
    set_delta,
)
from perdure.stores.errors import Corrupt

CODEC = Codec()
ATOMS = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from([0.0, -0.0, 1.0]), st.text("ab", max_size=2))
DICTS = st.dictionaries(ATOMS, ATOMS, max_size=6)
MESSAGES = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("abcdef"), "text": st.text("xy", max_size=2)}), max_size=6
)


def exact(value: Any) -> Any:
    """Something equal only for values of the same types in the same order."""
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exact(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(exact(item) for item in value)
    return type(value), repr(value)


def check(find: Callable[[Any, Any], Delta | None], old: Any, new: Any) -> Delta | None:
    before = copy.deepcopy((old, new))
    delta = find(old, new)
    if delta is not None:
        delta = decode_delta(CODEC, *encode_delta(CODEC, delta))
        assert exact(apply_deltas(old, [delta])) == exact(new)
    assert exact((old, new)) == exact(before)
    return delta


@given(st.lists(ATOMS), st.lists(ATOMS))
@settings(deadline=None)
def test_append(old: list[Any], more: list[Any]) -> None:
    assert (check(append_delta, old, old + more) is not None) == bool(old)
    check(append_delta, old, more)


@given(DICTS, DICTS)
@settings(deadline=None)
def test_merge(old: dict[Any, Any], new: dict[Any, Any]) -> None:
    check(dict_delta, old, new)
    check(dict_delta, old, {**old, **new})
    check(dict_delta, old, {key: item for key, item in old.items() if key not in new})


@given(st.sets(ATOMS), st.sets(ATOMS))
@settings(deadline=None)
def test_union(old: set[Any], new: set[Any]) -> None:
    check(set_delta, old, new)
    check(set_delta, old, old | new)
    check(set_delta, frozenset(old), frozenset(old | new))


@given(st.text(), st.text())
@settings(deadline=None)
def test_concat(old: str, new: str) -> None:
    check(concat_delta, old, new)
    assert (check(concat_delta, old, old + new) is not None) == bool(old)
    check(concat_delta, old.encode("utf-8"), (old + new).encode("utf-8"))


@given(st.integers(), st.integers())
@settings(deadline=None)
def test_count(old: int, new: int) -> None:
    check(count_delta, old, new)
    assert check(count_delta, 2**200 + old, 2**200 + new) is not None


@given(MESSAGES, MESSAGES)
@settings(deadline=None)
def test_messages(old: list[Any], new: list[Any]) -> None:
    check(messages_delta, old, new)
    kept = [message for message in old if message["text"] != "x"]
    check(messages_delta, old, kept + new)


def test_messages_finds_little() -> None:
    old = [{"id": str(index)} for index in range(100)]
    changed = {"id": "7", "text": "new"}
    new = [*old[:3], *old[4:7], changed, *old[8:], {"id": "x"}]
    assert messages_delta(old, new) == Delta(Op.MESSAGES, [[(7, changed)], [3], [{"id": "x"}]])
    assert messages_delta(old, [*old, "more"]) == Delta(Op.APPEND, ["more"])
    assert messages_delta(old, [{"id": "other"}]) is None


def test_equal_is_not_the_same() -> None:
    """1 == True == 1.0: a delta that took them for the same would bring back another type."""
    assert dict_delta({"a": 1, "b": 2}, {"a": True, "b": 2}) == Delta(Op.MERGE, [{"a": True}, []])
    assert set_delta({1, 2}, {True, 2, 3}) is None
    assert append_delta([1, 2], [True, 2, 3]) is None
    assert dict_delta({1: "a", 2: "b"}, {True: "a", 2: "b"}) is None


def test_the_order_of_a_dict_is_kept() -> None:
    assert dict_delta({"a": 1, "b": 2, "c": 3}, {"b": 2, "a": 1, "c": 3}) is None


@pytest.mark.parametrize("find", [append_delta, dict_delta, set_delta, concat_delta, count_delta, messages_delta])
def test_finders_decline_what_is_not_theirs(find: Callable[[Any, Any], Delta | None]) -> None:
    for old, new in (([1], (1, 2)), ("a", b"ab"), (None, 3), ({1}, frozenset({1, 2})), (object(), object()), ({}, [])):
        assert find(old, new) is None


def test_a_value_changed_in_place_is_no_delta() -> None:
    items, table, texts = [1], {"a": 1}, {1}
    assert append_delta(items, items) is messages_delta(items, items) is dict_delta(table, table) is None
    assert set_delta(texts, texts) is None


def test_ten_thousand_deltas_take_milliseconds() -> None:
    count = 10_000
    base = list(range(count))
    cases: list[tuple[Any, list[Delta]]] = [
        ([], [Delta(Op.APPEND, [index]) for index in range(count)]),
        ("", [Delta(Op.CONCAT, "x" * 100)] * count),
        ({}, [Delta(Op.MERGE, [{index: 1}, []]) for index in range(count)]),
        (set(), [Delta(Op.UNION, {index}) for index in range(count)]),
        (base, [Delta(Op.MESSAGES, [[(5, "m")], [], ["n"]])] * count),
        (base, [Delta(Op.MESSAGES, [[], [0], ["n"]])] * count),
        (0, [Delta(Op.ADD, 1)] * count),
    ]
    for value, deltas in cases:
        start = time.perf_counter()
        apply_deltas(value, deltas)
        assert time.perf_counter() - start < 0.5
    assert base == list(range(count))


def test_nothing_is_changed() -> None:
    operand = [1]
    base = [0]
    result = apply_deltas(base, [Delta(Op.APPEND, operand), Delta(Op.APPEND, [2])])
    assert (result, base, operand) == ([0, 1, 2], [0], [1])
    assert apply_deltas(base, []) is base


@pytest.mark.parametrize(
    ("base", "op", "operand"),
    [
        ([1], Op.MERGE, [{}, []]),
        ([1], Op.APPEND, (2,)),
        ([1], 99, [2]),
        ([1], Op.MESSAGES, [[], [1], []]),
        ([1], Op.MESSAGES, [[], [0, 0], []]),
        ([1, 2], Op.MESSAGES, [[], [1, 0], []]),
        ([1], Op.MESSAGES, [[(-1, 2)], [], []]),
        ([1], Op.MESSAGES, [[(True, 2)], [], []]),
        ([1], Op.MESSAGES, [[], [], None]),
        ([1], Op.MESSAGES, 5),
        ({}, Op.APPEND, [1]),
        ({}, Op.MERGE, [{}, ["gone"]]),
        ({}, Op.MERGE, [{}, [[]]]),
        ({}, Op.MERGE, None),
        (set(), Op.UNION, [1]),
        ("a", Op.CONCAT, b"b"),
        (1, Op.ADD, 1.5),
        (1, Op.ADD, True),
        (True, Op.ADD, 1),
        (None, Op.APPEND, [1]),
        ((1,), Op.APPEND, [1]),
    ],
)
def test_misfits_are_corrupt(base: Any, op: int, operand: Any) -> None:
    with pytest.raises(Corrupt):
        apply_deltas(base, [Delta(op, operand)])


@pytest.mark.parametrize("value", [[1], [1, 2, 3], ["0", 1], {}, (0, [1]), [True, 1]])
def test_what_is_no_delta_does_not_decode(value: Any) -> None:
    with pytest.raises(Corrupt):
        decode_delta(CODEC, *CODEC.encode(value))
