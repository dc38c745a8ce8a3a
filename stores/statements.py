"""Reads the SQL files: what they say stays out of the Python code."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


@cache
def script(name: str) -> str:
    """The text of `stores/sql/<name>`."""
    return (files(__package__) / "sql" / name).read_text(encoding="utf-8")


def statements(name: str) -> dict[str, str]:
    """The statements of a file in which each begins with a line `-- name: ...`, by name, without comments."""
    parts = _NAME.split(script(name))[1:]
    return {key: _COMMENT.sub("", text).strip() for key, text in zip(parts[::2], parts[1::2], strict=True)}


def with_rows(statement: str, columns: int, rows: int) -> str:
    """The statement with `{rows}` filled in by that many tuples of parameters."""
    one = f"({', '.join('?' * columns)})"
    return statement.replace("{rows}", ", ".join([one] * rows))
