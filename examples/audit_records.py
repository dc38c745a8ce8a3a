"""What the audit hands around: plain dicts of JSON values, so that they can be state of a graph."""

from __future__ import annotations

from typing import TypedDict

MAX_ARGUMENTS = 7
MAX_NESTING = 5
COMPLEXITY = 10
"""McCabe's own limit for one function."""

RULES = {
    "syntax-error": "does not parse, so nothing else in it was checked",
    "encoding-error": "its bytes do not decode by the encoding that it declares",
    "unreadable": "could not be read",
    "assert-on-tuple": "a tuple that is not empty is true: the assertion can never fail",
    "mutable-default": "the default is made once and shared by all calls",
    "bare-except": "catches SystemExit and KeyboardInterrupt too",
    "none-comparison": "== asks the object's __eq__; `is None` does not",
    "star-import": "hides where names come from",
    "unused-global": "declared global, but not assigned there",
    "shadowed-builtin": "the built-in of that name is out of reach there",
    "too-complex": "more paths than one can hold in mind or test",
    "too-many-arguments": f"takes more than {MAX_ARGUMENTS}",
    "deep-nesting": f"blocks within blocks, more than {MAX_NESTING} deep",
}
"""Every rule, the gravest first, and why it matters."""


class Finding(TypedDict):
    """One thing to look at. `symbol` is the function, class or name concerned, empty for a whole file."""

    path: str
    line: int
    rule: str
    symbol: str
    message: str


class FunctionReport(TypedDict):
    """A function's measures; `depth` is that of its deepest nested block, `lines` counts from `def` to the end."""

    path: str
    line: int
    name: str
    lines: int
    complexity: int
    depth: int
    arguments: int


class ModuleReport(TypedDict):
    """What `analyse` found in one file."""

    path: str
    module: str
    """Dotted name, by the `__init__.py` files around it."""
    lines: int
    functions: list[FunctionReport]
    findings: list[Finding]
    todos: int
    documentable: int
    """The module and its public classes and functions."""
    undocumented: int
    """How many of these have no docstring."""


class Totals(TypedDict):
    """The measures of a file or of a package, added up; `worst` is the highest complexity."""

    name: str
    modules: int
    lines: int
    functions: int
    worst: int
    findings: int
    todos: int
    documentable: int
    undocumented: int


class Summary(TypedDict):
    """What `merge` makes of the reports. Findings are those of the rules, without `too-complex`."""

    total: Totals
    packages: list[Totals]
    files: list[Totals]
    rules: dict[str, int]
    worst: list[FunctionReport]
    """The most complex functions, at most 25."""
