"""The three kinds of class that a state can be written as: TypedDict, dataclass, pydantic model."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, ClassVar, Literal, TypeAlias, cast, get_type_hints

from pydantic import BaseModel, RootModel, ValidationError, create_model
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from .annotations import unwrap
from .errors import GraphValidationError, StateValidationError

Kind: TypeAlias = Literal["typeddict", "dataclass", "pydantic"]
Factory: TypeAlias = Callable[[], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One key of a state class."""

    annotation: Any
    """Without `Annotated`."""
    metadata: tuple[Any, ...]
    default: Factory | None
    """Makes its default value; None if it has none."""


class Shape(ABC):
    """One state class: its fields, and how it is built and read."""

    kind: ClassVar[Kind]

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls
        self.name = cls.__name__
        self.fields: dict[str, Field] = self._fields()

    def __reduce__(self) -> tuple[type[Shape], tuple[type[Any]]]:
        return type(self), (self.cls,)  # validators are made anew where a graph is loaded

    @abstractmethod
    def _fields(self) -> dict[str, Field]:
        """The class's keys, in order."""

    @abstractmethod
    def build(self, values: dict[str, Any]) -> Any:
        """What a node is handed. Raises `StateValidationError` naming the field."""

    def check(self, field: str, value: Any) -> Any:
        """One field's value, validated. Raises `StateValidationError`."""
        return value


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
        except ValidationError as error:  # a pydantic dataclass
            raise _misfit(self.name, error) from error
        except Exception as error:  # a user's __post_init__ may raise anything
            lacking = [name for name, field in self.fields.items() if field.default is None and name not in values]
            detail = "no value yet; give it in the input, or give the field a default" if lacking else _said(error)
            raise StateValidationError(self.name, lacking, detail) from error


class PydanticShape(Shape):
    """A pydantic model: nodes get a validated instance, and what they return for a field is validated by itself."""

    kind = "pydantic"

    def __init__(self, cls: type[BaseModel]) -> None:
        self.model = cls
        self._checkers: dict[str, type[BaseModel]] = {}
        super().__init__(cls)

    def _fields(self) -> dict[str, Field]:
        try:
            self.model.model_rebuild()
        except Exception as error:
            raise GraphValidationError(f"state class {self.name}: {_said(error)}") from error
        return {
            name: Field(*_merged(unwrap(info.annotation), info.metadata), _pydantic_default(info))
            for name, info in self.model.model_fields.items()
        }

    def build(self, values: dict[str, Any]) -> Any:
        try:
            return self.model.model_validate(values, by_name=True)
        except ValidationError as error:
            raise _misfit(self.name, error) from error

    def check(self, field: str, value: Any) -> Any:
        checker = self._checkers.get(field) or self._checker(field)
        try:
            return checker.model_validate({"value": value}, by_name=True).value  # type: ignore[attr-defined]
        except ValidationError as error:
            raise _misfit(self.name, error, field) from error

    def _checker(self, field: str) -> type[BaseModel]:
        """A model of this one field, under the state's own config (a bare TypeAdapter would not take it)."""
        info = self.model.model_fields[field]
        annotation = cast(Any, info.annotation)
        checker = create_model(
            f"{self.name}_{field}", __config__=self.model.model_config, value=(annotation, copy(info))
        )
        self._checkers[field] = checker
        return checker


def shape_of(cls: Any) -> Shape:
    """The shape of a state class. Raises `GraphValidationError` for anything else."""
    if is_typeddict(cls):
        return TypedDictShape(cls)
    if isinstance(cls, type):
        if issubclass(cls, RootModel):
            raise GraphValidationError(
                f"state class {cls.__name__} is a RootModel, which has no keys; use a BaseModel with fields"
            )
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            return PydanticShape(cls)
        if dataclasses.is_dataclass(cls):
            return DataclassShape(cls)
    raise GraphValidationError(
        f"{cls!r} cannot be a state; write it as a TypedDict, a dataclass or a pydantic BaseModel"
    )


def is_state_class(cls: Any) -> bool:
    """Whether a class can be a state and has keys of its own (`BaseModel` itself has none)."""
    if is_typeddict(cls):
        return bool(cls.__annotations__)
    if not isinstance(cls, type) or issubclass(cls, RootModel):
        return False
    if issubclass(cls, BaseModel):
        return bool(cls.model_fields)
    return dataclasses.is_dataclass(cls) and bool(dataclasses.fields(cls))


def read_instance(value: Any) -> dict[str, Any] | None:
    """What an instance that a node returned says about each key; None if it is neither a model nor a dataclass.

    Of a model only the fields that were set.
    """
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in value.model_fields_set}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    return None


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
    if isinstance(value, FieldInfo):  # pydantic.Field in a pydantic dataclass
        return _pydantic_default(value)
    return lambda: value


def _pydantic_default(info: FieldInfo) -> Factory | None:
    if info.is_required() or info.default_factory_takes_validated_data:
        return None
    return lambda: info.get_default(call_default_factory=True)


def _merged(bare: tuple[Any, tuple[Any, ...]], metadata: Iterable[Any]) -> tuple[Any, tuple[Any, ...]]:
    return bare[0], (*bare[1], *metadata)


def _misfit(name: str, error: ValidationError, field: str = "") -> StateValidationError:
    found = error.errors(include_url=False, include_input=False)
    # A default that could not be derived only repeats that another field is wrong.
    own = [one for one in found if one["type"] != "default_factory_not_called"] or found
    places = [(".".join(map(str, one["loc"])), one["msg"]) for one in own]
    if field:
        places = [(f"{field}{where.removeprefix('value')}", text) for where, text in places]
    detail = "; ".join(f"{where}: {text}" if where else text for where, text in places)
    return StateValidationError(name, (where.partition(".")[0] for where, _ in places if where), detail)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
