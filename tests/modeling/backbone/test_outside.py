"""Backbones from outside, around a network that stands for timm's and torchvision's.

Their own models are beside ours in tests/interop.
"""

import functools
import subprocess
import sys

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.modeling import BACKBONE_REGISTRY, build_model
from retinue.modeling.backbone import OutsideBackbone, outside
from retinue.modeling.backbone.outside_network import Network, last_of_each_stride, probe


class Halves(nn.Sequential):
    """Five convolutions of stride 2, each with a batch norm."""

    def __init__(self, in_channels=3, padding=1):
        channels = [in_channels, 4, 6, 8, 10, 12]
        super().__init__(
            *(
                nn.Sequential(
                    nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=padding),
                    nn.BatchNorm2d(channels[i + 1]),
                )
                for i in range(5)
            )
        )
        self.unused = nn.Linear(2, 2)


def maps(indices, net, x):
    outputs = []
    for layer in list(net)[:5]:
        x = layer(x)
        outputs.append(x)
    return [outputs[i] for i in indices]


def make_network(name, choose, *, pretrained, in_channels, options, asked=None):
    """Strides 2 to 32, or the last one alone for a network called "flat"."""
    if asked is not None:
        asked.update(options, name=name, pretrained=pretrained)
    strides = choose([32] if name == "flat" else [2, 4, 8, 16, 32])
    indices = [stride.bit_length() - 2 for stride in strides]
    make = functools.partial(Halves, in_channels, padding=0 if name == "valid" else 1)
    with torch.device("meta"):
        draft = make().eval()
    return Network(
        net=make(),
        draft=draft,
        draft_maps=functools.partial(maps, range(5)),
        draft_strides=[2, 4, 8, 16, 32],
        maps=functools.partial(maps, indices),
        strides=strides,
        channels=[(4, 6, 8, 10, 12)[i] for i in indices],
        mean=(0.5, 0.4, 0.3),
        std=(0.1, 0.2, 0.4),
        fixed_side=64 if name == "fixed" else 0,
    )


@pytest.fixture
def asked(monkeypatch):
    """What the library was asked for."""
    asked = {}
    source = outside._source

    def fake(name):
        library, _, model = name.partition(":")
        known = library in ("timm", "torchvision") and model
        return functools.partial(make_network, asked=asked) if known else source(name)

    monkeypatch.setattr(outside, "_source", fake)
    return asked


def test_feature_maps_are_asked_for_by_stride(asked):
    backbone = OutsideBackbone("timm:net", out_features=[8, "stride16", "res5"])

    found = backbone(torch.rand(2, 3, 64, 96))

    shapes = {k: (s.channels, s.stride) for k, s in backbone.output_shape().items()}
    assert shapes == {"stride8": (8, 8), "stride16": (10, 16), "res5": (12, 32)}
    assert [tuple(m.shape) for m in found.values()] == [(2, 8, 8, 12), (2, 10, 4, 6), (2, 12, 2, 3)]
    assert backbone.size_divisibility == 32
    assert list(OutsideBackbone("timm:net").output_shape()) == [
        f"stride{2**k}" for k in range(1, 6)
    ]


def test_options_are_passed_on(asked):
    OutsideBackbone("torchvision:net", pretrained=True, drop_path_rate=0.2)

    assert asked == {"name": "net", "pretrained": True, "drop_path_rate": 0.2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "net"}, "expected 'timm:NAME' or 'torchvision:NAME'; got 'net'"),
        ({"name": "tim:net"}, "unknown library of backbones 'tim'; did you mean 'timm'"),
        (
            {"name": "timm:net", "out_features": [64]},
            "timm:net: has no feature map 'stride64'; it has stride2, stride4, stride8",
        ),
        ({"name": "timm:net", "out_features": ["p3"]}, "or 'res3' for the same; got 'p3'"),
        ({"name": "timm:net", "out_features": "res3"}, r"a list such as \[8, 16, 32\]; got 'res3'"),
        (
            {"name": "timm:net", "pixel_mean": [1, 2, 3], "input_format": "YUV"},
            "must be 'RGB' or 'BGR'; got 'YUV'",
        ),
    ],
)
def test_a_wrong_argument_is_named(asked, arguments, message):
    with pytest.raises(ValueError, match=message):
        OutsideBackbone(**arguments)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_missing_library_names_the_extra(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"needs {library}: pip install 'retinue\[{library}\]'"):
        OutsideBackbone(f"{library}:resnet18")


def test_a_broken_library_says_what_to_install(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ImportError, match=r"cannot be imported .*install the torchvision that"):
        OutsideBackbone("torchvision:resnet18")


