"""The checks of one syntax tree, all made in a single walk."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .audit_records import MAX_ARGUMENTS, MAX_NESTING

BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})
SITE_NAMES = frozenset({"copyright", "credits", "license", "exit", "quit"})
"""Put among the built-ins for the interactive prompt; programs do not call them."""
BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_")) - SITE_NAMES


@dataclass(eq=False)
class Scope:
    """A module, class or function while it is walked."""

    name: str
    """Dotted, without the module's; empty for the module."""
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    outer: Scope | None = None
    decisions: int = 0
    """Paths that its nodes add; those of a function's nested classes are the function's."""
    depth: int = 0
    """How deep its blocks nest."""
    bound: dict[str, int] = field(default_factory=dict)
    """Line of each name's first binding."""
    globals: dict[str, int] = field(default_factory=dict)
    """Line of each name's `global` statement."""

    @property
    def function(self) -> Scope | None:
        """The nearest function around, or itself."""
        scope: Scope | None = self
        while scope and not isinstance(scope.node, FUNCTIONS):
            scope = scope.outer
        return scope


class Problem(NamedTuple):
    """A finding before it is known in which file it was."""

    line: int
    rule: str
    symbol: str
    message: str


def walk(tree: ast.Module) -> tuple[list[Scope], list[Problem]]:
    """Visit every node with its scope and its depth of nesting: the scopes, the module's first, and the problems.

    On a stack of its own, since generated files nest deeper than Python's recursion reaches.
    """
    scopes = [Scope("", tree)]
    problems: list[Problem] = []
    pending: list[tuple[ast.AST, Scope, int]] = [(tree, scopes[0], 0)]
    while pending:
        node, scope, depth = pending.pop()
        problems.extend(_node_problems(node, scope))
        if function := scope.function:
            function.decisions += _decisions(node)
            function.depth = max(function.depth, depth)
        for name in _bindings(node):
            line = getattr(node, "lineno", 1)
            scope.bound[name] = min(scope.bound.get(name, line), line)
        if isinstance(node, ast.Global):
            scope.globals.update(dict.fromkeys(node.names, node.lineno))
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            inner = Scope(f"{scope.name}.{node.name}".lstrip("."), node, scope)
            scopes.append(inner)
            within, level = inner, 0
        else:
            within, level = scope, depth
        outside = _evaluated_outside(node)
        for child in ast.iter_child_nodes(node):
            if any(child is part for part in outside):
                pending.append((child, scope, depth))
            else:
                pending.append((child, within, level + (isinstance(child, BLOCKS) and not _is_elif(child, node))))
    return scopes, problems


def _evaluated_outside(node: ast.AST) -> list[ast.expr]:
    """Parts of a definition that run around it, not within it. (Defaults hang below `arguments`: they count within.)"""
    match node:
        case ast.FunctionDef(decorator_list=parts) | ast.AsyncFunctionDef(decorator_list=parts):
            return [*parts, node.returns] if node.returns else parts
        case ast.ClassDef(decorator_list=parts, bases=bases):
            return [*parts, *bases]
    return []


def _is_elif(child: ast.AST, parent: ast.AST) -> bool:
    match parent, child:
        case ast.If(orelse=[only]), ast.If():
            return only is child and child.col_offset == parent.col_offset
    return False


def _decisions(node: ast.AST) -> int:
    """How many paths a node adds. T. J. McCabe, "A Complexity Measure", IEEE Transactions on Software Engineering
    SE-2(4), 1976: v(G) = e - n + 2p, which for structured code is the number of simple conditions plus one; a compound
    condition counts each of its parts. An `assert` is no path of the program."""
    match node:
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
            return 1
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=ifs):
            return 1 + len(ifs)
        case ast.match_case(pattern=pattern, guard=guard):
            # The last resort `case _:` is the path that is there anyway.
            return int(not (isinstance(pattern, ast.MatchAs) and pattern.pattern is None)) + (guard is not None)
    return 0


def _bindings(node: ast.AST) -> Iterator[str]:
    """Names that a node binds in its scope."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.alias(name=name, asname=asname) if name != "*":
            yield asname or name.split(".")[0]


def _node_problems(node: ast.AST, scope: Scope) -> Iterator[Problem]:
    match node:
        case ast.ExceptHandler(type=None):
            yield Problem(node.lineno, "bare-except", scope.name, "except: without an exception type")
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            origin = "." * node.level + (node.module or "")
            yield Problem(node.lineno, "star-import", scope.name, f"from {origin} import *")
        case ast.Assert(test=ast.Tuple(elts=[_, *_])):
            yield Problem(node.lineno, "assert-on-tuple", scope.name, "assert (condition, message)")
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for operator, (one, other) in zip(ops, zip([left, *comparators], comparators, strict=False), strict=False):
                if isinstance(operator, ast.Eq | ast.NotEq) and (_is_none(one) or _is_none(other)):
                    sign = "==" if isinstance(operator, ast.Eq) else "!="
                    yield Problem(node.lineno, "none-comparison", scope.name, f"{sign} None")
        case ast.arguments(defaults=defaults, kw_defaults=kw_defaults):
            for default in (*defaults, *kw_defaults):
                if default is not None and _is_mutable(default):
                    kind = "call" if isinstance(default, ast.Call) else type(default).__name__.lower()
                    yield Problem(default.lineno, "mutable-default", scope.name, f"a {kind} as default")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_mutable(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MUTABLE_CALLS
    return isinstance(node, MUTABLE)


def scope_problems(scope: Scope) -> Iterator[Problem]:
    """What shows only once the whole scope is known."""
    for name, line in scope.globals.items():
        if scope.outer is None:
            yield Problem(line, "unused-global", name, "global at the module's own level does nothing")
        elif name not in scope.bound:
            yield Problem(line, "unused-global", name, f"global {name}, but {scope.name} does not assign it")
    # Names of a class's body are reached through the class: no built-in is hidden by them.
    if not isinstance(scope.node, ast.ClassDef):
        for name in scope.bound.keys() & BUILTINS:
            where = scope.name or "the module"
            yield Problem(scope.bound[name], "shadowed-builtin", name, f"{name} is bound in {where}")
    if isinstance(scope.node, FUNCTIONS):
        line, count = scope.node.lineno, arguments(scope)
        if count > MAX_ARGUMENTS:
            yield Problem(line, "too-many-arguments", scope.name, f"{count} arguments")
        if scope.depth > MAX_NESTING:
            yield Problem(line, "deep-nesting", scope.name, f"{scope.depth} blocks deep")


def arguments(scope: Scope) -> int:
    """How many arguments a function takes, without the `self` or `cls` of a method."""
    assert isinstance(scope.node, FUNCTIONS)
    args = scope.node.args
    count = len(args.posonlyargs) + len(args.args) + len(args.kwonlyargs)
    static = any(isinstance(name, ast.Name) and name.id == "staticmethod" for name in scope.node.decorator_list)
    bound = scope.outer is not None and isinstance(scope.outer.node, ast.ClassDef) and not static
    return count - (bound and bool(args.posonlyargs or args.args))


def is_public(scope: Scope) -> bool:
    """Whether it deserves a docstring: not within a function, and no name on the way to it begins with `_`."""
    outside = scope.outer
    while outside is not None:
        if isinstance(outside.node, FUNCTIONS):
            return False
        outside = outside.outer
    return not any(part.startswith("_") for part in scope.name.split("."))
