"""The ``retinue`` command: subcommands, and what is said without one."""

from __future__ import annotations

from typing import Annotated

import typer

from retinue.cli import (
    checkpoint,
    config,
    demo,
    doctor,
    evaluate,
    migrate,
    predict,
    run,
    train,
    zoo,
)
from retinue.cli.common import command

__all__ = ["app", "main"]

app = typer.Typer(
    name="retinue",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Object detection and segmentation: train, evaluate and use models. Start with"
    " [bold]retinue demo[/].",
)
command(app, name="demo")(demo.demo)
command(app, name="train")(train.train)
command(app, name="eval")(evaluate.evaluate)
command(app, name="predict")(predict.predict)
app.add_typer(config.app, name="config")
app.add_typer(zoo.app, name="zoo")
run.add_run(app)
command(app, name="migrate")(migrate.migrate)
command(app, name="convert")(checkpoint.convert)
app.add_typer(checkpoint.app, name="checkpoint")
command(app, name="doctor")(doctor.doctor)


def _print_version(value: bool) -> None:
    if value:
        from retinue import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()
