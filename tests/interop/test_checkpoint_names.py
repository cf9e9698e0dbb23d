"""Networks of timm and torchvision, and our backbones with their weights."""

from functools import partial

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm", reason="run by `make interop`")
torchvision = pytest.importorskip(
    "torchvision.models", exc_type=ImportError, reason="run by `make interop`"
)

from retinue.checkpoint import DetectionCheckpointer  # noqa: E402
from retinue.modeling.backbone import MViT, RegNet, SwinTransformer, ViT  # noqa: E402
from retinue.modeling.backbone.regnet import AnyNet, ResBottleneckBlock, SimpleStem  # noqa: E402
from retinue.modeling.backbone.resnet import (  # noqa: E402
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    ResNet,
)
from retinue.projects.deeplab.resnet import DeepLabStem  # noqa: E402

EPS_6 = partial(nn.LayerNorm, eps=1e-6)  # as in both packages' transformers


def resnet(depth, *, num_groups=1, width=64, stem=None):
    block, widths = (BottleneckBlock, 4) if depth >= 50 else (BasicBlock, 1)
    more = {"bottleneck_channels": width, "num_groups": num_groups, "stride_in_1x1": False}
    stages, channels = [], stem.out_channels if stem else 64
    for i, count in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]):
        if depth >= 50:
            more["bottleneck_channels"] = width * 2**i
        stages.append(
            ResNet.make_stage(
                block,
                count,
                stride_per_block=[1 if i == 0 else 2] + [1] * (count - 1),
                in_channels=channels,
                out_channels=64 * widths * 2**i,
                norm="BN",
                **(more if depth >= 50 else {}),
            )
        )
        channels = 64 * widths * 2**i
    names = ["res2", "res3", "res4", "res5"]
    return ResNet(stem or BasicStem(norm="BN"), stages, out_features=names, freeze_at=0)


def regnet(**arguments):
    return RegNet(
        stem_class=SimpleStem,
        stem_width=32,
        block_class=ResBottleneckBlock,
        out_features=["s1", "s2", "s3", "s4"],
        **arguments,
    )


REGNET_X = {"depth": 22, "w_0": 24, "w_a": 24.48, "w_m": 2.54, "group_width": 16}
REGNET_Y = {"depth": 16, "w_0": 48, "w_a": 27.89, "w_m": 2.09, "group_width": 8, "se_ratio": 0.25}


class Detector(nn.Module):
    """As much of a detector as names need: a backbone two prefixes deep, and other layers."""

    def __init__(self, network):
        super().__init__()
        self.backbone = nn.ModuleDict({"bottom_up": network, "fpn_output2": nn.Conv2d(3, 3, 1)})
        self.head = nn.Linear(3, 3)