def test_input_is_converted_to_what_the_weights_expect(asked):
    """(bgr - mean) / std comes in; the network sees (rgb / 255 - its mean) / its std."""
    given = {"pixel_mean": [10.0, 20.0, 30.0], "pixel_std": [2.0, 3.0, 4.0]}
    backbone = OutsideBackbone("timm:net", out_features=[2], input_format="BGR", **given).eval()
    plain = OutsideBackbone("timm:net", out_features=[2]).eval()
    plain.load_state_dict(backbone.state_dict())
    bgr = torch.rand(1, 3, 32, 32) * 255
    mean, std = (torch.tensor(given[k])[:, None, None] for k in ("pixel_mean", "pixel_std"))
    own_mean, own_std = (
        torch.tensor(x)[:, None, None] for x in (plain.image_mean, plain.image_std)
    )

    found = backbone((bgr - mean) / std)["stride2"]

    expected = plain((bgr.flip(1) / 255 - own_mean) / own_std)["stride2"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert plain.pixel_mean == pytest.approx([127.5, 102.0, 76.5])


def test_what_finer_maps_depend_on_is_frozen(asked):
    backbone = OutsideBackbone("timm:net", freeze_at=2, freeze_norm=False)

    trained = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"2", "3", "4"}  # 0 and 1 make stride 4; no map depends on "unused"
    backbone.train()
    assert [layer[1].training for layer in list(backbone.net)[:5]] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_pretrained_weights_say_what_they_expect(asked, caplog):
    OutsideBackbone("timm:net", pretrained=True, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    assert caplog.text == ""

    OutsideBackbone("timm:net", pretrained=True)
    assert "expect RGB images less pixel_mean=[127.5, 102.0, 76.5]" in caplog.text


def test_batch_norms_of_pretrained_networks_keep_their_statistics(asked):
    backbone = OutsideBackbone("timm:net", pretrained=True).train()
    before = backbone.net[0][1].running_mean.clone()

    backbone(torch.rand(2, 3, 64, 64))

    assert backbone.net[0][1].running_mean.equal(before)
    assert not backbone.net[0][1].weight.requires_grad
    assert backbone.net[0][0].weight.requires_grad


def test_maps_of_networks_without_padding_fill_the_grid(asked):
    found = OutsideBackbone("timm:valid").eval()(torch.rand(1, 3, 128, 192))

    assert [tuple(m.shape[-2:]) for m in found.values()] == [
        (64, 96),  # 63 x 95 without padding
        (32, 48),
        (16, 24),
        (8, 12),
        (4, 6),
    ]


def test_a_network_for_one_size_refuses_others(asked):
    backbone = OutsideBackbone("timm:fixed")

    assert backbone.padding_constraints == {"square_size": 64}
    backbone(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match=r"takes images of 64 x 64 pixels only; got \(64, 96\)"):
        backbone(torch.rand(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r"expects images \(N, C, H, W\); got \(3, 64, 64\)"):
        backbone(torch.rand(3, 64, 64))


def test_probing_finds_out_about_sizes():
    def only(*sides):
        def run(x):
            if x.shape[-1] not in sides:
                raise RuntimeError("another size")
            return [x]

        return run

    for sides, fixed in [((256, 224), 0), ((224,), 224), ((224, 518), 0), ((518,), 518)]:
        assert probe(only(*sides), 3, native=518, is_clip=False)[2] == fixed
    with pytest.raises(ValueError, match="failed on an image of 518 x 518: another size"):
        probe(only(), 3, native=518, is_clip=False)
    assert last_of_each_stride([4, 2, 4, 8]) == {2: 1, 4: 2, 8: 3}


# ------------------------------------------------------------------------------ from a config


def make_cfg(name, **fpn):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.FPN.update(fpn)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    return cfg


@pytest.mark.parametrize(
    ("in_features", "name", "pyramid"),
    [
        (["res2", "res3", "res4", "res5"], "timm:net", "FPN"),
        (["stride4", "stride8", "stride16", "stride32"], "torchvision:net?pretrained=False", "FPN"),
        (["stride32"], "timm:flat", "SimpleFeaturePyramid"),
    ],
)
def test_a_pyramid_has_the_levels_that_are_asked_for(asked, in_features, name, pyramid):
    cfg = make_cfg(name, IN_FEATURES=in_features)
    if pyramid == "SimpleFeaturePyramid":  # stride 32: up to four times as fine
        cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4", "p5", "p6"]
    model = build_model(cfg)

    assert type(model.backbone).__name__ == pyramid
    strides = {k: s.stride for k, s in model.backbone.output_shape().items()}
    assert strides == {k: 2 ** int(k[1]) for k in cfg.MODEL.RPN.IN_FEATURES}
    assert model.eval()([{"image": torch.zeros(3, 50, 70)}])[0]["instances"].image_size == (50, 70)


def test_retinanet_gets_its_two_levels(asked):
    cfg = make_cfg("timm:net", IN_FEATURES=["res3", "res4", "res5"])
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"

    shapes = build_model(cfg).backbone.output_shape()
    assert [s.stride for s in shapes.values()] == [8, 16, 32, 64, 128]


def test_options_and_feature_maps_from_a_config(asked):
    cfg = make_cfg("timm:net?pretrained=True&drop_path_rate=0.2&kind=small", IN_FEATURES=[])
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["stride16"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64]]
    backbone = build_model(cfg).backbone

    assert list(backbone.output_shape()) == ["stride16"]
    assert asked == {"name": "net", "pretrained": True, "drop_path_rate": 0.2, "kind": "small"}
    trained = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"2", "3"}  # FREEZE_AT is 2; stride 32 isn't asked for
    assert list(backbone.state_dict()) == [f"net.{k}" for k in Halves().state_dict()]


def test_malformed_options_are_refused(asked):
    with pytest.raises(ValueError, match="expected KEY=VALUE; got 'pretrained'"):
        build_model(make_cfg("timm:net?pretrained"))


def test_the_registry_knows_the_families():
    assert "timm:anything" in BACKBONE_REGISTRY
    assert "timm:" not in BACKBONE_REGISTRY
    assert "torchvision:*" in repr(BACKBONE_REGISTRY)
    with pytest.raises(KeyError, match="unknown name in the BACKBONE registry 'tim:net'"):
        BACKBONE_REGISTRY.get("tim:net")


def test_nothing_here_imports_the_libraries():
    code = (
        "import sys, retinue, retinue.modeling.backbone.outside, retinue.torchvision as api;"
        "[getattr(api, name) for name in api.__all__];"
        "sys.exit(bool({'torchvision', 'timm'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
