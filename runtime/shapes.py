"""The three kinds of class that a state can be written as: TypedDict, dataclass, pydantic model."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

from typing_extensions import is_typeddict

from .annotations import unwrap
from .errors import GraphValidationError, StateValidationError
from .shape import Factory, Field, Shape, said


class TypedDictShape(Shape):
    """A TypedDict: nodes get a plain dict, nothing is validated."""

    kind = "typeddict"

    def _fields(self) -> dict[str, Field]:
        return {name: Field(*unwrap(note), None) for name, note in _hints(self.cls).items()}

    def build(self, values: dict[str, Any]) -> Any:
        return values


class DataclassShape(Shape):
    """A dataclass: nodes get an instance; what its constructor raises is reported with the lacking fields."""

    kind = "dataclass"

    def _fields(self) -> dict[str, Field]:
        hints = _hints(self.cls)
        return {
            field.name: Field(*unwrap(hints[field.name]), _dataclass_default(field))
            for field in dataclasses.fields(self.cls)
            if field.init
        }

    def build(self, values: dict[str, Any]) -> Any:
        try:
            return self.cls(**values)
        except Exception as error:  # a user's __post_init__ may raise anything
            if (models := _models()) is not None and isinstance(error, models.ValidationError):
                raise models.misfit(self.name, error) from error  # a pydantic dataclass
            lacking = [name for name, field in self.fields.items() if field.default is None and name not in values]
            detail = "no value yet; give it in the input, or give the field a default" if lacking else said(error)
            raise StateValidationError(self.name, lacking, detail) from error


def shape_of(cls: Any) -> Shape:
    """The shape of a state class. Raises `GraphValidationError` for anything else."""
    if is_typeddict(cls):
        return TypedDictShape(cls)
    if isinstance(cls, type):
        shape: Shape | None = models.shape_of(cls) if (models := _models()) is not None else None
        if shape is not None:
            return shape
        if dataclasses.is_dataclass(cls):
            return DataclassShape(cls)
    raise GraphValidationError(
        f"{cls!r} cannot be a state; write it as a TypedDict, a dataclass or a pydantic BaseModel"
    )


def is_state_class(cls: Any) -> bool:
    """Whether a class can be a state and has keys of its own (`BaseModel` itself has none)."""
    if is_typeddict(cls):
        return bool(cls.__annotations__)
    if not isinstance(cls, type):
        return False
    if (models := _models()) is not None and issubclass(cls, models.BaseModel):
        return bool(models.has_keys(cls))
    return dataclasses.is_dataclass(cls) and bool(dataclasses.fields(cls))


def read_instance(value: Any) -> dict[str, Any] | None:
    """What an instance that a node returned says about each key; None if it is neither a model nor a dataclass.

    Of a model only the fields that were set.
    """
    if (models := _models()) is not None and isinstance(value, models.BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    return None


def _models() -> Any:
    """The module for pydantic's models; None where nobody has imported pydantic, and so nothing is one."""
    if "pydantic" not in sys.modules:
        return None
    from . import pydantic_shapes

    return pydantic_shapes


def _hints(cls: type[Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise GraphValidationError(
            f"state class {cls.__name__}: the annotation names {error.name!r}, which is not found in module "
            f"{cls.__module__}; import it there outside TYPE_CHECKING and outside functions"
        ) from error
    except (TypeError, SyntaxError) as error:
        raise GraphValidationError(f"state class {cls.__name__}: an annotation does not evaluate: {error}") from error


def _dataclass_default(field: dataclasses.Field[Any]) -> Factory | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    value = field.default
    if value is dataclasses.MISSING:
        return None
    if (models := _models()) is not None and isinstance(value, models.FieldInfo):
        factory: Factory | None = models.default_of(value)  # pydantic.Field in a pydantic dataclass
        return factory
    return lambda: value
