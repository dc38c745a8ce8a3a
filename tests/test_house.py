"""The house: which module may import which; and ruff and mypy over all of it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {"stores": 1, "runtime": 2, "actors": 3, "cluster": 4}

BESIDE = ("examples", "saver", "testing")
"""Folders that use the floors, and that no floor uses."""

STORES_FOR_RUNTIME = {
    *("base", "records", "operations", "segments", "columns", "strands", "deltas", "codec"),
    *("history", "segment_reading", "lineage", "errors", "processes", "tidying"),
}

DRIVERS = {
    "ray": ("actors/*", "cluster/*"),
    "sqlite3": ("stores/sqlite*.py",),
    "psycopg": ("stores/postgres*.py",),
    "psycopg_pool": ("stores/postgres*.py",),
    "redis": ("stores/redis*.py",),
}

INSIDE_FUNCTIONS: dict[tuple[str, str], str] = {
    ("stores/urls.py", "perdure.stores.postgres"): "needs a driver that is installed only where it is used",
    ("stores/urls.py", "perdure.stores.redis"): "needs a driver that is installed only where it is used",
    ("stores/urls.py", "perdure.stores.encryption"): "needs a library that is installed only where it is used",
    ("runtime/shapes.py", "perdure.runtime.pydantic_shapes"): "needs pydantic, whose import takes each worker 0.2 s",
    ("cluster/compare_page.py", "perdure.cluster.compare_plots"): "needs matplotlib, only where a page is made",
}
"""(file, imported module) of each import that has to wait until a function is called, with the reason."""


class Import(NamedTuple):
    file: str
    """Path of the importing file, relative to the root."""
    line: int
    target: str
    """Dotted name of the module; a name taken from a module counts as that module."""
    absolute: bool
    in_function: bool
    for_types: bool
    """Under `if TYPE_CHECKING`: never executed."""


class House(NamedTuple):
    modules: dict[str, str]
    """Dotted name -> file."""
    imports: list[Import]


def build(root: Path) -> House:
    """Read every module of the floors and of the folders beside them."""
    modules = {"perdure": "__init__.py"}
    for folder in (*FLOORS, *BESIDE):
        for path in sorted((root / folder).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            modules["perdure." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")] = file
    imports: list[Import] = []
    for name, file in modules.items():
        if (root / file).exists():
            package = name if file.endswith("__init__.py") else name.rpartition(".")[0]
            imports.extend(_imports(ast.parse((root / file).read_bytes(), file), file, package, modules))
    return House(modules, imports)


def _imports(tree: ast.Module, file: str, package: str, modules: dict[str, str]) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while pending:
        node, in_function, for_types = pending.pop()
        for target, absolute in _targets(node, package, modules):
            yield Import(file, getattr(node, "lineno", 0), target, absolute, in_function, for_types)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            in_function = True
        typed = node.body if isinstance(node, ast.If) and _asks_for_types(node.test) else []
        pending.extend((child, in_function, for_types or child in typed) for child in ast.iter_child_nodes(node))


def _targets(node: ast.AST, package: str, modules: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """What a node imports, and whether by an absolute name."""
    match node:
        case ast.Import(names=names):
            yield from ((alias.name, True) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            parts = package.split(".")
            around = parts[: len(parts) - level + 1] if level else []
            base = ".".join([*around, module] if module else around)
            found = {full if (full := f"{base}.{alias.name}") in modules else base for alias in names}
            yield from ((target, level == 0) for target in sorted(found))
        case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
            # A literal name makes it an import in disguise; a computed one is how a user's graph is loaded.
            match node.args:
                case [ast.Constant(value=str(name)), *_]:
                    yield (package + name if name.startswith(".") else name), not name.startswith(".")


def _asks_for_types(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def floors(house: House) -> Iterator[str]:
    """Imports go downwards, and from runtime only to a part of the stores."""
    for found in house.imports:
        here = found.file.split("/")[0]
        target = found.target.split(".")
        if here not in FLOORS or target[0] != "perdure" or len(target) == 1:
            continue
        there = target[1]
        if FLOORS.get(there, 9) > FLOORS[here]:
            yield f"{_at(found)}: {here}/ may not import from {there}/, which is above it"
        elif (here, there) == ("runtime", "stores") and target[2:3] not in [[name] for name in STORES_FOR_RUNTIME]:
            yield f"{_at(found)}: of the stores runtime/ may only import {', '.join(sorted(STORES_FOR_RUNTIME))}"


def facade(house: House) -> Iterator[str]:
    """Inside the floors imports are relative and none reaches the root."""
    for found in house.imports:
        if found.file.split("/")[0] not in FLOORS:
            continue
        if found.target == "perdure":
            yield f"{_at(found)}: the facade is for users; import from the module that defines the name"
        elif found.absolute and found.target.startswith("perdure."):
            yield f"{_at(found)}: write the import relative"


def drivers(house: House) -> Iterator[str]:
    """Ray and the databases' drivers are imported where they belong and nowhere else."""
    for found in house.imports:
        homes = DRIVERS.get(found.target.split(".")[0]) if found.absolute else None
        if homes and not any(fnmatchcase(found.file, home) for home in homes):
            yield f"{_at(found)}: {found.target} may only be imported in {', '.join(homes)}"


def hidden(house: House) -> Iterator[str]:
    """No import inside a function."""
    for found in house.imports:
        if found.in_function and (found.file, found.target) not in INSIDE_FUNCTIONS:
            yield f"{_at(found)}: {found.target} is imported inside a function; INSIDE_FUNCTIONS has the exceptions"


