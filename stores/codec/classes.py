"""Instances of the user's classes: enums, dataclasses, pydantic models, named tuples.

An instance is stored as its class's name and its own state, field by field, and is built from these without running
its `__init__` or its validators. Fields that the class gained since take their defaults; those it lost are dropped.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, Flag
from functools import cached_property
from types import MemberDescriptorType
from typing import Any, ClassVar

from ..errors import Corrupt
from .encodings import Mark, Opaque
from .scalars import Unsupported


def class_name(cls: type) -> str:
    """`module:qualname`, by which a class is stored; a parametrized pydantic model names its arguments in full."""
    generic = getattr(cls, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        args = (class_name(arg) if isinstance(arg, type) else repr(arg) for arg in generic["args"])
        return f"{class_name(generic['origin'])}[{','.join(args)}]"
    return f"{cls.__module__}:{cls.__qualname__}"


def is_model(cls: type) -> bool:
    """Whether `cls` is a pydantic model; pydantic is not imported to find out."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def is_namedtuple(cls: type) -> bool:
    """Whether `cls` is a named tuple."""
    names = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(names, tuple) and all(isinstance(name, str) for name in names)


class Form(ABC):
    """How the instances of one class are stored."""

    mark: ClassVar[Mark]

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.name = class_name(cls)

    @abstractmethod
    def parts(self, value: Any) -> list[Any]:
        """The instance's state. Raises `Unsupported`."""

    @abstractmethod
    def build(self, parts: list[Any]) -> Any:
        """The instance again. Raises `Corrupt`, or whatever the wrong parts cause."""

    def attributes(self, value: Any) -> dict[str, Any]:
        """What it holds by name; for telling where in a state something is."""
        return {}

    def missing(self, field: str) -> Corrupt:
        return Corrupt(
            f"a stored {self.name} has no field {field!r}, which the class requires now; give the field a default, or "
            "read the state with the version of the code that wrote it"
        )


class EnumForm(Form):
    """An enum's member, by name; a flag, by its number."""

    mark = Mark.ENUM

    def parts(self, value: Any) -> list[Any]:
        return [value._value_ if isinstance(value, Flag) else value._name_]

    def build(self, parts: list[Any]) -> Any:
        (member,) = parts
        if issubclass(self.cls, Flag):
            if type(member) is not int:
                raise Corrupt(f"a stored flag of {self.name} is not a number")
            return self.cls(member)
        if member not in self.cls.__members__:  # type: ignore[attr-defined]
            raise Corrupt(f"{self.name} has no member {member!r} (any more); add it back to read this state")
        return self.cls.__members__[member]  # type: ignore[attr-defined]


class NamedTupleForm(Form):
    """A named tuple, by its fields."""

    mark = Mark.NAMEDTUPLE

    def parts(self, value: Any) -> list[Any]:
        if getattr(value, "__dict__", None) or len(value) != len(value._fields):
            raise Unsupported("it carries more than its fields; make it a dataclass")
        return [self.attributes(value)]

    def attributes(self, value: Any) -> dict[str, Any]:
        return dict(zip(value._fields, value, strict=True))

    def build(self, parts: list[Any]) -> Any:
        (stored,) = parts
        values, defaults = [], getattr(self.cls, "_field_defaults", {})
        for field in self.cls._fields:  # type: ignore[attr-defined]
            if field not in stored and field not in defaults:
                raise self.missing(field)
            values.append(stored[field] if field in stored else defaults[field])
        return tuple.__new__(self.cls, values)


