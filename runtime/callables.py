"""What the functions that a user hands in look like: nodes and the paths of conditional edges."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import CodeType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from .commands import Command
from .errors import GraphValidationError

UserCallable: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]

_CONFIG_TYPES = frozenset({"RunnableConfig", "Config"})


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a user's callable without running it."""

    is_async: bool
    config: str
    """Name of the parameter that takes the run's config; empty if it takes none."""
    takes: Any
    """Annotation of its first parameter, None if there is none that resolves."""
    returns: Any
    """Annotation of what it returns, None if there is none that resolves."""
    commands: bool
    """Its code or annotation names `Command`, so it may lead anywhere."""


def traits_of(func: object, what: str, *, node: str = "") -> Traits:
    """Inspect a callable; `what` names it in errors ("node 'a'").

    Raises `GraphValidationError` for what cannot be called with (state) or (state, config), and for generators.
    """
    if not callable(func):
        raise GraphValidationError(f"{what} is {_shown(func)}, which cannot be called; {_advice(func)}", node=node)
    if isinstance(func, type):
        raise GraphValidationError(f"{what} is the class {func.__name__}; give a function or an instance", node=node)
    inner = _innermost(func)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise GraphValidationError(f"{what} is a generator; return one update instead of yielding several", node=node)
    first, config = _parameters(func, what, node)
    hints = _hints(inner)
    returns = hints.get("return")
    return Traits(
        is_async=inspect.iscoroutinefunction(inner),
        config=config,
        takes=hints.get(first),
        returns=returns,
        commands=_mentions_command(inner, returns),
    )


def name_of(func: object) -> str:
    """The name by which a callable is known: its own, or its class's. Empty for lambdas and the like."""
    while isinstance(func, partial):
        func = func.func
    name = getattr(func, "__name__", None) or type(func).__name__
    return "" if name == "<lambda>" else str(name)


def literals(annotation: object) -> tuple[Any, ...]:
    """The values of `Literal[...]`, or of a list or sequence of it; empty for anything else."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (list, tuple, Sequence):
        return tuple(value for part in get_args(annotation) for value in literals(part))
    return ()


def command_targets(annotation: object) -> tuple[str, ...]:
    """The nodes named by `Command[Literal[...]]` anywhere in a return annotation."""
    origin = get_origin(annotation)
    if origin is Command:
        return tuple(str(value) for part in get_args(annotation) for value in literals(part))
    if origin in (Union, UnionType, list, tuple, Sequence, Annotated):
        return tuple(name for part in get_args(annotation) for name in command_targets(part))
    return ()


def _innermost(func: object) -> Any:
    """The function whose code runs: behind partials, bound methods and callable objects."""
    while isinstance(func, partial):
        func = func.func
    if inspect.isroutine(func):
        return func
    return type(func).__call__


def _parameters(func: Callable[..., Any], what: str, node: str) -> tuple[str, str]:
    """Names of the first parameter and of the one that takes the config."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (ValueError, TypeError):  # a builtin that does not tell
        return "", ""
    bound = func.keywords if isinstance(func, partial) else {}
    positional = [
        one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)
    ]
    if not positional or positional[0].name in bound:
        raise GraphValidationError(f"{what} takes no state; declare it as (state) or (state, config)", node=node)
    first, config = positional[0], ""
    for one in parameters:
        if one is first or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.name in bound:
            continue
        if not config and one.kind is not one.POSITIONAL_ONLY and _is_config(one):
            config = one.name
        elif one.default is one.empty:
            raise GraphValidationError(
                f"{what} needs a parameter {one.name!r} that nobody passes; take (state) or (state, config), give it a "
                "default, or bind it with functools.partial",
                node=node,
            )
    return first.name, config


def _is_config(parameter: inspect.Parameter) -> bool:
    if parameter.name == "config":
        return True
    note = parameter.annotation
    if isinstance(note, str):
        names = {part.strip().rpartition(".")[2] for part in note.removeprefix("Optional[").rstrip("]").split("|")}
    else:
        names = {getattr(part, "__name__", "") for part in (get_args(note) or (note,)) if part is not NoneType}
    return bool(names & _CONFIG_TYPES)


def _hints(func: Any) -> dict[str, Any]:
    """Its resolved annotations; none if one names what exists only for type checkers."""
    try:
        return get_type_hints(func, include_extras=True)
    except Exception:  # noqa: BLE001 — an annotation is an arbitrary expression; without it the graph still works
        return {}


def _mentions_command(func: Any, returns: object) -> bool:
    code = getattr(inspect.unwrap(func), "__code__", None)
    if isinstance(code, CodeType) and "Command" in {*code.co_names, *code.co_freevars}:
        return True
    return returns is Command or any(part is Command for part in get_args(returns))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _advice(value: object) -> str:
    if hasattr(value, "invoke"):
        return "wrap it in a function: lambda state: thing.invoke(state)"
    return "give a function of the state"