@torch.no_grad()
def filled(model):
    """Other weights in every tensor, so that a swap of two would be seen."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.8, 1.2, generator=generator)
        elif tensor.dim() > 1 and "embed" not in name and "rel" not in name:
            tensor.normal_(0, (1 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("weight"):
            tensor.uniform_(0.8, 1.2, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    return model.double().eval()


def load(model, state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "weights.pth"))
    return checkpointer.report


def missing_in_backbone(report):
    others = [*report.missing, *report.reinitialised]
    return [name for name in others if name.startswith("backbone.bottom_up.")]


def unexpected_parts(report):
    """What wasn't used. A name that the detector has, too, is said with the backbone's prefix."""
    names = [name.removeprefix("backbone.bottom_up.") for name in report.unexpected]
    return {name.split(".")[0] for name in names}


def outputs_of(network, layers, x):
    """Outputs of some layers of theirs, as (N, C, H, W)."""
    seen = {}
    modules = dict(network.named_modules())
    for name in layers:
        modules[name].register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
    with torch.no_grad():
        network(x)
    return [seen[name] for name in layers]


IMAGES = {
    "small": (2, 3, 64, 96),
    "swin": (1, 3, 448, 448),
    "sam": (1, 3, 256, 256),
    "vit": (1, 3, 224, 224),
}


def images(kind):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(IMAGES[kind], generator=generator, dtype=torch.float64)


CONVOLUTIONAL = {
    "timm resnet18": (lambda: timm.create_model("resnet18"), lambda: resnet(18), "layer{}"),
    "timm resnet50": (lambda: timm.create_model("resnet50"), lambda: resnet(50), "layer{}"),
    "timm resnext50": (
        lambda: timm.create_model("resnext50_32x4d"),
        lambda: resnet(50, num_groups=32, width=128),
        "layer{}",
    ),
    "timm resnet50s": (
        lambda: timm.create_model("resnet50s"),
        lambda: resnet(50, stem=DeepLabStem(norm="BN")),
        "layer{}",
    ),
    "timm regnetx": (lambda: timm.create_model("regnetx_004"), lambda: regnet(**REGNET_X), "s{}"),
    "timm regnety": (lambda: timm.create_model("regnety_004"), lambda: regnet(**REGNET_Y), "s{}"),
    "torchvision resnet18": (torchvision.resnet18, lambda: resnet(18), "layer{}"),
    "torchvision resnet50": (torchvision.resnet50, lambda: resnet(50), "layer{}"),
    "torchvision regnet x": (
        torchvision.regnet_x_400mf,
        lambda: AnyNet(
            stem_class=SimpleStem,
            stem_width=32,
            block_class=ResBottleneckBlock,
            depths=(1, 2, 7, 12),
            widths=(32, 64, 160, 400),  # the last is 384 in the paper's tables
            group_widths=[16] * 4,
            strides=[2] * 4,
            bottleneck_ratios=[1.0] * 4,
            se_ratio=0.0,
            activation_class=nn.ReLU,
            out_features=["s1", "s2", "s3", "s4"],
        ),
        "trunk_output.block{}",
    ),
    "torchvision regnet y": (
        torchvision.regnet_y_400mf,
        lambda: regnet(**REGNET_Y),
        "trunk_output.block{}",
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_give_the_same_features(name, tmp_path):
    make_theirs, make_ours, layer = CONVOLUTIONAL[name]
    theirs, ours = filled(make_theirs()), make_ours()
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    assert missing_in_backbone(report) == []
    assert all(name.split(".")[-2] == "fc" for name in report.unexpected)  # the classifier
    x = images("small")
    expected = outputs_of(theirs, [layer.format(i) for i in (1, 2, 3, 4)], x)
    with torch.no_grad():
        found = ours.double().eval()(x)
    for a, b in zip(expected, found.values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)


SWIN = {
    "timm": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=448, depths=(2, 2, 2, 2), embed_dim=24
        ),
        [f"layers.{i}" for i in range(4)],
    ),
    "torchvision": (
        lambda: torchvision.SwinTransformer(
            [4, 4], 24, [2, 2, 2, 2], [3, 6, 12, 24], window_size=[7, 7], num_classes=5
        ),
        [f"features.{i}" for i in (1, 3, 5, 7)],
    ),
}


@pytest.mark.parametrize("package", SWIN)
def test_swin_gives_the_same_features(package, tmp_path):
    """The norm behind everything is that of our last map; the others' norms are new in ours.

    At 448 pixels all maps are whole windows: timm pads and shifts in another order.
    """
    make_theirs, stages = SWIN[package]
    theirs, ours = filled(make_theirs()), SwinTransformer(embed_dim=24, depths=(2, 2, 2, 2))
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    new = {f"backbone.bottom_up.norm{i}.{k}" for i in range(3) for k in ("weight", "bias")}
    indices = {n for n in report.missing if n.endswith("relative_position_index")}  # a constant
    assert set(missing_in_backbone(report)) - indices == new
    assert unexpected_parts(report) == {"head"}
    x = images("swin")
    expected = outputs_of(theirs, [*stages, "norm"], x)
    with torch.no_grad():
        found = ours.double().eval()(x)
    ln = nn.functional.layer_norm
    for i in range(3):  # blocks and, in timm, the merging of patches before them
        want = ln(expected[i], expected[i].shape[-1:]).permute(0, 3, 1, 2)
        torch.testing.assert_close(found[f"p{i}"], want, rtol=1e-9, atol=1e-9)
    want = expected[4].permute(0, 3, 1, 2)
    torch.testing.assert_close(found["p3"], want, rtol=1e-9, atol=1e-9)


def test_flat_vit_gives_the_same_features(tmp_path):
    theirs = timm.create_model(
        "vit_tiny_patch16_224", class_token=False, global_pool="avg", depth=2
    )
    ours = ViT(
        224,
        embed_dim=192,
        depth=2,
        num_heads=3,
        norm_layer=EPS_6,
        pretrain_use_cls_token=False,
    )
    filled(theirs)
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    assert missing_in_backbone(report) == []
    assert unexpected_parts(report) == {"head", "fc_norm"}
    assert report.source == "timm's or MAE's ViT"
    x = images("vit")
    (expected,) = outputs_of(theirs, ["blocks"], x)
    with torch.no_grad():
        found = ours.double().eval()(x)["last_feat"]
    torch.testing.assert_close(found.flatten(2).mT, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_vit_with_a_class_token_fills_the_backbone(package, tmp_path):
    """Our ViT has no class token, so its features differ; the report names what isn't used."""
    if package == "torchvision":
        theirs = torchvision.VisionTransformer(224, 16, 2, 3, 192, 768)
    else:
        theirs = timm.create_model("vit_tiny_patch16_224", depth=2)
    filled(theirs)
    ours = ViT(224, embed_dim=192, depth=2, num_heads=3, norm_layer=EPS_6)
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    assert missing_in_backbone(report) == []
    assert unexpected_parts(report) == {
        "cls_token",
        "norm",
        "heads" if package == "torchvision" else "head",
    }
    x = images("vit")
    first = "encoder.layers.encoder_layer_0" if package == "torchvision" else "blocks.0"
    layer = dict(theirs.named_modules())[first]
    with torch.no_grad():
        tokens = torch.randn(2, 196, 192, dtype=torch.float64)
        found = ours.double().eval().blocks[0](tokens.unflatten(1, (14, 14)))
        torch.testing.assert_close(found.flatten(1, 2), layer(tokens), rtol=1e-9, atol=1e-9)
        patches = theirs._process_input(x) if package == "torchvision" else theirs.patch_embed(x)
        torch.testing.assert_close(ours.patch_embed(x).flatten(1, 2), patches)


