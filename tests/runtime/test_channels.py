"""Channels: what a step's writes make of a key, what of it is stored, and that the stored part gives the value back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.runtime.channels import MISSING, Channel, Merge, PlainChannel, ReducerChannel, Write
from perdure.runtime.errors import GraphValidationError, InvalidUpdateError
from perdure.runtime.messages import add_messages
from perdure.runtime.reducers import channel_of
from perdure.stores.codec import Codec
from perdure.stores.deltas import Delta, Op, apply_deltas, decode_delta, encode_delta
from perdure.stores.segments import Kind

CODEC = Codec()


def channel(annotation: Any, *metadata: Any, default: Callable[[], Any] | None = None) -> Channel:
    return channel_of("key", annotation, metadata, default)


class Stored:
    """What a store would keep of a channel: the last whole value, and the deltas since."""

    def __init__(self) -> None:
        self.whole: tuple[int, bytes] | None = None
        self.deltas: list[tuple[int, bytes]] = []

    def add(self, merge: Merge) -> None:
        assert merge.changes
        for change in merge.changes:
            if change.kind is Kind.VALUE:
                self.whole, self.deltas = CODEC.encode(change.value), []
            else:
                assert self.whole is not None, "a delta on a value that was never written"
                self.deltas.append(encode_delta(CODEC, change.value))

    def read(self) -> Any:
        assert self.whole is not None
        return apply_deltas(CODEC.decode(*self.whole), [decode_delta(CODEC, *delta) for delta in self.deltas])


def same(one: object, other: object) -> bool:
    """Equal, of one type, and (sets apart, which have none) in one order: what the codec sees."""
    if isinstance(one, set | frozenset):
        return type(one) is type(other) and one == other
    return CODEC.encode(one) == CODEC.encode(other)


# -- plain keys --------------------------------------------------------------------------------------------------


def test_a_plain_key_takes_the_last_value() -> None:
    plain = channel(int)
    merge = plain.merge(1, [("a", 2)])
    assert (merge.value, merge.changes, merge.tells_writes) == (2, ((Kind.VALUE, 2, "a"),), True)
    assert plain.updates(merge.changes) == {"a": 2}
    assert plain.merge(MISSING, [("a", None)]).value is None


def test_a_plain_key_starts_with_its_default_or_nothing() -> None:
    assert channel(list[int]).initial() is MISSING
    made = channel(list[int], default=list)
    assert made.initial() == []
    assert made.initial() is not made.initial()


def test_two_writes_to_a_plain_key_name_both_nodes() -> None:
    with pytest.raises(InvalidUpdateError, match="'key' was written by nodes 'left' and 'right' in one step") as caught:
        channel(dict[str, int]).merge(MISSING, [("left", {}), ("right#4", {})])
    assert "Annotated[dict[str, int], reducer]" in str(caught.value)
    assert (caught.value.channel, caught.value.nodes) == ("key", ("left", "right"))
    with pytest.raises(InvalidUpdateError, match="by node 'w', 3 times, in one step"):
        channel(int).merge(0, [("w#0", 1), ("w#1", 1), ("w#2", 1)])


# -- reducers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "reducer", "old", "updates", "value", "operands"),
    [
        (list[int], operator.add, [1], [[2], [], [3, 4]], [1, 2, 3, 4], [[2], [], [3, 4]]),
        (list[int], operator.iadd, [1], [[2]], [1, 2], [[2]]),
        (str, operator.add, "a", ["b", "c"], "abc", ["b", "c"]),
        (bytes, operator.add, b"a", [b"b"], b"ab", [b"b"]),
        (
            dict[str, int],
            operator.or_,
            {"a": 1},
            [{"b": 2}, {"a": 3}],
            {"a": 3, "b": 2},
            [[{"b": 2}, []], [{"a": 3}, []]],
        ),
        (set[int], operator.or_, {1}, [{2}, {1}], {1, 2}, [{2}, {1}]),
        (frozenset[int], operator.or_, frozenset({1}), [frozenset({2})], frozenset({1, 2}), [{2}]),
    ],
)
def test_known_reducers_record_one_closed_delta_for_each_writer(
    annotation: Any, reducer: Any, old: Any, updates: list[Any], value: Any, operands: list[Any]
) -> None:
    known = channel(annotation, reducer)
    before = repr(old)
    writes = [(f"n#{number}", update) for number, update in enumerate(updates)]
    merge = known.merge(old, writes)
    assert same(merge.value, value)
    assert [change.kind for change in merge.changes] == [Kind.DELTA] * len(updates)
    assert [change.value.operand for change in merge.changes] == operands
    assert merge.tells_writes
    assert known.updates(merge.changes) == dict(writes)
    assert repr(old) == before


def test_the_first_write_is_a_whole_value() -> None:
    """A delta on a channel that was never written has nothing to be applied to: recovery could not read the thread."""
    items = channel(list[int], operator.add)
    starts: list[Any] = [MISSING, []]
    for old in starts:
        merge = items.merge(old, [("a", [1])])
        assert (merge.value, merge.changes, merge.tells_writes) == ([1], ((Kind.VALUE, [1], "a"),), True)
        several = items.merge(old, [("a", [1]), ("b", [2])])
        start, *deltas = several.changes
        assert (several.value, start, several.tells_writes) == ([1, 2], (Kind.VALUE, [], ""), True)
        assert [(change.kind, change.value.operand, change.writer) for change in deltas] == [
            (Kind.DELTA, [1], "a"),
            (Kind.DELTA, [2], "b"),
        ]


def test_a_default_is_written_with_the_first_update() -> None:
    seeded = channel(list[str], operator.add, default=lambda: ["seed"])
    assert seeded.initial() == ["seed"]
    merge = seeded.merge(MISSING, [("a", ["x"])])
    assert (merge.value, merge.changes, merge.tells_writes) == (
        ["seed", "x"],
        ((Kind.VALUE, ["seed", "x"], "a"),),
        False,
    )


def test_deltas_do_not_share_a_list_with_the_node() -> None:
    update = [1]
    merge = channel(list[int], operator.add).merge([0], [("a", update)])
    update.append(2)
    assert merge.changes[0].value == Delta(Op.APPEND, [1])
    assert merge.value == [0, 1]


def test_numbers_and_unknown_reducers_are_whole_values() -> None:
    total = channel(int, operator.add)
    assert total.initial() == 0
    merge = total.merge(3, [("a", 4), ("b", 5)])
    assert (merge.value, merge.changes, merge.tells_writes) == (12, ((Kind.VALUE, 12, ""),), False)
    most = channel(int, max).merge(3, [("a", 4)])
    assert (most.value, most.changes, most.tells_writes) == (4, ((Kind.VALUE, 4, "a"),), False)


def test_a_reducer_that_changes_the_old_value_in_place_changes_a_copy() -> None:
    def extend(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
        old.update(new)
        return old

    old: Any = {"a": 1}
    merge = channel(dict[str, int], extend).merge(old, [("n", {"b": 2})])
    assert (old, merge.value) == ({"a": 1}, {"a": 1, "b": 2})


def test_an_unknown_reducer_that_appends_to_plain_items_costs_what_it_appended() -> None:
    joined = channel(list[Any], lambda old, new: old + new)
    assert joined.merge(["a"], [("n", ["b"])]).changes == ((Kind.DELTA, Delta(Op.APPEND, ["b"]), "n"),)
    # An item that could have been changed in place might not be what is stored.
    assert joined.merge([["a"]], [("n", ["b"])]).changes[0].kind is Kind.VALUE
    assert channel(list[Any], lambda old, new: new + old).merge(["a"], [("n", ["b"])]).changes[0].kind is Kind.VALUE


def test_types_that_a_known_reducer_does_not_expect_go_through_it() -> None:
    items = channel(list[int], operator.iadd)
    assert items.merge([1], [("n", (2, 3))]).value == [1, 2, 3]
    pairs = channel(tuple[int, ...], operator.add)
    assert pairs.merge((1,), [("n", (2,))]).value == (1, 2)


def test_a_reducer_that_raises_names_the_key_and_the_node() -> None:
    with pytest.raises(
        InvalidUpdateError, match=r"'key' \(list\[int\] by add\).*\(int\) of node 'n': TypeError"
    ) as caught:
        channel(list[int], operator.add).merge([1], [("ok", [2]), ("n#2", 5)])
    assert (caught.value.channel, caught.value.nodes) == ("key", ("n",))
    assert isinstance(caught.value.__cause__, TypeError)


def test_one_writer_twice_cannot_be_told_apart() -> None:
    merge = channel(list[int], operator.add).merge([0], [("n", [1]), ("n", [2])])
    assert (merge.value, merge.tells_writes) == ([0, 1, 2], False)


@pytest.mark.parametrize(
    ("annotation", "start"),
    [
        (list[int], []), (Sequence[int], []), (dict[str, int], {}), (set, set()), (str, ""), (int, 0), (float, 0.0),
        (bool, False), (Iterable[int], []), (Optional[int], MISSING), (int | None, MISSING), (Any, MISSING),  # noqa: UP045 — both spellings
        (object, MISSING), (PlainChannel, MISSING), (Callable[[], None], MISSING),
    ],
)  # fmt: skip
def test_a_reducer_starts_from_the_empty_value_of_its_type(annotation: Any, start: Any) -> None:
    assert channel(annotation, lambda old, new: new).initial() == start


def test_without_an_empty_value_the_first_update_is_the_value() -> None:
    def add(old: int, new: int) -> int:
        return old + new

    most = channel(int | None, add)
    assert most.merge(MISSING, [("a", 3)]) == (3, ((Kind.VALUE, 3, "a"),), True)
    assert most.merge(MISSING, [("a", 3), ("b", 4)]).value == 7


def test_reducers_are_found_among_other_metadata() -> None:
    assert isinstance(channel(int, "a text", 3, int), PlainChannel)
    assert channel(int, "a text", max, {"doc": 1}).reducer is max


def test_reducers_that_cannot_be() -> None:
    def lonely(value: int) -> int:
        return value

    with pytest.raises(GraphValidationError, match=r"'key'.*lonely\(value.*\(old, update\)"):
        channel(int, lonely)
    foreign = type("UntrackedValue", (), {"__module__": "langgraph.channels"})
    with pytest.raises(GraphValidationError, match="UntrackedValue of LangGraph"):
        channel(int, foreign)


def test_signatures_are_the_same_in_every_process() -> None:
    signatures = [
        channel(list[int], operator.add).signature,
        channel(dict[str, list[int] | None]).signature,
        channel(Any, lambda old, new: new).signature,
    ]
    assert signatures[:2] == ["list[int] by add", "dict[str, list[int] | None]"]
    assert "0x" not in signatures[2]


# -- what is stored gives the value back -------------------------------------------------------------------------

ATOMS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2)
MESSAGES = st.builds(
    lambda id_, text: {"role": "user", "content": text, "id": id_}, st.sampled_from("abcdef"), st.text(max_size=2)
)


def appended(old: list[Any], new: list[Any]) -> list[Any]:
    return old + new


@pytest.mark.parametrize(
    ("annotation", "reducer", "updates"),
    [
        (list[Any], operator.add, st.lists(ATOMS, max_size=3)),
        (list[Any], appended, st.lists(ATOMS, max_size=3)),
        (str, operator.add, st.text(max_size=3)),
        (dict[str, Any], operator.or_, st.dictionaries(st.sampled_from("abcd"), ATOMS, max_size=3)),
        (set[int], operator.or_, st.sets(st.integers(0, 9), max_size=3)),
        (list[Any], add_messages, st.lists(MESSAGES, max_size=3)),
    ],
    ids=["list", "lambda", "str", "dict", "set", "messages"],
)
def test_stored_rows_give_the_value_back(annotation: Any, reducer: Any, updates: st.SearchStrategy[Any]) -> None:
    @given(st.lists(st.lists(updates, min_size=1, max_size=3), min_size=1, max_size=6))
    @settings(max_examples=60, deadline=None)
    def check(steps: list[list[Any]]) -> None:
        tested = channel(annotation, reducer)
        stored, value, expected = Stored(), MISSING, tested.initial()
        for step in steps:
            writes: list[Write] = [(f"n#{number}", update) for number, update in enumerate(step)]
            merge = tested.merge(value, writes)
            for update in step:
                expected = reducer(expected, update)
            stored.add(merge)
            assert same(merge.value, expected)
            assert same(stored.read(), expected)
            if merge.tells_writes and reducer is not add_messages:
                assert tested.updates(merge.changes) == dict(writes)
            value = merge.value

    check()


def test_appending_costs_what_is_appended() -> None:
    """Ten thousand appends of one item keep ten thousand items, not fifty million."""
    items = channel(list[int], operator.add)
    assert items.grows
    value: Any = MISSING
    size = 0
    for number in range(10_000):
        merge = items.merge(value, [("n", [number])])
        for change in merge.changes:
            size += len(change.value.operand) if change.kind is Kind.DELTA else len(change.value)
        value = merge.value
    assert (len(value), size) == (10_000, 10_000)


def test_a_thousand_writers_of_one_step_copy_the_list_once() -> None:
    items = channel(list[int], operator.add)
    assert isinstance(items, ReducerChannel)
    old = list(range(100_000))
    merge = items.merge(old, [(f"n#{number}", [number]) for number in range(1000)])
    assert (len(merge.value), len(merge.changes)) == (101_000, 1000)
