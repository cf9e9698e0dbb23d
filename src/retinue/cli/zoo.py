"""``retinue zoo``: the published models, what is known of each, and their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.cli.common import command

if TYPE_CHECKING:
    from retinue.model_zoo.entries import Entry

app = typer.Typer(
    no_args_is_help=True,
    help="List, describe and download the published models.",
    add_completion=False,
)

_Name = Annotated[str, typer.Argument(help="A model's name, in full or its last part.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_TABLE_WIDTH = 200  # where the output is no terminal


@command(app, name="list")
def list_(
    pattern: Annotated[str, typer.Argument(help="A part of the name.")] = "",
    task: Annotated[
        str, typer.Option(help="A part of the task, such as detection, instance, panoptic.")
    ] = "",
    backbone: Annotated[
        str, typer.Option(help="A part of the backbone, such as R50, FPN, Swin.")
    ] = "",
    min_ap: Annotated[
        float | None,
        typer.Option(help="At least this score, of the kind that the task is judged by."),
    ] = None,
    max_params: Annotated[
        float | None, typer.Option(help="At most this many million parameters.")
    ] = None,
    trained: Annotated[
        bool, typer.Option("--trained", help="With published weights only.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """List published models."""
    from retinue.model_zoo.entries import entries

    found = [
        entry
        for entry in entries()
        if pattern.lower() in entry.name.lower()
        and task.lower() in entry.task
        and backbone.lower() in entry.backbone.lower()
        and (min_ap is None or (entry.main_score or 0) >= min_ap)
        and (max_params is None or (entry.parameters or float("inf")) <= max_params * 1e6)
        and (entry.url or not trained)
    ]
    if as_json:
        import json

        print(json.dumps([entry.as_dict() for entry in found], indent=2))
    else:
        _print_table(found)


def _print_table(found: list[Entry]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_TABLE_WIDTH)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("task")
    table.add_column("backbone")
    for column in ("box AP", "mask AP", "other", "params", "weights"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in found:
        table.add_row(
            entry.name,
            entry.task,
            entry.backbone,
            *(_number(entry.scores.get(score)) for score in ("box_ap", "mask_ap")),
            _other_score(entry),
            f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "",
            "yes" if entry.url else "",
        )
    console.print(table)
    console.print(f"{len(found)} models")


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def _other_score(entry: Entry) -> str:
    from retinue.model_zoo.entries import MAIN_SCORES

    name = MAIN_SCORES.get(entry.task, "")
    if name in ("box_ap", "mask_ap") or entry.main_score is None:
        return ""
    return f"{_title(name)} {entry.main_score:.1f}"


def _title(score: str) -> str:
    titles = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "miou": "mIoU", "proposal_ar": "AR"}
    if score == "inference_s":
        return "seconds an image"
    return titles.get(score, score.replace("_ap", " AP").replace("_", " "))


@command(app)
def show(name: _Name, as_json: _AsJson = False) -> None:
    """Describe a published model: scores, size, weights and their licence, config, use."""
    from retinue.model_zoo.entries import find_entry

    entry = find_entry(name)
    if as_json:
        import json

        print(json.dumps(entry.as_dict() | {"config": dict(_config_lines(entry))}, indent=2))
        return
    print(entry.name)
    sections = {
        "": _what_lines(entry),
        "published scores": [(_title(k), str(v)) for k, v in entry.scores.items()],
        "weights": _weights_lines(entry),
        "config": _config_lines(entry),
    }
    for title, lines in sections.items():
        lines = list(lines)
        if lines and title:
            print(f"\n{title}")
        for key, value in lines:
            print(f"  {key:<18}{value}")
    print("\nuse")
    for line in _use_lines(entry):
        print(f"  {line}")


def _what_lines(entry: Entry) -> Iterator[tuple[str, str]]:
    yield "task", entry.task
    yield "backbone", entry.backbone
    if entry.parameters:
        yield "parameters", f"{entry.parameters:,}"


def _weights_lines(entry: Entry) -> Iterator[tuple[str, str]]:
    if not entry.url:
        yield "address", "none published"
        return
    yield "address", entry.url
    if entry.parameters:
        yield "size", f"about {4 * entry.parameters / 1e6:.0f} MB, 4 bytes a parameter"
    yield "licence", entry.licence or "not stated by the page it is from"
    if entry.md5:
        yield "MD5 begins", entry.md5
    if entry.sha256:
        yield "SHA-256", entry.sha256
    yield "source", entry.source


def _config_lines(entry: Entry) -> list[tuple[str, str]]:
    from retinue import model_zoo

    cfg = model_zoo.get_config(entry.name)
    keys = _LAZY_KEYS if entry.is_lazy else _YAML_KEYS
    lines = ((title, _look_up(cfg, key)) for title, key in keys.items())
    return [(title, text) for title, text in lines if text]


_YAML_KEYS = {
    "model": "MODEL.META_ARCHITECTURE",
    "backbone": "MODEL.BACKBONE.NAME",
    "initial weights": "MODEL.WEIGHTS",
    "trained on": "DATASETS.TRAIN",
    "tested on": "DATASETS.TEST",
    "shorter side": "INPUT.MIN_SIZE_TRAIN",
    "images a batch": "SOLVER.IMS_PER_BATCH",
    "learning rate": "SOLVER.BASE_LR",
    "iterations": "SOLVER.MAX_ITER",
    "steps": "SOLVER.STEPS",
}
_LAZY_KEYS = {
    "model": "model._target_",
    "initial weights": "train.init_checkpoint",
    "trained on": "dataloader.train.dataset.names",
    "tested on": "dataloader.test.dataset.names",
    "images a batch": "dataloader.train.total_batch_size",
    "optimizer": "optimizer._target_",
    "learning rate": "optimizer.lr",
    "iterations": "train.max_iter",
}


def _look_up(cfg: Any, key: str) -> str:
    """Return a value of a config as text; "" if it has no such key."""
    node = cfg
    for part in key.split("."):
        if not hasattr(node, "get") or node.get(part) is None:
            return ""
        node = node.get(part)
    if isinstance(node, (tuple, list)):
        return ", ".join(map(str, node))
    return str(getattr(node, "__qualname__", node))


def _use_lines(entry: Entry) -> list[str]:
    trained = ", trained=True" if entry.url else ""
    lines = [
        "from retinue import model_zoo",
        f'cfg = model_zoo.get_config("{entry.name}"{trained})',
        f'model = model_zoo.get("{entry.name}"{trained})',
    ]
    if not entry.is_lazy and not entry.name.startswith("projects/"):
        short = entry.name.removesuffix(".yaml")
        if entry.url:
            lines.append(f"retinue predict --model {short} picture.jpg")
        lines.append(f"retinue train --config {short} --train train.json images/ --output out")
    return lines


@command(app)
def download(
    name: _Name,
    force: Annotated[bool, typer.Option("--force", help="Download what is there again.")] = False,
) -> None:
    """Download a model's weights, check them, and print where they are and their licence."""
    from retinue import model_zoo
    from retinue.model_zoo.weights import check_weights

    entry = model_zoo.find_entry(name)
    with _progress_bar(entry.name) as update:
        path = model_zoo.download(entry.name, force=force, progress=update)
    checked = ", ".join(check_weights(path, entry)) or "length"
    print(f"{path}\n{path.stat().st_size:,} bytes; checked: {checked}")
    print(f"licence: {entry.licence or 'not stated'} ({entry.source})")


@contextlib.contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function that shows how many bytes of how many are there, on the standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
