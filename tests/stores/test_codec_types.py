"""Which classes a schema names, however it names them."""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import pydantic
import pytest
import typing_extensions

from perdure.stores.codec import Codec, types_in

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


class A: ...


class B: ...


class C: ...


class D: ...


class Shade(enum.Enum):
    DARK = 1


T = TypeVar("T")
Bound = TypeVar("Bound", bound=A)
Either = TypeVar("Either", B, C)
Name = NewType("Name", A)
Alias = typing_extensions.TypeAliasType("Alias", list[A])


@dataclasses.dataclass
class Node:
    children: list[Node]
    payload: A | None
    shared: ClassVar[B]
    given: dataclasses.InitVar[C]


@dataclasses.dataclass
class Holder(Generic[T]):
    item: T


class Point(NamedTuple):
    x: A
    y: "B"  # noqa: UP037 — a string on purpose


class Base(TypedDict):
    base: A


class State(Base, total=False):
    items: Annotated[list[B], operator.add]
    maybe: NotRequired[Optional[C]]  # noqa: UP045 — the old spelling on purpose
    must: Required[D]


class Extended(typing_extensions.TypedDict):
    a: typing_extensions.ReadOnly[A]


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    node: Node | None = None
    self_: Optional["Model"] = None  # noqa: UP037, UP045 — the old spelling on purpose
    _private: D


class Pile(pydantic.BaseModel, Generic[T]):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    items: list[T]


class Partly(TypedDict):
    known: A
    unknown: Unknown
    nested: list[Unknown | B]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Union[Annotated[Cat, pydantic.Tag("cat")], Dog], pydantic.Field(discriminator="kind")]  # noqa: UP007 — the old spelling on purpose


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (A, {A}),
        (list[A], {list, A}),
        (dict[str, tuple[A, ...]], {dict, str, tuple, A}),
        (Optional[A], {A, type(None)}),  # noqa: UP045 — the old spelling on purpose
        (A | None, {A, type(None)}),
        (Union[A, list[B]], {A, list, B}),  # noqa: UP007 — the old spelling on purpose
        (Annotated[A, B], {A}),
        (Literal[Shade.DARK, "x", None], {Shade, str, type(None)}),
        (Callable[[A], B], {A, B}),
        (Mapping[A, Sequence[B]], {A, B}),
        (type[A], {type, A}),
        (Bound, {A}),
        (Either, {B, C}),
        (Name, {A}),
        (Alias, {list, A}),
        (Shade, {Shade}),
        (Any, set()),
        (None, {type(None)}),
        ("A", set()),
        (Node, {Node, A, B, C}),
        (Holder[A], {Holder, A}),
        (Point, {Point, A, B}),
        (State, {State, A, B, C, D}),
        (Extended, {Extended, A}),
        (Model, {Model, Node, A, B, C, D}),
        (Pile[A], {Pile[A], A}),
        (list[Pet], {Cat, Dog}),
        (Partly, {Partly, A}),
    ],
    ids=lambda value: f"{len(value)} types" if isinstance(value, set) else str(value),  # a set has no order
)
def test_types_in(annotation: object, named: set[Any]) -> None:
    found = types_in(annotation)
    assert named <= found
    mine = {cls for cls in found if cls.__module__ == __name__ and cls is not Pile}
    assert mine == {cls for cls in named if cls.__module__ == __name__}


def test_a_schema_gives_a_codec() -> None:
    codec = Codec(types_in(list[Pet]) | types_in(Pile[int]))
    for value in ([Cat(kind="cat"), Dog(kind="dog")], Pile[int](items=[1])):
        assert codec.decode(*codec.encode(value)) == value


def test_unresolved_names_of_a_function_are_passed_over() -> None:
    class Local: ...

    class Inside(TypedDict):
        a: Local
        b: A

    assert A in types_in(Inside)
