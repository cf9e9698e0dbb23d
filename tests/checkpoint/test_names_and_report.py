"""Whose names weights have, what is translated, and what is said of it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.checkpoint.classes import Layout, find_layout, map_rows
from retinue.checkpoint.conventions import TRAINED, check_conventions
from retinue.checkpoint.convert import convert_checkpoint
from retinue.checkpoint.names import put_under_prefix, recognise, unwrap
from retinue.checkpoint.reader import Checkpoint, read_checkpoint
from retinue.checkpoint.report import LoadReport
from retinue.checkpoint.writer import write_checkpoint
from retinue.modeling.backbone import BasicStem, ResNet
from retinue.modeling.backbone.resnet import BottleneckBlock


class Detector(nn.Module):
    """As much of a detector as checkpoints look at."""

    def __init__(self, *, num_classes=2, channels="RGB", stride_in_1x1=False):
        super().__init__()
        stem = BasicStem(3, 4, norm="FrozenBN")
        stages = [
            ResNet.make_stage(
                BottleneckBlock,
                1,
                stride_per_block=[1 if i == 0 else 2],
                in_channels=4 if i == 0 else 8,
                bottleneck_channels=4,
                out_channels=8,
                norm="FrozenBN",
                stride_in_1x1=stride_in_1x1,
            )
            for i in range(4)
        ]
        self.backbone = ResNet(stem, stages)
        self.cls_score = nn.Linear(3, num_classes + 1)
        self.bbox_pred = nn.Linear(3, 4 * num_classes)
        self.input_format = channels
        trained = TRAINED["torchvision" if channels == "RGB" else "MSRA"]
        self.register_buffer("pixel_mean", torch.tensor(trained.mean)[:, None, None], False)
        self.register_buffer("pixel_std", torch.tensor(trained.std)[:, None, None], False)


def torchvision_names(state):
    """The names that torchvision has for a ResNet, from ours; written by hand for this test."""
    renamed = {}
    for name, value in state.items():
        new = name.replace("stem.conv1.norm", "bn1").replace("stem.conv1", "conv1")
        for stage in (2, 3, 4, 5):
            new = new.replace(f"res{stage}.", f"layer{stage - 1}.")
        for number in (1, 2, 3):
            new = new.replace(f"conv{number}.norm", f"bn{number}")
        new = new.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
        renamed[new] = value
    return renamed | {"fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}


def filled(state):
    return {name: torch.full_like(value, n + 1.0) for n, (name, value) in enumerate(state.items())}


def test_a_torchvision_backbone_lands_in_a_detector(tmp_path, caplog):
    caplog.set_level("INFO")
    model = Detector()
    state = filled(model.backbone.state_dict())
    torch.save(torchvision_names(state), tmp_path / "resnet.pth")
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "resnet.pth"))

    assert all(torch.equal(v, state[k]) for k, v in model.backbone.state_dict().items())
    report = checkpointer.report
    assert report.source == "torchvision's or timm's ResNet"
    assert report.renamed["backbone.res2.0.conv1.norm.weight"] == "layer1.0.bn1.weight"
    assert sorted(report.unexpected) == ["stem.fc.bias", "stem.fc.weight"]
    assert report.missing == [
        "cls_score.weight",
        "cls_score.bias",
        "bbox_pred.weight",
        "bbox_pred.bias",
    ]
    assert report.warnings == []
    assert "Names as in torchvision's or timm's ResNet; 70 are other than ours." in caplog.text


def test_silent_killers_are_said(tmp_path, caplog):
    model = Detector(channels="BGR", stride_in_1x1=True)
    torch.save(torchvision_names(filled(model.backbone.state_dict())), tmp_path / "resnet.pth")
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "resnet.pth"))

    first, mean, std, stride = checkpointer.report.warnings
    assert first.endswith("is fed BGR: set INPUT.FORMAT to 'RGB'")
    assert mean.endswith("the model has [103.53, 116.28, 123.675]: set MODEL.PIXEL_MEAN")
    assert std.endswith("the model has [1.0, 1.0, 1.0]: set MODEL.PIXEL_STD")
    assert stride.endswith("set MODEL.RESNETS.STRIDE_IN_1X1 to False")
    assert "WARNING: the weights were trained on RGB images" in caplog.text
    assert check_conventions(model, TRAINED["MSRA"]) == []
    assert len(check_conventions(model, TRAINED["X-101-32x8d"])) == 2  # scale and stride
    assert check_conventions(nn.Linear(1, 1), TRAINED["MSRA"]) == []


def test_caffe2_says_that_the_background_moved(tmp_path):
    blobs = {
        "conv1_w": np.ones((4, 3, 7, 7), np.float32),
        "res2_0_branch2a_w": np.ones(1, np.float32),
    }
    blobs |= {"cls_score_w": np.arange(9, dtype=np.float32).reshape(3, 3)}
    blobs |= {"bbox_pred_b": np.arange(12, dtype=np.float32)}
    write_checkpoint(
        tmp_path / "a.safetensors", Checkpoint({k: torch.from_numpy(v) for k, v in blobs.items()})
    )
    model = Detector()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.safetensors"))

    assert model.cls_score.weight[:, 0].tolist() == [3, 6, 0]
    assert model.bbox_pred.bias.tolist() == list(range(4, 12))
    assert checkpointer.report.source == "Caffe2"
    assert any("INPUT.FORMAT to 'BGR'" in warning for warning in checkpointer.report.warnings)


@pytest.mark.parametrize(
    ("wrap", "taken"),
    [
        (lambda n: f"module.{n}", "'module.'"),
        (lambda n: f"_orig_mod.{n}", "wrappers' names"),
        (lambda n: f"module._orig_mod.{n}", "wrappers' names and 'module.'"),
        (lambda n: n.replace("backbone.", "backbone._fsdp_wrapped_module."), "wrappers' names"),
        (lambda n: f"_fsdp_wrapped_module.{n}", "wrappers' names"),
        (lambda n: n.replace(".weight", "._checkpoint_wrapped_module.weight"), "wrappers' names"),
        (lambda n: f"model.module.{n}", "'model.' and 'module.'"),
    ],
)
def test_names_of_wrappers_go(wrap, taken):
    own = ["backbone.a.weight", "backbone.a.bias"]
    state = {wrap(name): torch.zeros(1) for name in own}
    assert unwrap(state, own) == taken
    assert list(state) == own


def test_averages_counters_go_and_own_names_stay():
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1)).state_dict()
    unwrap(averaged, ["weight", "bias"])
    assert list(averaged) == ["weight", "bias"]
    state = {"module.weight": 1, "module.bias": 1}
    assert unwrap(state, ["module.weight"]) == ""
    assert list(state) == ["module.weight", "module.bias"]
    partly = {"module.weight": 1, "other": 1}
    assert unwrap(partly, []) == ""


def test_timm_swin_merges_patches_a_stage_later():
    names = [f"layers.{i}.downsample.reduction.weight" for i in (1, 2, 3)] + ["layers.0.blocks.0.x"]
    family = recognise(names)
    state, old = family.translate({name: torch.zeros(1) for name in names})
    assert old["layers.0.downsample.reduction.weight"] == "layers.1.downsample.reduction.weight"
    assert "layers.0.blocks.0.x" in state
    assert recognise(list(state)) is None  # ours, and the first release of Swin


def test_timm_mvit_counts_blocks_in_each_stage():
    names = ["patch_embed.proj.weight", "stages.0.blocks.0.attn.qkv.weight"]
    names += ["stages.1.blocks.0.shortcut_proj_attn.weight", "stages.1.blocks.1.norm1.bias"]
    _, old = recognise(names).translate({name: torch.zeros(1) for name in names})
    assert list(old) == [
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.1.proj.weight",
        "blocks.2.norm1.bias",
    ]


@pytest.mark.parametrize(
    ("name", "rows", "classes", "layout"),
    [
        ("cls_score.weight", (81, 4), (80, 3), Layout(1, 1, False)),
        ("bbox_pred.bias", (320, 12), (80, 3), Layout(4, 0, False)),
        ("mask_head.predictor.weight", (80, 3), (80, 3), Layout(1, 0, False)),
        ("head.cls_score.weight", (720, 27), (80, 3), Layout(9, 0, True)),
        ("conv.weight", (256, 128), (80, 3), None),
        ("bbox_pred.weight", (4, 4), (80, 3), None),
    ],
)
def test_layouts_of_outputs(name, rows, classes, layout):
    assert find_layout(name, rows, classes) == layout


def test_rows_of_a_dense_head_lie_by_anchor():
    """Two anchors, by hand: rows are (anchor 0: a, b), (anchor 1: a, b)."""
    saved = torch.tensor([1.0, 2, 3, 4])
    own = torch.zeros(6)
    mapped = map_rows(saved, own, Layout(2, 0, True), ["a", "b"], ["b", "new", "a"])
    assert mapped.tolist() == [2, 0, 1, 4, 0, 3]


def test_heads_are_mapped_by_class_names(tmp_path):
    model = Detector(num_classes=3)
    state = {
        k: v
        for k, v in Detector(num_classes=2).state_dict().items()
        if k.startswith(("cls", "bbox"))
    }
    state["cls_score.bias"] = torch.tensor([10.0, 20, 99])
    state["bbox_pred.bias"] = torch.arange(8.0)
    torch.save({"model": state, "run": {"classes": ["cat", "dog"]}}, tmp_path / "a.pth")
    before = model.cls_score.bias.detach().clone()
    checkpointer = DetectionCheckpointer(model, class_names=["dog", "bird", "cat"])
    checkpointer.load(str(tmp_path / "a.pth"))

    assert model.cls_score.bias.tolist() == [20, before[1].item(), 10, 99]
    assert model.bbox_pred.bias[:4].tolist() == [4, 5, 6, 7]
    assert model.bbox_pred.bias[8:].tolist() == [0, 1, 2, 3]
    report = checkpointer.report
    assert set(report.reshaped) == set(state)
    assert report.notes == [
        "2 of the model's 3 classes were known to the checkpoint and took its outputs (dog, cat);"
        " new: bird"
    ]


def test_another_order_of_classes_is_put_right(tmp_path):
    source, target = Detector(), Detector()
    torch.save(
        {"model": source.state_dict(), "run": {"classes": ["cat", "dog"]}}, tmp_path / "a.pth"
    )
    DetectionCheckpointer(target, class_names=["dog", "cat"]).load(str(tmp_path / "a.pth"))
    assert torch.equal(target.cls_score.weight, source.cls_score.weight[[1, 0, 2]])
    DetectionCheckpointer(target, class_names=["cat", "dog"]).load(str(tmp_path / "a.pth"))
    assert torch.equal(target.cls_score.weight, source.cls_score.weight)


def test_a_head_of_other_classes_without_names_is_left(tmp_path, caplog):
    torch.save(Detector(num_classes=5).state_dict(), tmp_path / "a.pth")
    checkpointer = DetectionCheckpointer(Detector(num_classes=2))
    checkpointer.load(str(tmp_path / "a.pth"))

    report = checkpointer.report
    assert report.reinitialised["cls_score.bias"] == "(6,) in the checkpoint but (3,) in the model"
    assert "Skip loading parameter 'cls_score.bias' to the model due to" in caplog.text
    assert set(report.loaded) | set(report.reinitialised) == set(Detector().state_dict())
    assert json.loads(report.to_json()) == report.to_dict()
    assert not report.is_complete


def test_sizes_of_one_come_and_go(tmp_path):
    torch.save({"weight": torch.ones(2, 3, 1, 1), "bias": torch.ones(2)}, tmp_path / "a.pth")
    model = nn.Linear(3, 2)
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.pth"))
    assert (model.weight == 1).all()
    assert checkpointer.report.reshaped == {
        "weight": "(2, 3, 1, 1) in the checkpoint became (2, 3)"
    }
    assert checkpointer.report.is_complete


def test_a_long_report_is_short():
    report = LoadReport(
        missing=[f"layer{n}.weight" for n in range(100)], notes=["a"], warnings=["b"]
    )
    text = report.summary(max_lines=5)
    assert "... and 95 more modules" in text
    assert "Note: a.\nSome model" in text
    assert text.endswith("WARNING: b.")
    assert len(text.splitlines()) == 10


def test_convert_translates_and_keeps(tmp_path):
    state = torchvision_names(filled(Detector().backbone.state_dict()))
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pth")
    report = convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    back = read_checkpoint(tmp_path / "b.safetensors")

    assert torch.equal(back.weights["res5.0.conv3.weight"], state["layer4.0.conv3.weight"])
    assert back.matching_heuristics
    assert report.renamed["stem.conv1.weight"] == "conv1.weight"
    model = Detector()
    DetectionCheckpointer(model).load(str(tmp_path / "b.safetensors"))
    assert torch.equal(model.backbone.stem.conv1.weight, state["conv1.weight"])
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "c.pkl", keep_names=True)
    assert "module.conv1.weight" in read_checkpoint(tmp_path / "c.pkl").weights


REGNET = ["stem.0.weight", "trunk_output.block1.block1-0.f.a.0.weight"]
VIT = ["conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"]
SWIN = ["features.0.0.weight", "features.1.0.attn.relative_position_bias_table"]
LAYERS = ["layers.0.blocks.0.attn.qkv.weight", "layers.0.downsample.reduction.weight"]
SAM = ["neck.0.weight", "pos_embed", "blocks.0.norm1.bias"]


@pytest.mark.parametrize(
    ("signature", "more"),
    [
        (
            ["stem.conv.weight", "s1.b1.conv1.conv.weight", "s1.b1.conv1.bn.weight"],
            {
                "s2.b1.downsample.bn.bias": "s2.b1.bn.bias",
                "s2.b3.se.fc2.bias": "s2.b3.f.se.f_ex.2.bias",
            },
        ),
        (
            REGNET,
            {
                "trunk_output.block4.block4-11.f.c.1.bias": "s4.b12.f.c_bn.bias",
                "trunk_output.block2.block2-0.proj.1.bias": "s2.b1.bn.bias",
            },
        ),
        (
            VIT,
            {
                "encoder.layers.encoder_layer_1.self_attention.in_proj_bias": (
                    "blocks.1.attn.qkv.bias"
                ),
                "encoder.layers.encoder_layer_1.mlp.linear_2.bias": "blocks.1.mlp.fc2.bias",
                "encoder.pos_embedding": "pos_embed",
            },
        ),
        (
            SWIN,
            {
                "features.2.norm.bias": "layers.0.downsample.norm.bias",
                "features.7.1.mlp.3.bias": "layers.3.blocks.1.mlp.fc2.bias",
                "norm.bias": "norm3.bias",
            },
        ),
        (LAYERS, {"layers.3.blocks.0.norm1.bias": None, "norm.bias": "norm3.bias"}),
        (SAM, {"blocks.0.attn.rel_pos_h": None}),
        ([f"image_encoder.{name}" for name in SAM], {"image_encoder.pos_embed": "pos_embed"}),
        (
            ["conv1.6.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"],
            {"conv1.4.bias": "stem.conv2.norm.bias", "bn1.bias": "stem.conv3.norm.bias"},
        ),
    ],
)
def test_names_of_other_networks(signature, more):
    """By hand from the packages' sources; ``tests/interop`` compares whole networks."""
    state = {name: torch.zeros(1) for name in [*signature, *more]}
    _, old_of_new = recognise(state).translate(state)

    assert {new: old for new, old in old_of_new.items() if old in more} == {
        new or old: old for old, new in more.items()
    }


