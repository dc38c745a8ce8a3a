"""The options that choose threads, for all commands that do something to many."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Annotated, Any

import typer

from ...stores.records import Status
from ..choosing import Where
from .call import Answer, Call
from .inputs import load_named, read_pairs

_PANEL = "Which threads (all conditions have to hold)"


def _option(name: str, kind: Any, help: str, *, metavar: str | None = None) -> inspect.Parameter:
    option = typer.Option(f"--{name}", help=help, metavar=metavar, rich_help_panel=_PANEL)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


_OPTIONS = (
    _option("thread", list[str] | None, "This one; may be repeated.", metavar="ID"),
    _option("graph", str | None, "Of the graph with this name.", metavar="NAME"),
    _option("status", list[Status] | None, "That stand so; may be repeated."),
    _option("tag", str | None, "With this tag.", metavar="TAG"),
    _option("metadata", list[str] | None, "With this metadata; may be repeated.", metavar="KEY=VALUE"),
    _option("error", str | None, "Whose reason contains this.", metavar="TEXT"),
    _option("since", datetime | None, "Made from then on (local time)."),
    _option("until", datetime | None, "Made before (local time)."),
    _option(
        "history",
        str | None,
        "With a row of its history table for which this holds (pyarrow).",
        metavar="MODULE:EXPRESSION",
    ),
    _option("channels", str | None, "What --history looks at, as state.A and state.B.", metavar="A,B"),
)


def selecting(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """The function with options that choose threads, in place of its argument `where`, which is given the conditions;
    an empty dict where there are none."""

    @wraps(function)
    def run(call: Call, **given: Any) -> Answer:
        conditions = {option.name: given.pop(option.name, None) for option in _OPTIONS}
        return function(call, where=_where(**conditions), **given)

    own = [one for one in inspect.signature(function, eval_str=True).parameters.values() if one.name != "where"]
    kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own[1:]]
    run.__signature__ = inspect.Signature([own[0], *kept, *_OPTIONS])  # type: ignore[attr-defined]
    return run


def _where(
    *,
    thread: list[str] | None,
    graph: str | None,
    status: list[Status] | None,
    tag: str | None,
    metadata: list[str] | None,
    error: str | None,
    since: datetime | None,
    until: datetime | None,
    history: str | None,
    channels: str | None,
) -> Where:
    where: Where = {}
    if thread:
        where["threads"] = thread
    if graph is not None:
        where["graph"] = graph
    if status:
        where["status"] = status
    if tag is not None:
        where["tag"] = tag
    if metadata:
        where["metadata"] = read_pairs(metadata, "--metadata")
    if error is not None:
        where["error"] = error
    if since is not None:
        where["since"] = since.astimezone()
    if until is not None:
        where["until"] = until.astimezone()
    if history is not None:
        where["history"] = load_named(history, "expression")
    if channels is not None:
        where["channels"] = channels.split(",")
    return where
