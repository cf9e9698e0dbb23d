"""``retinue config``: what a config says, how it differs from another, what keys there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from retinue.cli.common import Opts, check_opts, command

app = typer.Typer(
    no_args_is_help=True,
    help="Show and compare configs, and look up their keys.",
    add_completion=False,
)

_Name = Annotated[
    str, typer.Argument(help="A name of the zoo, a config file, the folder of a run.")
]


def _load(name: str, opts: list[str] | None) -> Any:
    if name == "default":
        from retinue.config import get_cfg

        cfg = get_cfg()
    else:
        from retinue.engine.model_source import find_model

        cfg = find_model(name).cfg
    cfg.merge_from_list(check_opts(opts, ("--help",)))
    return cfg


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@command(app)
def show(name: _Name, opts: Opts = None) -> None:
    """Print the config that training would use, as YAML."""
    print(_load(name, opts).dump(), end="")


@command(app)
def diff(
    name: _Name,
    other: Annotated[str, typer.Argument(help="Likewise; `default` for the defaults.")] = "default",
) -> None:
    """Print the keys in which two configs differ."""
    first, second = dict(_leaves(_load(name, None))), dict(_leaves(_load(other, None)))
    keys = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    width = max(map(len, keys), default=0)
    for key in sorted(keys):
        print(f"{key:<{width}}  {_value(first, key)}   ({other}: {_value(second, key)})")
    if not keys:
        print("no difference")


def _value(leaves: dict[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "not there"


@command(app)
def keys(
    pattern: Annotated[str, typer.Argument(help="Part of a key, such as LR or roi_heads.")] = "",
) -> None:
    """List config keys with their defaults."""
    from retinue.config import get_cfg
    from retinue.utils.errors import close_names, unknown_name

    known = dict(_leaves(get_cfg()))
    found = [k for k in known if pattern.lower() in k.lower()]
    if not found:
        last = {k.rpartition(".")[2] for k in known}
        near = close_names(pattern.rpartition(".")[2], last)
        raise unknown_name(
            "config key",
            pattern,
            [k for k in known if k.rpartition(".")[2] in near],
            "`retinue config keys` lists all",
        )
    width = max(map(len, found))
    for key in found:
        print(f"{key:<{width}}  {known[key]!r}")
