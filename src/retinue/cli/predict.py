"""``retinue predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.cli.common import EXIT_WRONG_INPUT, Device, Weights, fail

if TYPE_CHECKING:
    from retinue.engine.detector import Detection

COCO_MODEL = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"


def predict(
    images: Annotated[
        list[str], typer.Argument(help="Pictures, folders, patterns or addresses of pictures.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A name of the zoo, the folder of a run, a checkpoint; the demo's by default."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for the pictures with their objects drawn.")
    ] = Path("output/predict"),
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score.")] = 0.5,
    weights: Weights = None,
    device: Device = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the objects to this file, too.")
    ] = None,
    draw: Annotated[bool, typer.Option(help="Write pictures.")] = True,
) -> None:
    """Find objects in pictures."""
    from retinue.engine.api import load
    from retinue.engine.picture_reader import check_exists

    for one in images:
        check_exists(one)
    for folder in [output] * draw + ([json_file.parent] if json_file else []):
        _make_folder(folder)
    detector = load(model, weights=weights, device=device)
    if model is None:
        names = ", ".join(detector.class_names)
        print(
            f"This is the demo's model: it knows {names}, and nothing else."
            f"\nFor everyday objects: retinue predict {images[0]} --model {COCO_MODEL}\n"
        )
    used: set[str] = set()
    rows: list[dict[str, Any]] = []
    total = 0
    unreadable: list[Exception] = []
    for found in detector.stream(images, threshold=threshold, on_unreadable=unreadable.append):
        target = _write(found, detector.metadata, output, used) if draw else None
        total += len(found.instances)
        print(f"{found.name}: {_summary(found)}" + (f" -> {target}" if target else ""))
        rows += _rows(found)
    if json_file is not None:
        from retinue.utils.file_io import atomic_write

        with atomic_write(json_file, "w") as f:
            json.dump(rows, f, indent=1)
        print(f"{total} objects -> {json_file}")
    for error in unreadable:
        fail(str(error))
    if unreadable:
        raise typer.Exit(EXIT_WRONG_INPUT)


def _make_folder(folder: Path) -> None:
    from retinue.utils.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if folder.is_file() else error.strerror
        raise InputError(f"folder {str(folder)!r} can't be made: {reason}; name another") from error


def _summary(found: Detection) -> str:
    """Say how many of each class, e.g. ``2 star (98%, 71%), 1 ring (90%)``."""
    by_class: dict[str, list[float]] = {}
    for name, score in zip(
        found.instances.pred_class_names, found.instances.scores.tolist(), strict=True
    ):
        by_class.setdefault(name, []).append(score)
    parts = []
    for name, scores in by_class.items():
        shown = ", ".join(f"{s:.0%}" for s in scores[:3]) + (", ..." if len(scores) > 3 else "")
        parts.append(f"{len(scores)} {name} ({shown})")
    return ", ".join(parts) or "nothing found"


def _write(found: Detection, metadata: Any, folder: Path, used: set[str]) -> Path:
    """Write the picture with its objects; pictures of one name from several folders get numbers."""
    from PIL import Image

    from retinue.engine.detector import draw_instances
    from retinue.utils.file_io import atomic_write

    stem = Path(found.name).stem
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}_{number}"
    used.add(name)
    target = folder / f"{name}.jpg"
    with atomic_write(target, "wb") as f:
        picture = draw_instances(found.rgb, found.instances, metadata)
        Image.fromarray(picture).save(f, "JPEG", quality=92)
    return target


def _rows(found: Detection) -> list[dict[str, Any]]:
    """Describe objects: box ``[x0, y0, x1, y1]`` in pixels, class, score, COCO run lengths."""
    instances = found.instances
    rows = []
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else None
    for i, box in enumerate(instances.pred_boxes.tensor.tolist()):
        row: dict[str, Any] = {
            "image": found.name,
            "class": instances.pred_class_names[i],
            "score": round(float(instances.scores[i]), 4),
            "box_xyxy": [round(v, 2) for v in box],
        }
        if masks is not None:
            row["segmentation"] = _run_lengths(masks[i])
        if instances.has("pred_keypoints"):
            points = instances.pred_keypoints[i].tolist()
            row["keypoints"] = [[round(v, 2) for v in p] for p in points]
        rows.append(row)
    return rows


def _run_lengths(mask: Any) -> dict[str, Any]:
    import numpy as np
    from hotcoco import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = rle["counts"]
    text = counts.decode() if isinstance(counts, bytes) else counts
    return {"size": list(rle["size"]), "counts": text}