def test_maps_of_places_become_lists():
    state = {name: torch.zeros(1) for name in SAM} | {
        "pos_embed": torch.arange(12.0).view(1, 2, 3, 2)
    }
    converted, _ = recognise(state).translate(state)
    assert torch.equal(converted["pos_embed"], torch.arange(12.0).view(1, 6, 2))


def test_a_resnet_that_pools_in_its_shortcuts_is_not_ours():
    names = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight"]
    assert recognise(names) is not None
    assert recognise([*names, "layer2.0.downsample.2.weight"]) is None


def test_a_part_finds_its_place_in_the_model():
    own = ["backbone.net.norm.weight", "backbone.net.a.weight", "head.norm.weight", "fc.weight"]
    state = {"norm.weight": 1, "a.weight": 2, "fc.weight": 3, "b": 4}

    assert put_under_prefix(state, own) == {
        "backbone.net.norm.weight": 1,
        "backbone.net.a.weight": 2,
        "backbone.net.fc.weight": 3,  # another one than the detector's
        "b": 4,
    }
    assert put_under_prefix({"c": 1}, own) == {"c": 1}
    with pytest.raises(ValueError, match=r"fit both 'student\.' and 'teacher\.' of the model"):
        put_under_prefix({"a.weight": 1}, ["student.a.weight", "teacher.a.weight"])


def test_another_kind_of_network_is_said(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "a.pth")
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1))
    checkpointer.load(str(tmp_path / "a.pth"))
    assert checkpointer.report.warnings[0].endswith("it is of another kind of network")


def test_wrappers_go_before_names_are_recognised(tmp_path):
    model = Detector()
    state = filled(model.backbone.state_dict())
    wrapped = {f"module._orig_mod.{n}": x for n, x in torchvision_names(state).items()}
    torch.save(wrapped, tmp_path / "resnet.pth")
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "resnet.pth"))
    assert all(torch.equal(v, state[k]) for k, v in model.backbone.state_dict().items())
