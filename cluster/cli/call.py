"""What all commands share: the common options, reaching the store, printing the answer, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ...stores.addresses import redacted
from ...stores.base import CheckpointStore
from ...stores.config import StoreConfig
from ...stores.keys import KEYS_VARIABLE, KeySource
from ...stores.records import SERVICE
from ..client import Client
from ..connect import DEFAULT_STORE, connect
from ..endpoint import HeadError, HeadOptions
from ..errors import ClientError
from ..handle import ThreadHandle
from ..head import running_head
from ..reader import Reader
from .documents import error_document
from .exits import Exit, code_of
from .views import printable

STORE_VARIABLE, ADDRESS_VARIABLE = "PERDURE_STORE", "PERDURE_ADDRESS"
WIDE = 10_000
"""Columns where the output is no terminal: nothing is cut off for a script that reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command has to say."""

    document: Any
    """With --json: all of it."""
    shown: tuple[RenderableType, ...] = ()
    """Else: this on stdout..."""
    notes: tuple[str, ...] = ()
    """...and these lines on stderr."""
    code: Exit = Exit.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One use of the command line: what was given for all commands alike."""

    store: str = DEFAULT_STORE
    keys_file: str | None = None
    address: str | None = None
    json: bool = False
    debug: bool = False

    @property
    def config(self) -> StoreConfig:
        """How the store is opened; its keys come from --keys-file, else from the environment. Raises `StoreMisuse`."""
        source = None
        if self.keys_file:
            source = KeySource(path=os.path.abspath(self.keys_file))
        elif os.environ.get(KEYS_VARIABLE):
            source = KeySource(variable=KEYS_VARIABLE)
        return StoreConfig(url=self.store, keys=source)

    @property
    def terminal(self) -> Console | None:
        """Where a live line may be drawn, if there is such a place."""
        console = Console(stderr=True)
        return console if console.is_terminal else None

    def note(self, text: str) -> None:
        """A line for people."""
        if not self.json:
            Console(stderr=True).print(Text(printable(text)), soft_wrap=True)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """The store's threads, without a cluster; a memory store is read from the head that holds it, if one runs.

        Raises `StoreMissing` where there is no store: reading creates none.
        """
        with self.opened() as store:
            yield Reader(store)

    @contextmanager
    def opened(self) -> Iterator[CheckpointStore]:
        """The store itself, for those that look after it. As `reading`."""
        if not self.config.in_memory:
            with self.config.open(create=False) as store:
                yield store
            return
        if self.address is None and running_head() is None:
            raise HeadError("no local head runs, so there is no memory store; start one with `perdure up`")
        with self.connected() as client:
            yield client.store

    @contextmanager
    def connected(
        self, head: HeadOptions | None = None, *, max_actors: int | None = None, shards: int | None = None
    ) -> Iterator[Client]:
        """A client of the service; starts a local head where that is needed."""
        terminal = self.terminal
        with terminal.status("connecting to the cluster") if terminal else nullcontext():
            client = connect(self.config, address=self.address, head=head, max_actors=max_actors, shards=shards)
        with client:
            yield client

    @contextmanager
    def thread(self, thread_id: str) -> Iterator[tuple[Client, ThreadHandle]]:
        """A client, and the handle of a thread. Raises `UnknownThread` before any head is started for a mistyped id."""
        with self.reading() as reader:
            record = reader.thread(thread_id)
        if record.driver != SERVICE:
            raise ClientError(
                f"thread {thread_id!r} belongs to a program that runs it in its own process by invoke(); a service "
                "cannot steer it"
            )
        with self.connected() as client:
            yield client, client.thread(thread_id)

    def again(self, command: str, *words: str) -> str:
        """A command line of `perdure` that means the same store and cluster as this one."""
        line = ["perdure", command, *words]
        if self.store != (os.environ.get(STORE_VARIABLE) or DEFAULT_STORE):
            line += ["--store", redacted(self.store)]
        if self.keys_file:
            line += ["--keys-file", self.keys_file]
        if self.address is not None and self.address != os.environ.get(ADDRESS_VARIABLE):
            line += ["--address", self.address]
        return shlex.join(line)

    def finish(self, answer: Answer) -> None:
        """Print the answer and end with its exit code."""
        if self.json:
            print(json.dumps(answer.document))
        else:
            out = Console()
            if not out.is_terminal:
                out = Console(width=WIDE)
            for number, renderable in enumerate(answer.shown):
                if number and isinstance(renderable, Table):
                    out.print()
                out.print(renderable, soft_wrap=isinstance(renderable, Text))
        for text in answer.notes:
            self.note(text)
        raise typer.Exit(answer.code)

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, in one line, and end with the exit code that means it."""
        code = code_of(error)
        message = str(error) or ("stopped by Ctrl-C" if code is Exit.LEFT else type(error).__name__)
        if code is Exit.INTERNAL:
            message = f"{type(error).__name__}: {message} (an error of Perdure itself; --debug shows where)"
        if self.debug:
            traceback.print_exception(error)
        if self.json:
            print(json.dumps(error_document(error, message, code)))
        self.note(f"perdure: {message}")
        raise typer.Exit(code)


_EVERYWHERE = "Options of all commands"
_STORE = Annotated[
    str,
    typer.Option(
        envvar=STORE_VARIABLE,
        metavar="URL",
        help="The store with the threads. A password is better kept out of command lines, which other users see: put "
        f"the URL into {STORE_VARIABLE}.",
        show_default=True,
        rich_help_panel=_EVERYWHERE,
    ),
]
_KEYS = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help=f"Keys of an encrypted store, lines of id:base64, the active one first; else {KEYS_VARIABLE} holds them.",
        rich_help_panel=_EVERYWHERE,
    ),
]
_ADDRESS = Annotated[
    str | None,
    typer.Option(
        envvar=ADDRESS_VARIABLE,
        metavar="ADDRESS",
        help="A Ray cluster (auto, host:port, ray://...), in place of the local head.",
        rich_help_panel=_EVERYWHERE,
    ),
]
_JSON = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, errors too.", rich_help_panel=_EVERYWHERE)
]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Tracebacks of errors.", rich_help_panel=_EVERYWHERE)]


def _option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


_WHERE = (
    _option("store", _STORE, DEFAULT_STORE),
    _option("keys_file", _KEYS, None),
    _option("address", _ADDRESS, None),
)
_HOW = (_option("json", _JSON, False), _option("debug", _DEBUG, False))


def command(function: Callable[..., Answer], *, anywhere: bool = False) -> Callable[..., None]:
    """The command that typer is given for `function`: it takes the common options too (`anywhere`: not those that say
    where), prints the answer, and turns errors into a line and an exit code."""
    common = _HOW if anywhere else (*_WHERE, *_HOW)
    names = [option.name for option in common]

    @wraps(function)
    def run(**given: Any) -> None:
        call = Call(**{name: given.pop(name) for name in names})
        try:
            answer = function(call, **given)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 — each has its line and its exit code
            call.fail(error)
        else:
            call.finish(answer)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    options = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([*options, *common])  # type: ignore[attr-defined]
    return run
