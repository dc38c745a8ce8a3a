"""Which values a channel takes whose type has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Optional, Protocol, TypedDict, TypeVar

import pytest

from perdure.runtime.retyping import accepts

T = TypeVar("T")


class Doc(TypedDict):
    text: str


class Sized(Protocol):
    size: int


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Any, object()),
        (T, 1),
        ("Later", 1),
        (object, 1),
        (int | None, None),
        (Optional[int], 3),  # noqa: UP045 — the older way of saying it
        (float, 3),
        (None, None),
        (list[Any], ["a"]),
        (list[str], []),
        (Sequence[str], ["a"]),
        (dict[str, int], {"a": 1}),
        (Annotated[list[int], "meta"], [1]),
        (Literal["a", "b"], "a"),
        (Doc, {"text": "t"}),
        (tuple[int, ...], (1, 2)),
        (Sized, 1),
    ],
)
def test_what_fits(annotation: Any, value: Any) -> None:
    assert accepts(annotation, value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1"),
        (int, [1]),
        (list[str], "a"),
        (list[str], [1]),
        (dict[str, int], {"a": "b"}),
        (set[int], [1]),
        (int | None, "1"),
        (None, 0),
        (Literal[1], True),
        (Doc, ["text"]),
    ],
)
def test_what_does_not(annotation: Any, value: Any) -> None:
    assert not accepts(annotation, value)