class DataclassForm(Form):
    """A dataclass: its fields, and whatever else was set on the instance."""

    mark = Mark.DATACLASS

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self._fields = {field.name: field for field in fields(cls)}
        self._slots = tuple(
            name
            for base in cls.__mro__
            for name, member in vars(base).items()
            if isinstance(member, MemberDescriptorType) and base is not object
        )
        self._cached = frozenset(
            name for base in cls.__mro__ for name, member in vars(base).items() if isinstance(member, cached_property)
        )

    def attributes(self, value: Any) -> dict[str, Any]:
        state = {name: getattr(value, name) for name in self._slots if hasattr(value, name)}
        state.update(getattr(value, "__dict__", ()))
        return state

    def parts(self, value: Any) -> list[Any]:
        own, known = self.attributes(value), self._fields
        stored = {name: item for name, item in own.items() if name in known}
        others = {name: item for name, item in own.items() if name not in known and name not in self._cached}
        for name, field in known.items():
            if name not in stored and field.init and field.default is MISSING:
                raise Unsupported(f"its field {name!r} is not set")
        return [stored, others]

    def build(self, parts: list[Any]) -> Any:
        stored, others = parts
        value: Any = object.__new__(self.cls)
        state = {name: item for name, item in stored.items() if name in self._fields}
        for name, field in self._fields.items():
            if name in state:
                continue
            if field.default is not MISSING:
                state[name] = field.default
            elif field.default_factory is not MISSING:
                state[name] = field.default_factory()
            elif field.init:
                raise self.missing(name)
        state.update(others)
        for name, item in state.items():
            if type(name) is not str:
                raise Corrupt(f"a stored {self.name} has an attribute that is not named by a string")
            if name in self._slots:
                object.__setattr__(value, name, item)
            else:
                value.__dict__[name] = item
        return value


class ModelForm(Form):
    """A pydantic model: fields, which of them were set, extra values, private attributes."""

    mark = Mark.MODEL

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        pydantic = sys.modules["pydantic"]
        # a root model keeps less, and its own __setstate__ knows what
        self._base: Any = pydantic.RootModel if issubclass(cls, pydantic.RootModel) else pydantic.BaseModel
        self._fields: dict[str, Any] = cls.model_fields  # type: ignore[attr-defined]

    def attributes(self, value: Any) -> dict[str, Any]:
        return {**value.__dict__, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}

    def parts(self, value: Any) -> list[Any]:
        state = self._base.__getstate__(value)
        own = state["__dict__"]
        for name in own.keys() - self._fields.keys():
            if not isinstance(getattr(self.cls, name, None), cached_property):
                raise Unsupported(f"{name!r} was set past the model; declare it as a field or private attribute")
        for name, field in self._fields.items():
            if name not in own and field.is_required():
                raise Unsupported(f"its required field {name!r} is not set")
        stored = {name: item for name, item in own.items() if name in self._fields}
        set_names = sorted(state["__pydantic_fields_set__"])
        return [stored, set_names, state.get("__pydantic_extra__"), state.get("__pydantic_private__")]

    def build(self, parts: list[Any]) -> Any:
        stored, set_names, extra, private = parts
        state: dict[str, Any] = {}
        for name, field in self._fields.items():
            if name in stored:
                state[name] = stored[name]
            elif field.is_required():
                raise self.missing(name)
            else:
                state[name] = field.get_default(call_default_factory=True, validated_data=state)
        if not all(kind is None or type(kind) is dict for kind in (extra, private)):
            raise Corrupt(f"a stored {self.name} is malformed")
        if extra is None and self.cls.model_config.get("extra") == "allow":  # type: ignore[attr-defined]
            extra = {}
        private = self._private(private)
        value: Any = object.__new__(self.cls)
        names = {name for name in set_names if name in state or (extra and name in extra)}
        self._base.__setstate__(
            value,
            {
                "__dict__": state,
                "__pydantic_fields_set__": names,
                "__pydantic_extra__": extra,
                "__pydantic_private__": private,
            },
        )
        return value

    def _private(self, stored: dict[str, Any] | None) -> dict[str, Any] | None:
        declared = self.cls.__private_attributes__  # type: ignore[attr-defined]
        if not declared:
            return stored
        unset = sys.modules["pydantic_core"].PydanticUndefined
        private = {name: item.get_default() for name, item in declared.items() if name not in (stored or {})}
        return {**{name: item for name, item in private.items() if item is not unset}, **(stored or {})}


def form_of(cls: type) -> Form | None:
    """How instances of `cls` are stored; None if they cannot be."""
    if issubclass(cls, Enum):
        return EnumForm(cls)
    if is_model(cls) and _plain_layout(cls):
        return ModelForm(cls)
    if is_dataclass(cls) and _plain_layout(cls):
        return DataclassForm(cls)
    return NamedTupleForm(cls) if is_namedtuple(cls) else None


def opaque(mark: Mark, name: str, parts: list[Any]) -> Opaque:
    """An instance of a class that is not known here, from its parts."""
    if mark is Mark.ENUM:
        return Opaque(name, parts[0])
    shown: dict[Any, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            shown.update(part)
    return Opaque(name, shown)


def _plain_layout(cls: type) -> bool:
    # one that also derives from dict, str, Exception... keeps state that its fields do not tell
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True
