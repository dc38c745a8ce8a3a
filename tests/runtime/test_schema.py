"""Schemas: the three kinds of state class, what nodes are handed, and what they may return."""

from __future__ import annotations

import dataclasses
import enum
import operator
from typing import Annotated, Any, Generic, NotRequired, Required, TypeVar

import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from ray import cloudpickle
from typing_extensions import ReadOnly, TypedDict

from perdure.runtime.channels import MISSING, PlainChannel, ReducerChannel
from perdure.runtime.commands import START, Command, Send
from perdure.runtime.errors import GraphValidationError, InputError, InvalidUpdateError, StateValidationError
from perdure.runtime.schema import Schema, merged_channels

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Base(TypedDict):
    n: Required[int]


class Typed(Base, total=False):
    items: Annotated[list[str], operator.add]
    maybe: NotRequired[Annotated[set[int], operator.or_]]
    fixed: ReadOnly[Colour]


Functional = TypedDict("Functional", {"n": int, "items": "Annotated[list[str], operator.add]"})  # noqa: UP013 — the point
Reserved = TypedDict("Reserved", {"__interrupt__": int})
Extended = typing_extensions.TypedDict("Extended", {"n": int})  # noqa: UP013 — the point


@dataclasses.dataclass
class Parent:
    n: int


@dataclasses.dataclass
class Data(Parent):
    items: Annotated[list[str], operator.add] = dataclasses.field(default_factory=lambda: ["seed"])
    colour: Colour = Colour.RED
    computed: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is negative")
        self.computed = self.n * 2


class Point(BaseModel):
    x: int


class Model(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True, arbitrary_types_allowed=True)

    n: Annotated[int, Field(ge=0)]
    items: Annotated[list[str], operator.add] = Field(default_factory=list)
    name: str = Field(default="none", alias="fullName")
    point: Point | None = None
    derived: int = Field(default_factory=lambda data: data["n"] + 1)

    @field_validator("name")
    @classmethod
    def not_evil(cls, value: str) -> str:
        if value == "evil":
            raise ValueError("evil")
        return value


class GenericModel(BaseModel, Generic[T]):
    value: T


# -- reading the class -------------------------------------------------------------------------------------------


def reducers(schema: Schema) -> dict[str, Any]:
    return {name: channel.reducer for name, channel in schema.channels.items()}


def test_typed_dict() -> None:
    schema = Schema(Typed)
    assert (schema.kind, schema.name, schema.cls) == ("typeddict", "Typed", Typed)
    assert reducers(schema) == {"n": None, "items": operator.add, "maybe": operator.or_, "fixed": None}
    assert schema.channels["fixed"].annotation is Colour
    assert Colour in schema.types


def test_functional_and_backported_typed_dicts() -> None:
    assert reducers(Schema(Functional)) == {"n": None, "items": operator.add}
    assert reducers(Schema(Extended)) == {"n": None}


def test_dataclass() -> None:
    schema = Schema(Data)
    assert schema.kind == "dataclass"
    assert reducers(schema) == {"n": None, "items": operator.add, "colour": None}
    assert [schema.channels[name].initial() for name in schema.channels] == [MISSING, ["seed"], Colour.RED]


def test_pydantic() -> None:
    schema = Schema(Model)
    assert schema.kind == "pydantic"
    assert reducers(schema) == dict.fromkeys(["n", "items", "name", "point", "derived"]) | {"items": operator.add}
    starts = [schema.channels[name].initial() for name in schema.channels]
    assert starts == [MISSING, [], "none", None, MISSING]
    assert Point in schema.types


def test_a_parametrised_model() -> None:
    assert Schema(GenericModel[int]).channels["value"].annotation is int


@pytest.mark.parametrize("cls", [dict, int, list[int], "State", None, RootModel[int], Colour, BaseModel])
def test_what_is_no_state(cls: Any) -> None:
    with pytest.raises(GraphValidationError, match=r"TypedDict|RootModel|no keys"):
        Schema(cls)


