"""Names of weights (checkpoint_names.json), and whole models from files that others wrote."""

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import compare
import numpy as np
import synth
import torch
from checks_models import inference
from configs import build
from torch import nn

ROWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda rows: rows,
    "drop_first_4_rows": lambda rows: rows[4:],
    "drop_first_row": lambda rows: rows[1:],
    "first_row_to_end": lambda rows: torch.cat((rows[1:], rows[:1])),
}
NORM_ENDINGS = ("running_mean", "running_var")


def checks(parity: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    file = parity / "checkpoint_names.json"
    if not file.is_file():
        return
    recorded = json.loads(file.read_text())
    groups = recorded["caffe2"]["groups"]
    for name, rows in groups.items():
        yield f"checkpoint_names/caffe2/{name}", partial(check_group, rows)
    for name, family in recorded["caffe2"]["families"].items():
        yield f"checkpoint_names/families/{name}", partial(check_family, groups, family)
    for name in ("resnet50", "resnet18"):
        pairs = recorded["torchvision"][name]["pairs"]
        yield f"checkpoint_names/torchvision/{name}", partial(check_torchvision, pairs)
    alignment = recorded["torchvision"]["alignment"]
    pairs = recorded["torchvision"]["resnet50"]["pairs"]
    yield (
        "checkpoint_names/torchvision/alignment",
        partial(check_torchvision_alignment, pairs, alignment),
    )
    for name, case in recorded["matching"].items():
        yield f"checkpoint_names/matching/{name}", partial(check_matching, case)
    for name, case in recorded["files"].items():
        yield f"checkpoint_names/files/{name}", partial(check_file, case)
    rule = recorded["unreported_keys"]
    yield "checkpoint_names/unreported_keys", partial(check_unreported, rule)
    model = "mask_rcnn_R_50_FPN_1x"
    if model in compare.index(parity):
        for kind in ("imagenet_pkl", "detectron1_pkl", "zoo_pkl", "safetensors"):
            yield f"checkpoint_files/{kind}", partial(check_model_from_file, parity, model, kind)


# ----------------------------------------------------------------------------- names


def check_group(rows: list[list[str]]) -> None:
    from retinue.checkpoint.c2_model_loading import convert_c2_detectron_names

    weights = {row[0]: torch.arange(8.0)[:, None] + number for number, row in enumerate(rows)}
    converted, original = convert_c2_detectron_names(weights)
    assert original == {row[1]: row[0] for row in rows}, "other names"
    for blob, name, *operation in rows:
        want = ROWS[(*operation, "")[0]](weights[blob])
        assert torch.equal(converted[name], want), f"{blob}: rows are not in the right order"


def _shape_before(shape: torch.Size, operation: str) -> tuple[int, ...]:
    more = {"drop_first_4_rows": 4, "drop_first_row": 1}.get(operation, 0)
    return (shape[0] + more, *shape[1:])


def check_family(groups: Mapping[str, list[list[str]]], family: dict[str, Any]) -> None:
    """Blobs of the shapes that the model wants end where the record says."""
    if "model" not in family:  # heads that are no part of a recorded model
        for group in family["groups"]:
            check_group(groups[group])
        return
    from retinue.checkpoint.c2_model_loading import align_and_update_state_dicts

    model, _ = build(f"configs/{family['model']}", device="meta")
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("pixel_")}
    want = family["alignment"]
    rows = [row for group in family["groups"] for row in groups[group]]
    assert len(rows) == family["count"]
    blobs = {}
    for blob, name, *operation in rows:
        found = [key for key in own if key == name or key.endswith(f".{name}")]
        shape = _shape_before(own[found[0]].shape, (*operation, "")[0]) if found else (7,)
        blobs[blob] = torch.empty(shape, device="meta")
    result = align_and_update_state_dicts(own, blobs, c2_conversion=True)
    left = set(own) - set(result)
    statistics = {name for name in left if name.endswith(NORM_ENDINGS)}
    assert len(set(own) & set(result)) == want["matched"]
    assert sorted(left - statistics) == sorted(want["model_keys_not_matched"])
    assert len(statistics) == want["running_statistics_not_matched"]
    assert sorted(set(result) - set(own)) == sorted(want["checkpoint_keys_left_over_renamed"])
    blob_of = {id(tensor): blob for blob, tensor in blobs.items()}
    for name, blob in {**want["head_pairs"], **want["example_backbone_pairs"]}.items():
        got = blob_of.get(id(result[name]), blob)  # a part of a blob is another tensor
        assert got == blob, f"{name} is {got}, expected {blob}"


