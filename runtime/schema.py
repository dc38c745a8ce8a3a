"""Schemas: what a state class means to the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..stores.codec import types_in
from .channels import MISSING, Channel, PlainChannel
from .commands import START, Command, Send
from .errors import GraphValidationError, InputError, InvalidUpdateError, StateValidationError, node_of
from .reducers import channel_of
from .shape import Kind, Shape
from .shapes import read_instance, shape_of
from .values import LazyValues


class Schema:
    """A state class, its channels, and the ways in and out of it.

    `fields` are the class's own channels, which `view` shows. `channels` are those that updates may name: the same,
    or all of a graph's (`widened`). Raises `GraphValidationError` for a class that cannot be a state.
    """

    def __init__(self, cls: Any, *, graph: Mapping[str, Channel] | None = None, wide: bool = False) -> None:
        self._shape: Shape = shape_of(cls)
        self.cls: Any = cls
        self.name: str = self._shape.name
        self.kind: Kind = self._shape.kind
        self.types: frozenset[type] = types_in(cls)
        own = {
            name: channel_of(name, one.annotation, one.metadata, one.default)
            for name, one in self._shape.fields.items()
        }
        if not own:
            raise GraphValidationError(f"state class {self.name} has no keys; give it at least one annotated field")
        for name in own:
            if name.startswith("__") and name.endswith("__"):
                raise GraphValidationError(
                    f"state class {self.name}: the key {name!r} is reserved; choose another name"
                )
        # A schema that repeats a key without its reducer means the graph's channel, reducer and all.
        shared = graph or {}
        self.fields: dict[str, Channel] = {name: shared.get(name, channel) for name, channel in own.items()}
        self.channels: dict[str, Channel] = {**self.fields, **shared} if wide else self.fields
        self._starting = {
            name: channel for name, channel in self.fields.items() if self._shape.fields[name].default is None
        }
        self._checked = frozenset(
            name
            for name, channel in self.fields.items()
            if self.kind == "pydantic" and isinstance(channel, PlainChannel)
        )

    def __repr__(self) -> str:
        return f"Schema({self.name})"

    def widened(self, channels: Mapping[str, Channel]) -> Schema:
        """The same schema within a graph, whose updates may name all of the graph's `channels`."""
        return Schema(self.cls, graph=channels, wide=True)

    def over(self, channels: Mapping[str, Channel]) -> Schema:
        """The same schema within a graph: its keys are the graph's `channels` of these names."""
        return Schema(self.cls, graph=channels)

    def select(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The schema's keys that have a value, as a plain dict: those written, and those that start with one (a list
        that a reducer appends to is empty before its first write; a class may give a default)."""
        found = {}
        for name, channel in self.fields.items():
            value = values[name] if name in values else channel.initial()
            if value is not MISSING:
                found[name] = value
        return found

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `select`, with whatever else is in `values` (keys that only some node's own schema has)."""
        return {**self.select(values), **values}

    def started(self, values: LazyValues) -> LazyValues:
        """As `complete`, without looking at the values."""
        found = {name: None if name in values else channel.initial() for name, channel in self.fields.items()}
        return values.completed({name: value for name, value in found.items() if value is not MISSING})

    def view(self, values: Mapping[str, Any]) -> Any:
        """What a node is handed: a dict of the keys that have a value, or an instance of the dataclass or model.

        Raises `StateValidationError` naming the field that lacks a value or has a wrong one.
        """
        given = {name: values[name] for name in self.fields if name in values}
        if len(given) != len(self.fields):
            for name, channel in self._starting.items():
                if name not in given and (value := channel.initial()) is not MISSING:
                    given[name] = value
        return self._shape.build(given)

    def accept(self, arg: Any) -> Any:
        """What a node of this schema is handed for a `Send` argument: a dict becomes the dataclass or model, if it is
        one; anything else goes as it is."""
        if self.kind != "typeddict" and type(arg) is dict:
            return self._shape.build(arg)
        return arg

    def updates(self, value: Any, writer: str) -> dict[str, Any]:
        """Channel updates in what `writer` returned (a task's path; "" or START for a run's input).

        Takes a mapping, a dataclass instance, a pydantic instance (only the fields that were set), or None. Raises
        `InvalidUpdateError` for an unknown key or a wrong type (`InputError` if it is the input), and
        `StateValidationError` for a value that does not fit its field.
        """
        if value is None:
            return {}
        found = dict(value) if type(value) is dict or isinstance(value, Mapping) else self._read(value, writer)
        if not found.keys() <= self.channels.keys():
            raise self._unknown([key for key in found if key not in self.channels], writer)
        if self._checked:
            for key in self._checked & found.keys():
                found[key] = self._check(key, found[key], writer)
        return found

    def _read(self, value: Any, writer: str) -> dict[str, Any]:
        found = read_instance(value) if not isinstance(value, Send | Command) else None
        if found is None:
            raise self._wrong_type(value, writer)
        # A dataclass cannot tell whether a field was set. One that a reducer takes and that is still at its default is
        # not an update: State(n=1) appends nothing to the list that it does not mention.
        if not hasattr(value, "model_fields_set"):
            defaults = (self._shape if type(value) is self.cls else shape_of(type(value))).fields
            found = {
                key: one
                for key, one in found.items()
                if isinstance(self.channels.get(key), PlainChannel | None)
                or not _at_default(one, defaults[key].default)
            }
        return found

    def _check(self, key: str, value: Any, writer: str) -> Any:
        try:
            return self._shape.check(key, value)
        except StateValidationError as error:
            raise StateValidationError(
                self.name, error.fields, error.detail, writer=writer or START
            ) from error.__cause__

    def _unknown(self, keys: list[Any], writer: str) -> InputError | InvalidUpdateError:
        names, known = ", ".join(map(repr, keys)), ", ".join(map(repr, self.channels))
        fact = f"{names}, which {self.name} does not have; its keys are {known}"
        if writer in ("", START):
            return InputError(f"the input has the key {fact}", channel=str(keys[0]))
        node = node_of(writer)
        return InvalidUpdateError(f"node {node!r} returned the key {fact}", channel=str(keys[0]), nodes=(node,))

    def _wrong_type(self, value: Any, writer: str) -> InputError | InvalidUpdateError:
        shown = f"{self.name} or a mapping with some of its keys: {', '.join(map(repr, self.channels))}"
        if writer in ("", START):
            return InputError(f"the input is a {type(value).__name__}; give a {shown}")
        hint = " (a Send is returned by a conditional edge, or in Command(goto=...))" if isinstance(value, Send) else ""
        node = node_of(writer)
        return InvalidUpdateError(
            f"node {node!r} returned a {type(value).__name__}{hint}; return None, a {shown}", nodes=(node,)
        )


def merged_channels(schemas: Iterable[Schema]) -> dict[str, Channel]:
    """All channels of a graph's schemas. A key may be repeated plain beside one with a reducer, which then counts.

    Raises `GraphValidationError` for a key with two different reducers.
    """
    found: dict[str, tuple[Channel, str]] = {}
    for schema in schemas:
        for name, channel in schema.fields.items():
            known = found.get(name)
            if known is None or (isinstance(known[0], PlainChannel) and not isinstance(channel, PlainChannel)):
                found[name] = (channel, schema.name)
            elif not isinstance(channel, PlainChannel) and channel.reducer is not known[0].reducer:
                raise GraphValidationError(
                    f"key {name!r} has different reducers in {known[1]} and {schema.name}; give it the same one in both"
                )
    return {name: channel for name, (channel, _) in found.items()}


def _at_default(value: Any, default: Any) -> bool:
    if default is None:
        return False
    expected = default()
    try:
        return type(value) is type(expected) and bool(value == expected)
    except Exception:  # noqa: BLE001 — arrays and frames have no single truth value
        return False
