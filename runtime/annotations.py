"""Reading the annotations of a state class."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin

from typing_extensions import ReadOnly

_QUALIFIERS = (Required, NotRequired, ReadOnly)


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and the `Annotated` metadata, without Required, NotRequired and ReadOnly, however they nest."""
    metadata: tuple[Any, ...] = ()
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            metadata = (*annotation.__metadata__, *metadata)
            annotation = annotation.__origin__
        elif origin in _QUALIFIERS:
            annotation = get_args(annotation)[0]
        else:
            return annotation, metadata


def describe(annotation: Any) -> str:
    """A type as text that is the same in every process: no addresses, and no module names, since a script's own module
    is called `__main__` only where it is run."""
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, list):
        return f"[{', '.join(map(describe, annotation))}]"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(annotation.__origin__)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin is Union or origin is UnionType:
        return " | ".join(map(describe, args))
    if origin is not None and args:
        return f"{describe(origin)}[{', '.join(map(describe, args))}]"
    return str(getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None) or annotation)