def check_torchvision(pairs: list[list[str]]) -> None:
    from retinue.checkpoint.names import recognise

    state = {name: torch.zeros(1) for name, _ in pairs}
    family = recognise(state)
    assert family is not None, "not recognised"
    _, old_of_new = family.translate(state)
    assert {(old, new) for new, old in old_of_new.items()} == {tuple(pair) for pair in pairs}


def check_torchvision_alignment(pairs: list[list[str]], want: dict[str, Any]) -> None:
    from retinue.checkpoint.c2_model_loading import align_and_update_state_dicts

    model, _ = build(f"configs/{want['model']}", device="meta")
    own = model.state_dict()
    state = {}
    for _, name in pairs:
        found = [key for key in own if key.endswith(f".{name}")]
        state[name] = torch.empty(own[found[0]].shape if found else (7,), device="meta")
    result = align_and_update_state_dicts(own, state, c2_conversion=False)
    left = sorted(set(result) - set(own))
    counters = [name for name in left if name.endswith("num_batches_tracked")]
    assert len(set(own) & set(result)) == want["matched"]
    assert [name for name in left if name not in counters] == want["left_over"]
    assert len(counters) == want["left_over_num_batches_tracked"]


def check_matching(case: dict[str, Any]) -> None:
    from retinue.checkpoint.c2_model_loading import align_and_update_state_dicts

    model, checkpoint = (
        {name: torch.zeros(shape) for name, shape in case[part].items()}
        for part in ("model", "checkpoint")
    )
    c2_conversion = case.get("c2_conversion", False)
    if "raises" in case:
        try:
            align_and_update_state_dicts(model, checkpoint, c2_conversion)
        except ValueError:
            return
        raise AssertionError(f"expected {case['raises']}")
    result = align_and_update_state_dicts(model, checkpoint, c2_conversion)
    name_of = {id(tensor): name for name, tensor in checkpoint.items()}
    assert {name: name_of[id(tensor)] for name, tensor in result.items()} == case["result"]
    assert sorted(n for n in result if n in model) == sorted(case["result_keys_in_model"])


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return {name: np.ones(2, np.float32) for name in value}
    return np.ones(2, np.float32) if value == "..." else value


def check_file(case: dict[str, Any]) -> None:
    from retinue.checkpoint import DetectionCheckpointer

    content = {key: _filled(value) for key, value in case["content"].items()}
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1))
    read: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights{case['extension']}"
        if case["extension"] == ".pkl":
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, path)
        with mock.patch.object(
            checkpointer, "_load_model", lambda checkpoint: read.append(dict(checkpoint))
        ):
            try:
                checkpointer.load(f"{path}{case['query']}")
            except (ValueError, AssertionError):
                if "raises" in case:
                    return
                raise
    assert "raises" not in case, f"expected {case['raises']}"
    got = {key: list(v) if isinstance(v, dict) else v for key, v in read[0].items()}
    assert got == case["interpreted_as"], f"understood as {got}"


