"""One class that a state can be written as: its fields, and how it is built and read."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

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


def said(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}"