def test_reserved_and_missing_keys() -> None:
    class Empty(TypedDict): ...

    with pytest.raises(GraphValidationError, match="'__interrupt__' is reserved"):
        Schema(Reserved)
    with pytest.raises(GraphValidationError, match="Empty has no keys"):
        Schema(Empty)


def test_an_annotation_that_does_not_resolve_names_the_class_and_the_name() -> None:
    class Lost(TypedDict):
        value: Nowhere  # type: ignore[name-defined]  # noqa: F821 — the point

    with pytest.raises(GraphValidationError, match=r"Lost.*'Nowhere'.*outside TYPE_CHECKING"):
        Schema(Lost)


# -- what nodes are handed ---------------------------------------------------------------------------------------


def test_a_typed_dict_has_the_keys_that_have_a_value() -> None:
    schema = Schema(Typed)
    assert schema.view({"n": 1, "other": 2}) == {"n": 1, "items": [], "maybe": set()}
    assert schema.view({}) == {"items": [], "maybe": set()}
    values = {"n": 1, "items": ["a"], "maybe": {1}, "fixed": Colour.RED}
    seen = schema.view(values)
    assert seen == values
    assert seen is not values


def test_a_dataclass_is_built_with_its_defaults() -> None:
    schema = Schema(Data)
    assert schema.view({"n": 2}) == Data(2)
    assert schema.view({"n": 2, "items": []}).items == []
    assert schema.view({"n": 2}).computed == 4


def test_a_dataclass_that_does_not_fit_names_the_field() -> None:
    with pytest.raises(StateValidationError, match=r"the state does not fit Data in 'n': no value yet") as caught:
        Schema(Data).view({})
    assert caught.value.fields == ("n",)
    with pytest.raises(StateValidationError, match=r"Data: ValueError: n is negative"):
        Schema(Data).view({"n": -1})

    @pydantic_dataclass
    class Checked:
        n: int

    assert Schema(Checked).view({"n": "3"}) == Checked(3)
    with pytest.raises(StateValidationError, match=r"Checked in 'n'"):
        Schema(Checked).view({"n": "x"})


def test_a_model_is_validated() -> None:
    schema = Schema(Model)
    seen = schema.view({"n": 1, "name": "a"})
    assert (type(seen), seen.n, seen.name, seen.derived) == (Model, 1, "a", 2)
    with pytest.raises(StateValidationError, match=r"Model in 'n', 'items': n: .*; items\.0: ") as caught:
        schema.view({"n": "x", "items": [1]})
    assert caught.value.fields == ("n", "items")
    assert isinstance(caught.value.__cause__, ValidationError)
    with pytest.raises(StateValidationError, match="in 'name'"):
        schema.view({"n": 1, "name": "evil"})


def test_select_shows_what_there_is() -> None:
    assert Schema(Typed).select({"fixed": 1, "other": 2}) == {"items": [], "maybe": set(), "fixed": 1}
    assert Schema(Data).select({}) == {"items": ["seed"], "colour": Colour.RED}


def test_accept_builds_what_a_send_carries() -> None:
    assert Schema(Model).accept({"n": "1"}).n == 1
    assert Schema(Data).accept({"n": 1}) == Data(1)
    assert Schema(Data).accept(7) == 7
    assert Schema(Typed).accept({"anything": 1}) == {"anything": 1}
    with pytest.raises(StateValidationError):
        Schema(Model).accept({})


# -- what nodes return -------------------------------------------------------------------------------------------


def test_updates_from_mappings_and_nothing() -> None:
    schema = Schema(Typed)
    given = {"n": 1}
    found = schema.updates(given, "a")
    assert found == given
    assert found is not given
    assert schema.updates(None, "a") == {}
    assert schema.updates({}, "a") == {}


def test_updates_from_instances() -> None:
    assert Schema(Model).updates(Model(n=1, fullName="x"), "a") == {"n": 1, "name": "x"}
    assert Schema(Typed).updates(Parent(3), "a") == {"n": 3}