def check_unreported(rule: dict[str, Any]) -> None:
    from retinue.checkpoint import DetectionCheckpointer

    model = nn.Module()
    model.fc = nn.Linear(1, 1)
    for name in ("pixel_mean", "pixel_std"):
        model.register_buffer(name, torch.zeros(3))
    assert sorted(model.state_dict()) == sorted(rule["model_keys"])
    state = {name: torch.zeros(1, 1) for name in rule["checkpoint_keys"]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
        checkpointer = DetectionCheckpointer(model)
        checkpointer.load(str(path))
    assert checkpointer.report.missing == rule["missing_reported"]
    assert checkpointer.report.unexpected == rule["unexpected_reported"]


# ----------------------------------------------------------------------------- whole models


def check_model_from_file(parity: Path, name: str, kind: str) -> None:
    """A file of each kind, made of the golden model's weights, gives the golden outputs."""
    from retinue.checkpoint import DetectionCheckpointer

    golden = compare.load(f"models/{name}", parity)
    meta = golden.meta
    model, cfg = build(meta["config"], meta["overrides"])
    model = model.double().eval()
    synth.fill_state(model, meta["seed"], meta["gains"])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    names = json.loads((parity / "checkpoint_names.json").read_text())["caffe2"]["groups"]
    fresh, _ = build(meta["config"], meta["overrides"])
    fresh = fresh.double().eval()
    with tempfile.TemporaryDirectory() as folder:
        path = str(
            Path(folder) / ("weights.safetensors" if kind == "safetensors" else "weights.pkl")
        )
        if kind == "imagenet_pkl":  # the trunk alone; the rest is there already
            fresh.load_state_dict(
                {k: torch.zeros_like(v) if ".bottom_up." in k else v for k, v in state.items()}
            )
            _write_pickle(path, _blobs(state, [names["backbone_full_bn"]], "backbone.bottom_up."))
        elif kind == "detectron1_pkl":
            groups = ("fpn", "rpn_fpn", "box_fc", "box_outputs", "mask_convs", "mask_outputs")
            blobs = _affine_blobs(state, names["backbone_affine"])
            blobs |= _blobs(state, [names[group] for group in groups], "")
            momentum = {f"{blob}_momentum": value for blob, value in blobs.items()}
            _write_pickle(path, {"blobs": blobs | momentum, "cfg": "MODEL: {}"})
        elif kind == "zoo_pkl":
            arrays = {key: value.numpy() for key, value in state.items()}
            _write_pickle(path, {"model": arrays, "__author__": "Detectron2 Model Zoo"})
        else:
            from retinue.checkpoint.writer import write_safetensors

            write_safetensors(path, state, {})
        checkpointer = DetectionCheckpointer(fresh)
        checkpointer.load(path)
    assert not checkpointer.report.reinitialised, checkpointer.report.reinitialised
    got = inference(fresh, cfg, golden)
    got = {key: value for key, value in got.items() if key in golden or key.startswith("out/")}
    compare.check(golden, got)
    assert any(key.startswith("out/") for key in got)


def _write_pickle(path: str, content: dict[str, Any]) -> None:
    Path(path).write_bytes(pickle.dumps(content, protocol=2))


def _blobs(
    state: Mapping[str, torch.Tensor], groups: list[list[list[str]]], prefix: str
) -> dict[str, np.ndarray]:
    """Make Caffe2's blobs of our tensors, with a background that our rows say nothing about."""
    blobs = {}
    for blob, name, *operation in (row for group in groups for row in group):
        found = [k for k in state if k == prefix + name or (not prefix and k.endswith(f".{name}"))]
        rows = state[found[0]]
        kind = (*operation, "")[0]
        if kind == "first_row_to_end":
            rows = rows.roll(1, dims=0)
        elif kind:
            num = 4 if "4" in kind else 1
            rows = torch.cat((torch.full((num, *rows.shape[1:]), 99.0, dtype=rows.dtype), rows))
        blobs[blob] = rows.numpy()
    return blobs


def _affine_blobs(
    state: Mapping[str, torch.Tensor], rows: list[list[str]]
) -> dict[str, np.ndarray]:
    """Fold running statistics into scale and shift, as Detectron 1 has them.

    A frozen norm that is given scale and shift alone has a variance of 1, to which it adds epsilon.
    """
    blobs = {}
    for blob, name in rows:
        key = f"backbone.bottom_up.{name}"
        module = key.rpartition(".")[0]
        if not module.endswith("norm"):
            blobs[blob] = state[key].numpy()
            continue
        scale = state[f"{module}.weight"] / (state[f"{module}.running_var"] + 1e-5).sqrt()
        shift = state[f"{module}.bias"] - state[f"{module}.running_mean"] * scale
        blobs[blob] = (scale * (1 + 1e-5) ** 0.5 if name.endswith("weight") else shift).numpy()
    return blobs
