"""States that are pydantic models. Imported only where pydantic is: it takes a worker a fifth of a second."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any, cast

from pydantic import BaseModel, RootModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from .annotations import unwrap
from .errors import GraphValidationError, StateValidationError
from .shape import Factory, Field, Shape, said


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
            raise GraphValidationError(f"state class {self.name}: {said(error)}") from error
        return {
            name: Field(*_merged(unwrap(info.annotation), info.metadata), default_of(info))
            for name, info in self.model.model_fields.items()
        }

    def build(self, values: dict[str, Any]) -> Any:
        try:
            return self.model.model_validate(values, by_name=True)
        except ValidationError as error:
            raise misfit(self.name, error) from error

    def check(self, field: str, value: Any) -> Any:
        checker = self._checkers.get(field) or self._checker(field)
        try:
            return checker.model_validate({"value": value}, by_name=True).value  # type: ignore[attr-defined]
        except ValidationError as error:
            raise misfit(self.name, error, field) from error

    def _checker(self, field: str) -> type[BaseModel]:
        """A model of this one field, under the state's own config (a bare TypeAdapter would not take it)."""
        info = self.model.model_fields[field]
        annotation = cast(Any, info.annotation)
        checker = create_model(
            f"{self.name}_{field}", __config__=self.model.model_config, value=(annotation, copy(info))
        )
        self._checkers[field] = checker
        return checker


def shape_of(cls: type) -> Shape | None:
    """The shape of a state class that is a model; None for what is none. Raises `GraphValidationError` for a model
    without keys."""
    if issubclass(cls, RootModel):
        raise GraphValidationError(
            f"state class {cls.__name__} is a RootModel, which has no keys; use a BaseModel with fields"
        )
    return PydanticShape(cls) if issubclass(cls, BaseModel) and cls is not BaseModel else None


def has_keys(cls: type[BaseModel]) -> bool:
    """Whether a model has fields of its own names."""
    return not issubclass(cls, RootModel) and bool(cls.model_fields)


def default_of(info: FieldInfo) -> Factory | None:
    """What makes a field's default; None if it has none, or one that other fields decide."""
    if info.is_required() or info.default_factory_takes_validated_data:
        return None
    return lambda: info.get_default(call_default_factory=True)


def misfit(name: str, error: ValidationError, field: str = "") -> StateValidationError:
    """What pydantic found wrong with a state, or with one field of it."""
    found = error.errors(include_url=False, include_input=False)
    # A default that could not be derived only repeats that another field is wrong.
    own = [one for one in found if one["type"] != "default_factory_not_called"] or found
    places = [(".".join(map(str, one["loc"])), one["msg"]) for one in own]
    if field:
        places = [(f"{field}{where.removeprefix('value')}", text) for where, text in places]
    detail = "; ".join(f"{where}: {text}" if where else text for where, text in places)
    return StateValidationError(name, (where.partition(".")[0] for where, _ in places if where), detail)


def _merged(bare: tuple[Any, tuple[Any, ...]], metadata: Iterable[Any]) -> tuple[Any, tuple[Any, ...]]:
    return bare[0], (*bare[1], *metadata)
