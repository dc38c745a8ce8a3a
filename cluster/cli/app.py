"""The typer application: which commands there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .call import Answer, Call, command
from .comparing import compare
from .draining import drain
from .driving import attach, cancel, fork, pause, resume, retry, run, signal, update
from .exits import MEANINGS, Exit
from .exporting import export
from .heads import down, up, version
from .looking import diff, history, ls, show
from .many import cancel_many, delete_many, resume_many, signal_many, tag_many
from .moving import backup, copy, restore
from .porting import export_threads, import_threads
from .replay_checking import replay_check_command
from .rerunning import rerun
from .stepping import breakpoints, replay, step
from .storing import migrate, names, prune, stats, verify

_EPILOG = "\n\n".join(
    (
        "Exit codes:",
        *(f"{code.value}: {meaning}" for code, meaning in MEANINGS.items()),
        "With --json a value that JSON has no form for (bytes, sets, dates, NaN, instances of classes) is given as its "
        "repr, a tuple as a list.",
    )
)
_SEE = "For the exit codes: perdure --help"
_USAGE_ERRORS: Any = typer.BadParameter.__bases__
"""What typer raises for wrong usage; where that class lives depends on typer's version."""


class Group(TyperGroup):
    """Says wrong usage as JSON, where JSON was asked for."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line."""
        given = list(args) if args is not None else sys.argv[1:]
        as_json = standalone_mode and "--json" in given
        try:
            code = super().main(
                args, prog_name, complete_var, standalone_mode and not as_json, windows_expand_args, **extra
            )
        except _USAGE_ERRORS as error:
            if not as_json:
                raise
            print(json.dumps({"error": {"type": "UsageError", "message": error.format_message()}, "exit_code": 2}))
            code = Exit.USAGE
        return sys.exit(code) if as_json else code


app = typer.Typer(
    name="perdure",
    cls=Group,
    help="Durable graphs on Ray: submit them, watch them, steer them.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        Call().finish(version(Call()))


@app.callback()
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_THREADS: tuple[Callable[..., Answer], ...] = (
    run, attach, ls, show, history, diff, resume, signal, retry, cancel, pause, fork, rerun, compare, update, replay,
    step, breakpoints, export, up, drain
)  # fmt: skip
for _function in _THREADS:
    app.command(epilog=_SEE)(command(_function))
app.command(name="replay-check", epilog=_SEE)(command(replay_check_command))
for _function in (down, version):
    app.command(epilog=_SEE)(command(_function, anywhere=True))

_store = typer.Typer(
    help="Look after a store: sizes, retention, checks, copies, backups, threads in files.", no_args_is_help=True
)
for _function in (stats, prune, verify, backup, names, migrate):
    _store.command(epilog=_SEE)(command(_function))
for _function in (copy, restore):
    _store.command(epilog=_SEE)(command(_function, anywhere=True))
for _name, _function in (("export", export_threads), ("import", import_threads)):
    _store.command(name=_name, epilog=_SEE)(command(_function))
_many = typer.Typer(help="The same for many threads, which options choose.", no_args_is_help=True)
for _name, _function in (
    ("cancel", cancel_many),
    ("resume", resume_many),
    ("signal", signal_many),
    ("delete", delete_many),
    ("tag", tag_many),
):
    _many.command(name=_name, epilog=_SEE)(command(_function))
app.add_typer(_many, name="many")
app.add_typer(_store, name="store")
