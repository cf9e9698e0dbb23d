"""The data mapper on real images (mapper.json) and COCO metrics (coco_eval.json)."""

import ast
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


def checks(parity: Path, data: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    if (parity / "mapper.json").is_file():
        recorded = json.loads((parity / "mapper.json").read_text())
        root = _root(recorded["dataset"], data)
        for name, variant in recorded["variants"].items():
            for item in variant["items"]:
                check = partial(check_mapper, root, variant["arguments"], item)
                yield f"mapper/{name}/{item['image_id']}", check
    if (parity / "coco_eval.json").is_file():
        recorded = json.loads((parity / "coco_eval.json").read_text())
        root = _root(recorded["dataset"], data)
        predictions = parity / recorded["predictions"].split(",")[0]
        for name, want in recorded["results"].items():
            yield f"coco_eval/{name}", partial(check_eval, root, predictions, name, want)


def _root(dataset: str, data: Path) -> Path:
    """``data/coco-tiny, val2017`` -> the folder coco-tiny below the data folder."""
    return data / dataset.split(",")[0].removeprefix("data/")


def _coco_files(root: Path, split: str) -> tuple[str, str]:
    return f"{root}/annotations/instances_{split}2017.json", f"{root}/{split}2017"


def check_mapper(root: Path, arguments: dict[str, Any], item: dict[str, Any]) -> None:
    from retinue.data import DatasetMapper
    from retinue.data import transforms as T
    from retinue.data.datasets import load_coco_json

    augmentations = [_augmentation(T, text) for text in arguments["augmentations"]]
    mapper = DatasetMapper(**(arguments | {"augmentations": augmentations}))
    records = load_coco_json(*_coco_files(root, item["split"]), "parity_mapper")
    (record,) = (r for r in records if r["image_id"] == item["image_id"])
    out = mapper(record)

    image = out["image"].numpy()
    _equal(list(image.shape), item["image_shape"], "image shape")
    _equal(str(image.dtype), item["image_dtype"], "image dtype")
    _equal(sorted(out), item["keys"], "keys")
    _near(image.reshape(3, -1).mean(axis=1), item["mean"], "mean", 0.05)
    _near(image.reshape(3, -1).std(axis=1), item["std"], "std", 0.05)
    samples = image.reshape(-1)[item["sample_indices"]].astype(np.int64)
    _near(samples, item["samples"], "samples", 1.0)  # Pillow versions round differently
    if "gt_boxes" not in item:
        return
    truth = out["instances"]
    _equal(list(truth.image_size), item["image_size"], "image_size")
    _near(truth.gt_boxes.tensor.numpy().reshape(-1, 4), item["gt_boxes"], "gt_boxes", 1e-4)
    _equal(truth.gt_classes.tolist(), item["gt_classes"], "gt_classes")
    _equal(type(truth.gt_masks).__name__, item["mask_kind"], "mask kind")
    areas = truth.gt_masks.area() if item["mask_kind"] == "PolygonMasks" else _areas(truth.gt_masks)
    _near(np.asarray(areas), item["mask_areas"], "mask areas", 1e-2)


def _augmentation(module: Any, text: str) -> Any:
    """``"RandomFlip(prob=1.0)"`` -> that augmentation; the arguments are literals."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    return getattr(module, call.func.id)(**arguments)


def _areas(masks: Any) -> np.ndarray:
    return masks.tensor.flatten(1).sum(dim=1).double().numpy()


def _equal(got: Any, want: Any, what: str) -> None:
    assert got == want, f"{what}: {got}, expected {want}"


def _near(got: Any, want: Any, what: str, tolerance: float) -> None:
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if got.size:
        worst = np.abs(got - want).max()
        assert worst <= tolerance, f"{what}: differs by {worst} (allowed {tolerance})"


def check_eval(root: Path, predictions: Path, name: str, want: dict[str, dict]) -> None:
    from retinue.data import DatasetCatalog, MetadataCatalog
    from retinue.data.datasets import register_coco_instances
    from retinue.evaluation import COCOEvaluator

    with gzip.open(predictions, "rt") as f:
        found = json.load(f)
    dataset = "parity_coco_eval"
    register_coco_instances(dataset, {}, *_coco_files(root, "val"))
    try:
        records = DatasetCatalog.get(dataset)
        with tempfile.TemporaryDirectory() as folder:
            limit = name.removeprefix("max_dets_")
            evaluator = COCOEvaluator(
                dataset,
                tasks=("bbox", "segm"),
                output_dir=folder,
                max_dets_per_image=int(limit) if limit.isdigit() else None,
            )
            evaluator.reset()
            feed = _feed_proposals if name == "proposals" else _feed_instances
            feed(evaluator, records, found, MetadataCatalog.get(dataset))
            results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(dataset)
        MetadataCatalog.remove(dataset)
    for task, metrics in want.items():
        for metric, value in metrics.items():
            got = float(results[task][metric])
            value = float("nan") if value is None else value
            same = np.isclose(got, value, rtol=1e-9, atol=1e-9, equal_nan=True)
            assert same, f"{task}/{metric}: {got}, expected {value}"


def _feed_instances(evaluator: Any, records: list, found: list, metadata: Any) -> None:
    """Give the predictions image by image, as a model's output would come."""
    import torch
    from hotcoco import mask as rle

    from retinue.structures import Boxes, BoxMode, Instances

    contiguous = metadata.thing_dataset_id_to_contiguous_id
    by_image: dict[int, list] = {}
    for prediction in found:
        by_image.setdefault(prediction["image_id"], []).append(prediction)
    for record in records:
        mine = by_image.get(record["image_id"], [])
        size = (record["height"], record["width"])
        boxes = torch.tensor([p["bbox"] for p in mine], dtype=torch.float64).reshape(-1, 4)
        masks = [rle.decode(p["segmentation"]) for p in mine]
        stacked = np.stack(masks) if masks else np.zeros((0, *size), bool)
        output = Instances(
            size,
            pred_boxes=Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)),
            scores=torch.tensor([p["score"] for p in mine], dtype=torch.float64),
            pred_classes=torch.tensor([contiguous[p["category_id"]] for p in mine]).long(),
            pred_masks=torch.from_numpy(stacked.astype(bool)),
        )
        evaluator.process([record], [{"instances": output}])


def _feed_proposals(evaluator: Any, records: list, found: list, _metadata: Any) -> None:
    import torch

    from retinue.structures import Boxes, BoxMode, Instances

    for record in records:
        mine = [p for p in found if p["image_id"] == record["image_id"]]
        boxes = torch.tensor([p["bbox"] for p in mine], dtype=torch.float64).reshape(-1, 4)
        output = Instances(
            (record["height"], record["width"]),
            proposal_boxes=Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)),
            objectness_logits=torch.tensor([p["score"] for p in mine]),
        )
        evaluator.process([record], [{"proposals": output}])
