"""``retinue checkpoint show`` and ``retinue convert``: what a file holds; its other formats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.cli.common import command

if TYPE_CHECKING:
    from retinue.checkpoint.reader import Checkpoint

app = typer.Typer(no_args_is_help=True, help="Look into files of weights.", add_completion=False)

_Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code in the file. For files of your own only.")
]
_MAX_SHOWN = 100  # characters of a value


@command(app)
def show(
    file: Annotated[str, typer.Argument(help="A file, a folder, or an address.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also read the file through and check its sums.")
    ] = False,
) -> None:
    """List what is inside, without reading the tensors."""
    from retinue.checkpoint.files import verify_file
    from retinue.checkpoint.names import recognise
    from retinue.checkpoint.reader import list_checkpoint

    checkpoint = list_checkpoint(file)
    if verify:
        verify_file(checkpoint.path)
    if as_json:
        import json

        print(json.dumps(_as_data(checkpoint), indent=1))
        return
    family = recognise(checkpoint.weights)
    metrics = _metrics(checkpoint)
    rest = {key: value for key, value in checkpoint.rest.items() if key != "metrics"}
    print(f"{checkpoint.path}: {checkpoint.format}")
    for label, value in (
        ("author", checkpoint.author),
        ("whose names", family and family.name),
        ("matched by endings", checkpoint.matching_heuristics or ""),
        ("also has", ", ".join(f"{k} ({_short(v)})" for k, v in rest.items())),
        ("metrics", ", ".join(f"{name} {value:g}" for name, value in metrics.items())),
        *((k, _short(value)) for k, value in checkpoint.record.items() if k != "metrics"),
    ):
        if value:
            print(f"{label}: {value}")
    width = max(map(len, checkpoint.weights), default=0)
    for name, info in checkpoint.weights.items():
        print(f"  {name:<{width}}  {_type(info)}  {tuple(info.shape)}")
    count = sum(_numel(info) for info in checkpoint.weights.values())
    size = sum(info.num_bytes for info in checkpoint.weights.values())
    print(f"{len(checkpoint.weights)} tensors, {count:,} numbers, {size / 1e6:.1f} MB")


def _metrics(checkpoint: Checkpoint) -> dict[str, float]:
    """Return what the model scored, whether the format keeps it in the record or beside it."""
    found = checkpoint.rest.get("metrics", checkpoint.record.get("metrics"))
    items = found.items() if isinstance(found, dict) else ()
    return {str(name): value for name, value in items if isinstance(value, int | float)}


def _numel(info: Any) -> int:
    return math.prod(info.shape)


def _type(info: Any) -> str:
    return str(info.dtype).removeprefix("torch.")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"{len(value)} entries"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"{', '.join(map(_short, value[:8]))}, ... ({len(value)})"
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _as_data(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "path": checkpoint.path,
        "format": checkpoint.format,
        "author": checkpoint.author,
        "matching_heuristics": checkpoint.matching_heuristics,
        "metrics": {k: v if math.isfinite(v) else None for k, v in _metrics(checkpoint).items()},
        "record": {key: _plain(value) for key, value in checkpoint.record.items()},
        "rest": {key: _short(value) for key, value in checkpoint.rest.items()},
        "weights": {
            name: {"shape": list(info.shape), "dtype": _type(info)}
            for name, info in checkpoint.weights.items()
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple) and all(
        isinstance(item, str | int | float) for item in value
    ):
        return list(value)
    return value if isinstance(value, str | int | float) else _short(value)


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint: a file, a folder, an address.")],
    target: Annotated[
        Path,
        typer.Argument(
            help="What to write: .pth, .pt, .ckpt, .bin, .safetensors, .pkl, or a folder of"
            " safetensors."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Load it into this model first, and write the model's weights."),
    ] = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Leave Caffe2's, torchvision's, timm's names.")
    ] = False,
    weights: Annotated[str, typer.Option(help="model, or ema for averaged weights.")] = "model",
    format: Annotated[
        str | None,
        typer.Option(
            help="Instead of the ending: torch, state_dict, safetensors, sharded, distributed (a"
            " folder of torch.distributed.checkpoint), pickle."
        ),
    ] = None,
    shard_size: Annotated[
        float, typer.Option(help="Gigabytes of a file in a folder of safetensors, at most.")
    ] = 5.0,
    report: Annotated[Path | None, typer.Option(help="Write the report there, as JSON.")] = None,
    trust: _Trust = False,
) -> None:
    """Read any checkpoint and write it in another format."""
    options: dict[str, Any] = {"format": format, "shard_size": int(shard_size * 1e9)}
    if model is not None:
        from retinue.engine.hub import convert_for_model

        result = convert_for_model(source, target, model, weights=weights, trust=trust, **options)
    else:
        from retinue.checkpoint.convert import convert_checkpoint

        result = convert_checkpoint(
            source, target, keep_names=keep_names, weights=weights, trust=trust, **options
        )
    if report is not None:
        from retinue.utils.file_io import atomic_write

        with atomic_write(report, "w") as file:
            file.write(result.to_json())
    print(result)
    print(f"Written: {target}")
