"""Whole models: state-dict keys; then outputs, intermediate features, losses and gradients."""

import contextlib
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import compare
import numpy as np
import synth
import torch
from configs import build
from torch import nn

Arrays = dict[str, Any]

# Modules whose first call is recorded: where they are in the model, and the name in the file.
RECORDED = {
    "backbone.bottom_up": "bottom_up",
    "backbone.net": "bottom_up",
    "backbone": "backbone",
    "proposal_generator.rpn_head": "rpn_head",
    "head": "head",
    "sem_seg_head": "sem_seg_head",
    "ins_embed_head": "ins_embed_head",
    **{
        f"roi_heads.{name}": name
        for name in (
            "box_pooler",
            "pooler",
            "box_head",
            "box_predictor",
            "keypoint_pooler",
            "mask_pooler",
            "mask_head",
            "densepose_pooler",
            "densepose_head",
        )
    },
}
SAMPLES = {"mask_head": 64, "sem_seg": 64, "keypoint_heatmaps": 64, "densepose": 128}


# ----------------------------------------------------------------------------- state-dict keys


def _state_keys(file: Path) -> dict[str, dict[str, list]]:
    with gzip.open(file, "rt") as f:
        return json.load(f)


def state_checks(parity: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    file = parity / "state_keys.json.gz"
    if file.is_file():
        for path, keys in _state_keys(file).items():
            yield f"state_keys/{path}", partial(check_state, path, keys)


def check_state(path: str, want: dict[str, list]) -> None:
    model, _ = build(path, device="meta")
    compare_state(model, want)


def compare_state(model: nn.Module, want: dict[str, list]) -> None:
    got = {
        k: [list(v.shape), str(v.dtype).removeprefix("torch.")]
        for k, v in model.state_dict().items()
    }
    missing, extra = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
    assert not missing, f"missing keys {missing[:5]}"
    assert not extra, f"unexpected keys {extra[:5]}"
    for key, value in want.items():
        assert got[key] == value, f"{key}: {got[key]}, expected {value}"


# -------------------------------------------------------------------------------- whole models


def checks(parity: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    keys_file = parity / "models" / "state_keys.json.gz"
    keys = _state_keys(keys_file) if keys_file.is_file() else {}
    for name in sorted(compare.index(parity)):
        yield f"models/{name}", partial(check, parity, name, keys.get(name))


def check(parity: Path, name: str, keys: dict[str, list] | None) -> None:
    golden = compare.load(f"models/{name}", parity)
    meta = golden.meta
    model, cfg = build(meta["config"], meta["overrides"])
    if keys:
        compare_state(model, keys)
    model = model.double().eval()
    synth.fill_state(model, meta["seed"], meta["gains"])
    got = inference(model, cfg, golden)
    got = {k: v for k, v in got.items() if k in golden or k.startswith("out/")}
    if meta["train"]:  # inference leaves the state as it was filled
        got |= training(model, meta)
    compare.check(golden, got, strict=True, float32=_needs_float32_tolerance(meta))


def _needs_float32_tolerance(meta: dict) -> bool:
    """Where the reference has no float64 run with float32 boxes, no tolerance could be measured."""
    return not meta["tolerance"] and any("does not run in float64" in n for n in meta["notes"])


def _input(meta: dict, image: dict, *, training: bool) -> dict[str, Any]:
    height, width = image["height"], image["width"]
    pixels = torch.from_numpy(synth.image(image["seed"], height, width))
    out_size = (height, width) if training else (image["output_height"], image["output_width"])
    example: dict[str, Any] = {"image": pixels, "height": out_size[0], "width": out_size[1]}
    truth = _ground_truth(meta, image)
    if meta["proposals"]:
        example["proposals"] = _proposals(meta, image, truth)
    if training:
        example |= _targets(meta, image, truth)
    return example


def _ground_truth(meta: dict, image: dict) -> dict[str, Any]:
    return synth.ground_truth(
        image["seed"],
        image["height"],
        image["width"],
        meta["num_classes"],
        n=image.get("instances", 4),
        sem_classes=meta["sem_classes"] or 54,
    )


def _proposals(meta: dict, image: dict, truth: dict) -> Any:
    from retinue.structures import Boxes, Instances

    size = (image["height"], image["width"])
    boxes, logits = synth.proposals(image["seed"], *size, meta["proposals"], truth["boxes"])
    return Instances(
        size,
        proposal_boxes=Boxes(torch.from_numpy(boxes)),
        objectness_logits=torch.from_numpy(logits),
    )


def _targets(meta: dict, image: dict, truth: dict) -> dict[str, Any]:
    from retinue.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, RotatedBoxes

    size = (image["height"], image["width"])
    instances, example = Instances(size), {}
    for kind in meta["ground_truth"]:
        if kind == "boxes":
            instances.gt_boxes = Boxes(torch.from_numpy(truth["boxes"]))
        elif kind == "rotated_boxes":
            instances.gt_boxes = RotatedBoxes(torch.from_numpy(truth["rotated_boxes"]))
        elif kind == "classes":
            instances.gt_classes = torch.from_numpy(truth["classes"])
        elif kind == "masks:polygon":
            instances.gt_masks = PolygonMasks(truth["polygons"])
        elif kind == "masks:bitmask":
            instances.gt_masks = BitMasks.from_polygon_masks(truth["polygons"], *size)
        elif kind == "keypoints":
            instances.gt_keypoints = Keypoints(torch.from_numpy(truth["keypoints"]))
        elif kind == "sem_seg":
            example["sem_seg"] = torch.from_numpy(truth["sem_seg"])
        elif kind == "panoptic_targets":
            targets = synth.panoptic_targets(image["seed"], *size)
            example |= {k: torch.from_numpy(v) for k, v in targets.items()}
        elif kind.startswith("points:"):
            count = int(kind.split(":")[1])
            xy, labels = synth.point_annotations(image["seed"], truth["boxes"], count)
            instances.gt_point_coords = torch.from_numpy(xy)
            instances.gt_point_labels = torch.from_numpy(labels)
        elif kind == "densepose":
            instances.gt_densepose = _densepose(image, truth["boxes"])
        else:
            raise LookupError(f"no ground truth of the kind {kind!r} yet")
    if instances.get_fields():
        example["instances"] = instances
    return example


def _densepose(image: dict, boxes: np.ndarray) -> Any:
    from retinue.projects.densepose import DensePoseDataRelative, DensePoseList

    keys = {"dp_x": "x", "dp_y": "y", "dp_I": "part", "dp_U": "u", "dp_V": "v", "dp_masks": "segm"}
    datas = [
        DensePoseDataRelative({k: torch.from_numpy(one[v]) for k, v in keys.items()})
        for one in synth.densepose(image["seed"], len(boxes))
    ]
    return DensePoseList(datas, torch.from_numpy(boxes), (image["height"], image["width"]))


# ---------------------------------------------------------------------------------- inference


def inference(model: nn.Module, cfg: Any, golden: compare.Golden) -> Arrays:
    meta = golden.meta
    inputs = [_input(meta, image, training=False) for image in meta["images"]]
    got: Arrays = {}
    handles = list(_record(model, got))
    call: Callable = model
    if meta["wrapper"] == "tta":
        from retinue.modeling import GeneralizedRCNNWithTTA

        call = GeneralizedRCNNWithTTA(cfg, model)
    elif meta["wrapper"]:
        raise LookupError(f"no wrapper {meta['wrapper']!r} yet")
    with torch.no_grad():
        outputs = call(inputs)
    for handle in handles:
        handle.remove()
    for i, output in enumerate(outputs):
        got |= _output(f"out/{i}", output)
    return got


def _record(model: nn.Module, got: Arrays) -> Iterator[Any]:
    """Hook the recorded modules; each hook keeps the first call."""
    modules = dict(model.named_modules())

    def hook(module: nn.Module, make: Callable[[Any, Any], Arrays]) -> Any:
        seen = []

        def keep(_module: nn.Module, args: Any, out: Any) -> None:
            if not seen:
                seen.append(True)
                got.update(make(args, out))

        return module.register_forward_hook(keep)

    yield hook(model.backbone, lambda args, _out: compare.summary("input", args[0]))
    for path, name in RECORDED.items():
        module = modules.get(path)
        if isinstance(module, nn.ModuleList):  # the stages of a cascade
            if name == "box_head":
                yield hook(module[0], lambda _args, out: dict(_summaries("box_head", out)))
                continue
            for i, stage in enumerate(module):
                make = partial(lambda key, _args, out: dict(_summaries(key, out)), f"{name}.{i}")
                yield hook(stage, make)
        elif path == "roi_heads.mask_head" and module is not None:
            yield hook(module, lambda _args, out: _mask_probabilities(out))
        elif module is not None:
            make = partial(lambda key, _args, out: dict(_summaries(key, out)), name)
            yield hook(module, make)
    if "proposal_generator" in modules:
        yield hook(modules["proposal_generator"], lambda _args, out: _first_proposals(out[0]))


def _summaries(name: str, out: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Number nested outputs: element 2 of element 0 of ``rpn_head`` is ``rpn_head/0.2``."""
    if isinstance(out, torch.Tensor):
        key = name + ("/" + ".".join(path) if path else "")
        yield from compare.summary(key, out, SAMPLES.get(name, 16)).items()
        return
    items: Iterable[tuple[Any, Any]] = ()
    if hasattr(out, "items"):
        items = out.items()
    elif isinstance(out, (list, tuple)):
        items = enumerate(out)
    elif hasattr(out, "__dict__"):
        items = vars(out).items()
    for key, value in items:
        yield from _summaries(name, value, (*path, str(key)))


def _mask_probabilities(instances: Any) -> Arrays:
    got: Arrays = {}
    for i, found in enumerate(instances):
        got |= compare.summary(f"mask_head/{i}", found.pred_masks, SAMPLES["mask_head"])
    return got


def _first_proposals(proposals: Any, limit: int = 50) -> Arrays:
    got: Arrays = {}
    for i, found in enumerate(proposals):
        got[f"proposals/{i}/count"] = np.asarray(len(found))
        got[f"proposals/{i}/boxes"] = found.proposal_boxes.tensor[:limit].clone()
        got[f"proposals/{i}/logits"] = found.objectness_logits[:limit].clone()
    return got


def _output(key: str, output: dict[str, Any]) -> Arrays:
    got: Arrays = {}
    if "proposals" in output:
        found = output["proposals"]
        got[f"{key}/boxes"] = found.proposal_boxes.tensor
        got[f"{key}/scores"] = found.objectness_logits
    if "instances" in output:
        got |= _instances(key, output["instances"])
    if "sem_seg" in output:
        got |= compare.summary(f"{key}/sem_seg", output["sem_seg"], SAMPLES["sem_seg"])
        got[f"{key}/sem_seg/argmax"] = output["sem_seg"].argmax(dim=0)
    if "panoptic_seg" in output:
        got |= _panoptic(key, *output["panoptic_seg"])
    return got


def _instances(key: str, found: Any) -> Arrays:
    got: Arrays = {
        f"{key}/boxes": found.pred_boxes.tensor,
        f"{key}/scores": found.scores,
        f"{key}/classes": found.pred_classes,
    }
    if found.has("pred_masks"):
        masks = found.pred_masks
        masks = masks.tensor if hasattr(masks, "tensor") else masks
        got[f"{key}/masks"], got[f"{key}/masks_shape"] = compare.pack(masks)
    if found.has("pred_keypoints"):
        got[f"{key}/keypoints"] = found.pred_keypoints
    if found.has("pred_keypoint_heatmaps"):
        name = f"{key}/keypoint_heatmaps"
        maps = found.pred_keypoint_heatmaps
        got |= compare.summary(name, maps, SAMPLES["keypoint_heatmaps"])
    if found.has("pred_densepose"):
        for field, value in vars(found.pred_densepose).items():
            if value is not None:
                name = f"{key}/densepose/{field}"
                got |= compare.summary(name, value, SAMPLES["densepose"])
    return got


def _panoptic(key: str, ids: torch.Tensor, segments: list[dict] | None) -> Arrays:
    got: Arrays = {f"{key}/panoptic": ids}
    if segments is not None:
        columns = ("id", "category_id", "isthing", "instance_id")
        rows = [[int(s.get(c, -1)) for c in columns] for s in segments]
        got[f"{key}/segments"] = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
        for name in ("area", "score"):
            values = [float(s.get(name, -1)) for s in segments]
            got[f"{key}/segment_{name}s"] = np.asarray(values)
    return got


# ----------------------------------------------------------------------------------- training


@contextlib.contextmanager
def fixed_points(meta: dict) -> Iterator[None]:
    """Replace the random points of PointRend by those that the recording used."""
    if not any("synth.points" in note for note in meta["notes"]):
        yield
        return
    from retinue.projects.point_rend import point_features

    def points(num_sets: int, num_points: int, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(synth.points(num_points)).expand(num_sets, -1, -1).to(like.device)

    def uncertain(logits: torch.Tensor, _uncertainty: Any, count: int, *_: Any) -> torch.Tensor:
        return points(len(logits), count, logits)

    replaced = {
        "uniform_points": points,
        "get_uncertain_point_coords_with_randomness": uncertain,
    }
    with mock.patch.multiple(point_features, **replaced):
        yield


def training(model: nn.Module, meta: dict) -> Arrays:
    from retinue.utils.events import EventStorage

    model.train()
    model.zero_grad()
    inputs = [_input(meta, image, training=True) for image in meta["images"]]
    buffers = {n: b.clone() for n, b in model.named_buffers() if b.is_floating_point()}
    with EventStorage(), fixed_points(meta):
        losses = model(inputs)
    sum(losses.values()).backward()

    got: Arrays = {f"train/loss/{k}": v for k, v in losses.items()}
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    got["train/grad_names"] = np.asarray(list(gradients))
    got["train/grad_norms"] = np.asarray([g.double().norm().item() for g in gradients.values()])
    changed = {
        n: b for n, b in model.named_buffers() if n in buffers and not torch.equal(b, buffers[n])
    }
    if changed:
        got["train/buffer_names"] = np.asarray(list(changed))
        got["train/buffer_norms"] = np.asarray([b.double().norm().item() for b in changed.values()])
    return got