def cycles(house: House) -> Iterator[str]:
    """No module needs, by whatever way, to be imported before itself."""
    names = {file: name for name, file in house.modules.items()}
    graph: dict[str, set[str]] = {name: set() for name in house.modules}
    for found in house.imports:
        if found.for_types or found.target not in house.modules:
            continue
        here = names[found.file]
        graph[here].update(_executed(here, found.target, house.modules) - {here})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " -> ".join(reversed(error.args[1]))


def _executed(here: str, target: str, modules: dict[str, str]) -> set[str]:
    """The target and the packages around it, whose __init__ runs first; those around `here` too have begun already.

    The root does not count: to a cycle that only goes through the facade, `facade` objects.
    """
    parts = target.split(".")
    around = {".".join(parts[:length]) for length in range(2, len(parts))}
    return {target} | {name for name in around if name in modules and not f"{here}.".startswith(f"{name}.")}


def _at(found: Import) -> str:
    return f"{found.file}:{found.line}"


RULES: list[Callable[[House], Iterator[str]]] = [floors, facade, drivers, hidden, cycles]


@pytest.fixture(scope="module")
def house() -> House:
    return build(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_the_house_keeps(rule: Callable[[House], Iterator[str]], house: House) -> None:
    assert list(rule(house)) == []


def test_every_exception_is_still_needed(house: House) -> None:
    used = {(found.file, found.target) for found in house.imports if found.in_function}
    assert [entry for entry in INSIDE_FUNCTIONS if entry not in used] == []
    assert [entry for entry, reason in INSIDE_FUNCTIONS.items() if not reason] == []


BROKEN = {
    "upwards": (floors, {"stores/a.py": "from ..runtime.b import x", "runtime/b.py": ""}),
    "upwards for types": (
        floors,
        {"stores/a.py": "if TYPE_CHECKING:\n    from ..runtime.b import x", "runtime/b.py": ""},
    ),
    "to examples": (floors, {"cluster/a.py": "from ..examples.b import x", "examples/b.py": ""}),
    "to the tests' helpers": (floors, {"stores/a.py": "from ..testing import x", "testing/__init__.py": ""}),
    "a backend in runtime": (floors, {"runtime/a.py": "from ..stores.sqlite import x", "stores/sqlite.py": ""}),
    "all stores in runtime": (floors, {"runtime/a.py": "from .. import stores", "stores/__init__.py": ""}),
    "the facade": (facade, {"cluster/a.py": "from .. import StateGraph"}),
    "the facade by name": (facade, {"cluster/a.py": "import perdure"}),
    "an absolute import": (facade, {"actors/a.py": "from perdure.stores.b import x", "stores/b.py": ""}),
    "ray below": (drivers, {"runtime/a.py": "import ray.util"}),
    "sqlite3 elsewhere": (drivers, {"stores/memory.py": "from sqlite3 import connect"}),
    "a driver in disguise": (drivers, {"stores/urls.py": "psycopg = importlib.import_module('psycopg')"}),
    "inside a function": (hidden, {"stores/a.py": "class A:\n    async def f(self):\n        import json"}),
    "a cycle": (
        cycles,
        {"stores/a.py": "from . import b", "stores/b.py": "from .c import x", "stores/c.py": "from .a import y"},
    ),
    "a cycle through a package": (
        cycles,
        {
            "stores/a.py": "from .codec.y import z",
            "stores/codec/__init__.py": "from ..a import x",
            "stores/codec/y.py": "",
        },
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_house_is_noticed(case: str, tmp_path: Path) -> None:
    rule, files = BROKEN[case]
    _write(tmp_path, files)
    assert len(list(rule(build(tmp_path)))) == 1


def test_a_sound_house_passes(tmp_path: Path) -> None:
    sources = {
        "stores/errors.py": "",
        "stores/codec/__init__.py": "from .values import Codec",
        "stores/codec/values.py": "from ..errors import Corrupt\nfrom . import types",
        "stores/codec/types.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .values import Codec",
        "stores/sqlite_schema.py": "import sqlite3",
        "stores/redis.py": "try:\n    import redis\nexcept ImportError:\n    redis = None",
        "runtime/loop.py": "from ..stores.codec import Codec\nfrom ..stores import errors",
        "actors/load.py": "import ray\nimport importlib\ndef load(name):\n    return importlib.import_module(name)",
        "cluster/client.py": "from ..actors.load import load\nfrom ..stores.sqlite_schema import x",
        "examples/audit.py": "from perdure import connect",
    }
    _write(tmp_path, sources)
    house = build(tmp_path)
    assert [message for rule in RULES for message in rule(house)] == []


def test_every_folder_with_code_is_packaged(house: House) -> None:
    """A folder that the list of packages forgets is there in an editable install and missing from the wheel."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {f"perdure/{file}".rpartition("/")[0].replace("/", ".") for file in house.modules.values()}
    assert folders - set(setuptools["packages"]) == set()


def test_the_package_is_loaded_by_one_name_only() -> None:
    """Pytest used to import the root a second time, under the name of the checkout's folder."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    names = {name for name, file in files.items() if file and Path(file).resolve() == ROOT / "__init__.py"}
    assert names <= {"perdure"}


def _write(root: Path, files: dict[str, str]) -> None:
    for file, source in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(source)


@pytest.mark.parametrize("tool", [["ruff", "check"], ["mypy"]], ids=["ruff", "mypy"])
def test_checkers_are_content(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
