"""The classes that a codec may store and build: those its graph's schema and allow-list name, no others."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StoreMisuse
from .classes import Form, class_name, form_of


class Catalog:
    """Storable classes by themselves and by name. Raises `StoreMisuse` if two share a name."""

    def __init__(self, types: Iterable[type]) -> None:
        self.types = frozenset(types)
        self._forms: dict[type, Form] = {}
        self._names: dict[str, Form] = {}
        for cls in self.types:
            form = form_of(cls)
            if form is None:
                continue
            twin = self._names.get(form.name)
            if twin is not None:
                raise StoreMisuse(
                    f"the state schema or allow-list holds two classes named {form.name}; stored values could not tell "
                    "them apart: rename one, or define them at module level"
                )
            self._forms[cls] = self._names[form.name] = form

    def of(self, cls: type) -> Form | None:
        """How instances of exactly `cls` are stored; None if it is not listed or cannot be stored."""
        return self._forms.get(cls)

    def named(self, name: str) -> Form | None:
        """The listed class of this name."""
        return self._names.get(name)


def hint_for(value: object) -> str:
    """What a user can do about a value that cannot be stored."""
    cls = type(value)
    if form_of(cls) is not None:
        return f"name {class_name(cls)} in the graph's state schema, or allow it with compile(allow=[{cls.__name__}])"
    for base in (dict, list, str, bytes, bytearray, int, float, tuple, set, frozenset):
        if isinstance(value, base):
            name = base.__name__
            return f"it is a subclass of {name} and would not come back as one; convert it with {name}(...)"
    return "keep it out of the state and make it inside the node, or hold its data in a dataclass or a pydantic model"
