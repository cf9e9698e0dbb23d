"""``retinue run``: run a program written for detectron2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.common import EXIT_WRONG_INPUT, fail, user_errors

__all__ = ["add_run"]

_SETTINGS = {  # what follows belongs to the program, --help included
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


def add_run(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run", context_settings=_SETTINGS)(run)


def run(
    context: typer.Context,
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT | -m MODULE | TOOL", help="With its arguments."),
    ] = None,
) -> None:
    """Run a program written for detectron2, unmodified: its `import detectron2` is retinue.

    `retinue run train_net.py --config-file ...` runs a script, `retinue run -m pytest tests` a
    module, as `python` would. `retinue run train_net ...` runs the script of that name that comes
    with detectron2; `retinue run --list` lists those.
    """
    if not program or program[0] in ("-h", "--help"):
        typer.echo(context.get_help())
        raise typer.Exit(0 if program else EXIT_WRONG_INPUT)
    from retinue.compat.runner import NoProgramError, run_program
    from retinue.compat.tools.table import describe, find_tool

    if program == ["--list"]:
        typer.echo(describe())
        return
    is_ours = find_tool(program[0]) is not None and not Path(program[0]).exists()
    start = user_errors(run_program) if is_ours else run_program
    try:
        start(program)  # a script's own errors end it with a traceback, as under Python
    except NoProgramError as error:
        fail(str(error))
        raise typer.Exit(EXIT_WRONG_INPUT) from None