def test_a_dataclass_says_nothing_about_reducers_that_it_leaves_at_their_default() -> None:
    """invoke(Data(1)) wrote the default list again, so that it stood in the state twice."""
    schema = Schema(Data)
    assert schema.updates(Data(1), START) == {"n": 1, "colour": Colour.RED}
    assert schema.updates(Data(1, ["x"]), "a") == {"n": 1, "items": ["x"], "colour": Colour.RED}


def test_unknown_keys() -> None:
    with pytest.raises(InvalidUpdateError, match=r"node 'a' returned the key 'itmes'.*keys are 'n', 'items'") as caught:
        Schema(Typed).updates({"n": 1, "itmes": []}, "a#2")
    assert (caught.value.channel, caught.value.nodes) == ("itmes", ("a",))
    with pytest.raises(InputError, match="the input has the key 3") as wrong:
        Schema(Typed).updates({3: 1}, START)
    assert wrong.value.channel == "3"


@pytest.mark.parametrize("value", ["text", 5, ["n"], [("n", 1)], {"n"}, Command(), Typed, Data])
def test_wrong_types(value: Any) -> None:
    with pytest.raises(
        InvalidUpdateError, match=rf"node 'a' returned a {type(value).__name__}; return None, a Typed or a"
    ):
        Schema(Typed).updates(value, "a")
    with pytest.raises(InputError, match="the input is a"):
        Schema(Typed).updates(value, "")


def test_a_send_as_an_update_is_explained() -> None:
    with pytest.raises(InvalidUpdateError, match=r"returned a Send \(a Send is returned by a conditional edge"):
        Schema(Typed).updates(Send("b", 1), "a")


def test_a_model_validates_each_value_as_it_comes() -> None:
    schema = Schema(Model)
    assert schema.updates({"n": "4", "name": " a ", "point": {"x": 1}}, "a") == {
        "n": 4,
        "name": "a",
        "point": Point(x=1),
    }
    with pytest.raises(
        StateValidationError, match=r"what node 'a' returned does not fit Model in 'n': n: .*greater"
    ) as caught:
        schema.updates({"n": -1}, "a#1")
    assert (caught.value.fields, caught.value.writer) == (("n",), "a#1")
    with pytest.raises(StateValidationError, match=r"the input does not fit Model in 'point': point\.x: "):
        schema.updates({"point": {"x": "?"}}, "")
    # What a reducer takes need not be what the key holds.
    assert schema.updates({"items": 5}, "a") == {"items": 5}


# -- several schemas ---------------------------------------------------------------------------------------------


def test_channels_of_several_schemas() -> None:
    class Plain(TypedDict):
        items: list[str]
        more: int

    plain, full = Schema(Plain), Schema(Typed)
    for order in ([plain, full], [full, plain]):
        channels = merged_channels(order)
        assert isinstance(channels["items"], ReducerChannel)
        assert set(channels) == {"n", "items", "maybe", "fixed", "more"}
    wide = full.widened(channels)
    assert wide.updates({"more": 1}, "a") == {"more": 1}
    assert "more" not in wide.view({"more": 1, "n": 1})
    narrow = plain.over(channels)
    assert narrow.fields["items"] is channels["items"]
    assert narrow.view({}) == {"items": []}
    with pytest.raises(InvalidUpdateError):
        narrow.updates({"n": 1}, "a")


def test_a_schema_travels() -> None:
    schema = Schema(Model)
    schema.updates({"n": 1}, "a")
    again = cloudpickle.loads(cloudpickle.dumps(schema))  # type: ignore[no-untyped-call]
    assert again.updates({"n": "2"}, "a") == {"n": 2}
    assert again.view({"n": 1}) == schema.view({"n": 1})
    assert again.channels["items"].reducer is operator.add
    assert isinstance(again.channels["n"], PlainChannel)
    assert again.channels["n"].initial() is MISSING
