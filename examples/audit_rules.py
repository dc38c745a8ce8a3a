"""The work of the audit: `list_modules`, `analyse` each, `merge` the reports, `render_markdown` what was found.

Pure and deterministic, and knows nothing of graphs: all it returns is made of dicts, lists, strings and numbers, and
does not depend on the order in which files were analysed. `audit.py` runs it as a durable graph.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sysconfig
import threading
import tokenize
from pathlib import Path

from .audit_checks import FUNCTIONS, Problem, Scope, arguments, is_public, scope_problems, walk
from .audit_records import COMPLEXITY, RULES, Finding, FunctionReport, ModuleReport, Summary, Totals
from .audit_report import findings, merge, render_markdown

__all__ = [
    "COMPLEXITY",
    "Finding",
    "FunctionReport",
    "ModuleReport",
    "RULES",
    "Summary",
    "Totals",
    "analyse",
    "findings",
    "list_modules",
    "merge",
    "render_markdown",
]

TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
INSTALLED = frozenset({"site-packages", "dist-packages", "__pycache__"})
PARSING = threading.Lock()
"""One at a time: Python 3.11 counts the depth of the tree that it builds for all threads together, and where the
garbage collector lets another thread parse in between, it ends in SystemError."""
TODO = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def list_modules(root: Path | str | None = None, *, tests: bool = False) -> list[str]:
    """Paths of the Python files below `root` (default: the standard library), absolute and sorted.

    Left out: installed packages, hidden folders, broken links, unprintable names and, unless `tests`, folders of tests.
    Links to folders are not followed. Raises `FileNotFoundError` where `root` is not a folder.
    """
    top = Path(root if root is not None else sysconfig.get_paths()["stdlib"]).absolute()
    if not top.is_dir():
        raise FileNotFoundError(f"{top} is not a folder; name one that holds Python files")
    skipped = INSTALLED if tests else INSTALLED | TEST_FOLDERS
    found: list[str] = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
        paths = [os.path.join(folder, name) for name in files if name.endswith(".py")]
        # A name whose bytes are no Unicode is unprintable, and could not be stored as text.
        found.extend(path for path in paths if os.path.isfile(path) and path.isprintable())
    return sorted(found)


def analyse(path: Path | str) -> ModuleReport:
    """Audit one file. Never raises for what the file holds: one that cannot be read or parsed is itself a finding."""
    path = str(path)
    report = ModuleReport(
        path=path,
        module=_module_name(Path(path)),
        lines=0,
        functions=[],
        findings=[],
        todos=0,
        documentable=0,
        undocumented=0,
    )
    source = _read(path)
    if isinstance(source, Problem):
        problems = [source]
    else:
        report["lines"] = source.count("\n") + (source != "" and not source.endswith("\n"))
        report["todos"] = _todos(source)
        tree = _parse(source, path)
        if isinstance(tree, Problem):
            problems = [tree]
        else:
            scopes, problems = walk(tree)
            problems += [problem for scope in scopes for problem in scope_problems(scope)]
            _measure(report, scopes)
    report["findings"] = [
        Finding(path=path, line=problem.line, rule=problem.rule, symbol=problem.symbol, message=problem.message)
        for problem in sorted(set(problems))
    ]
    return report


def _read(path: str) -> str | Problem:
    try:
        with tokenize.open(path) as file:
            return file.read()
    except OSError as error:
        return Problem(0, "unreadable", "", error.strerror or str(error))
    except SyntaxError as error:
        # The declared encoding is unknown, or is not that of the byte order mark.
        return Problem(0, "encoding-error", "", error.msg.replace(f" for {path!r}", ""))
    except (UnicodeError, LookupError) as error:
        return Problem(0, "encoding-error", "", str(error))


def _parse(source: str, path: str) -> ast.Module | Problem:
    try:
        with PARSING:
            return ast.parse(source, path)
    except SyntaxError as error:
        return Problem(error.lineno or 0, "syntax-error", "", error.msg)
    except (ValueError, RecursionError, MemoryError) as error:
        # NUL bytes are a ValueError in some versions; the others come from nesting that is too deep for the parser.
        return Problem(0, "syntax-error", "", str(error) or "nested too deeply for the parser")


def _module_name(path: Path) -> str:
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) or path.stem


def _measure(report: ModuleReport, scopes: list[Scope]) -> None:
    """Fill in the functions' measures and the count of docstrings."""
    for scope in scopes:
        node = scope.node
        if isinstance(node, FUNCTIONS):
            function = FunctionReport(
                path=report["path"],
                line=node.lineno,
                name=scope.name,
                lines=(node.end_lineno or node.lineno) - node.lineno + 1,
                complexity=scope.decisions + 1,
                depth=scope.depth,
                arguments=arguments(scope),
            )
            report["functions"].append(function)
        if is_public(scope):
            report["documentable"] += 1
            report["undocumented"] += ast.get_docstring(node, clean=False) is None
    report["functions"].sort(key=lambda function: (function["line"], function["name"]))


def _todos(source: str) -> int:
    """How many comments say so; a string that contains the word does not count."""
    if not TODO.search(source):
        return 0
    count = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            count += token.type == tokenize.COMMENT and TODO.search(token.string) is not None
    except (tokenize.TokenError, SyntaxError):
        # The tokenizer refuses some endings that the parser accepts; what it saw until there counts.
        return count
    return count