def test_segment_anything_gives_the_same_features(tmp_path):
    theirs = timm.create_model(
        "samvit_base_patch16",
        img_size=256,
        embed_dim=96,
        depth=3,
        num_heads=3,
        global_attn_indexes=(2,),
    )
    ours = ViT(
        256,
        embed_dim=96,
        depth=3,
        num_heads=3,
        pretrain_img_size=256,
        pretrain_use_cls_token=False,
        use_rel_pos=True,
        window_size=14,
        window_block_indexes=(0, 1),
    )
    filled(theirs)
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    assert missing_in_backbone(report) == []
    assert unexpected_parts(report) == {"neck"}
    x = images("sam")
    (expected,) = outputs_of(theirs, ["blocks"], x)
    with torch.no_grad():
        found = ours.double().eval()(x)["last_feat"]
    torch.testing.assert_close(found.permute(0, 2, 3, 1), expected, rtol=1e-9, atol=1e-9)


def test_mvit_gives_the_same_features(tmp_path):
    theirs = timm.create_model("mvitv2_tiny")
    ours = MViT(
        depth=10,
        last_block_indexes=(0, 2, 7, 9),
        norm_layer=EPS_6,
    )
    filled(theirs)
    report = load(Detector(ours), theirs.state_dict(), tmp_path)

    new = [f"backbone.bottom_up.scale{i}_norm.{k}" for i in (2, 3, 4) for k in ("weight", "bias")]
    assert missing_in_backbone(report) == new
    assert unexpected_parts(report) == {"head"}
    # Made for large images, ours pools keys more in two blocks, which no weight depends on.
    for i, stride in ((2, 2), (7, 1)):
        for pool in (ours.blocks[i].attn.pool_k, ours.blocks[i].attn.pool_v):
            pool.stride = (stride, stride)
    x = images("vit")
    (expected,) = outputs_of(theirs, ["norm"], x)
    with torch.no_grad():
        found = ours.double().eval()(x)["scale5"]
    torch.testing.assert_close(found.flatten(2).mT, expected, rtol=1e-9, atol=1e-9)


def test_another_network_is_said_to_be_one(tmp_path):
    """resnet50d pools before its shortcuts, which no ResNet here does: nothing is taken."""
    theirs = timm.create_model("resnet50d")
    report = load(Detector(resnet(50)), theirs.state_dict(), tmp_path)

    assert all(name.endswith("num_batches_tracked") for name in report.loaded)  # counted by torch
    assert any("another kind of network" in warning for warning in report.warnings)


def test_prefixes_of_wrappers_go_before_names_are_recognised(tmp_path):
    theirs = filled(timm.create_model("resnet18"))
    wrapped = {f"module._orig_mod.{n}": x for n, x in theirs.state_dict().items()}
    report = load(Detector(resnet(18)), wrapped, tmp_path)

    assert missing_in_backbone(report) == []
    assert report.source == "torchvision's or timm's ResNet"
