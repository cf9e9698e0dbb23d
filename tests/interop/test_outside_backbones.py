"""Models of timm and torchvision as backbones, beside the models themselves."""

import pytest
import torch

timm = pytest.importorskip("timm", exc_type=ImportError, reason="run by `make interop`")
torchvision = pytest.importorskip("torchvision", exc_type=ImportError)

from retinue.config import get_cfg  # noqa: E402
from retinue.modeling import build_model  # noqa: E402
from retinue.modeling.backbone import FPN, OutsideBackbone  # noqa: E402
from retinue.modeling.backbone.fpn import LastLevelMaxPool  # noqa: E402
from retinue.modeling.optimize import optimize_for_inference  # noqa: E402
from retinue.torchvision import FasterRCNN  # noqa: E402

PYRAMIDS = {  # strides 4 to 32 and their channels
    "torchvision:resnet18": (64, 128, 256, 512),
    "torchvision:resnext50_32x4d": (256, 512, 1024, 2048),
    "torchvision:vgg11_bn": (256, 512, 512, 512),
    "torchvision:densenet121": (256, 512, 1024, 1024),
    "torchvision:mobilenet_v2": (24, 32, 96, 1280),
    "torchvision:mobilenet_v3_small": (16, 24, 48, 576),
    "torchvision:efficientnet_b0": (24, 40, 112, 1280),
    "torchvision:mnasnet0_5": (16, 24, 48, 1280),
    "torchvision:shufflenet_v2_x0_5": (24, 48, 96, 1024),
    "torchvision:regnet_y_400mf": (48, 104, 208, 440),
    "torchvision:convnext_tiny": (96, 192, 384, 768),
    "torchvision:swin_t": (96, 192, 384, 768),
    "torchvision:googlenet": (192, 480, 832, 1024),
    "torchvision:inception_v3": (192, 288, 768, 2048),
    "timm:resnet18": (64, 128, 256, 512),
    "timm:vgg11": (256, 512, 512, 512),
    "timm:densenet121": (256, 512, 1024, 1024),
    "timm:mobilenetv3_small_050": (8, 16, 24, 288),
    "timm:efficientnet_b0": (24, 40, 112, 320),
    "timm:convnext_atto": (40, 80, 160, 320),
    "timm:convnext_tiny": (96, 192, 384, 768),
    "timm:swin_tiny_patch4_window7_224": (96, 192, 384, 768),
    "timm:hrnet_w18_small": (128, 256, 512, 1024),
    "timm:nasnetalarge": (168, 1008, 2016, 4032),
}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_families_give_a_pyramid(name):
    """Channels as in the papers; shapes of what comes out are those told in advance."""
    with torch.device("meta"):
        backbone = OutsideBackbone(name, out_features=[4, 8, 16, 32]).eval()
        maps = backbone(torch.empty(2, 3, 160, 96))

    assert [s.stride for s in backbone.output_shape().values()] == [4, 8, 16, 32]
    assert tuple(s.channels for s in backbone.output_shape().values()) == PYRAMIDS[name]
    for key, shape in backbone.output_shape().items():
        size = (2, shape.channels, 160 // shape.stride, 96 // shape.stride)
        assert tuple(maps[key].shape) == size


@pytest.mark.parametrize(
    "name",
    ["resnet50", "vgg16", "vgg11_bn", "densenet121", "mobilenet_v2", "convnext_tiny"],
)
def test_an_fpn_fits_on_top(name):
    with torch.device("meta"):
        network = OutsideBackbone(f"torchvision:{name}", out_features=[4, 8, 16, 32])
        pyramid = FPN(network, list(network.output_shape()), 8, top_block=LastLevelMaxPool())
        maps = pyramid.eval()(torch.empty(2, 3, 128, 192))

    sizes = {f"p{level}": (2, 8, 128 >> level, 192 >> level) for level in range(2, 7)}
    assert {name: tuple(m.shape) for name, m in maps.items()} == sizes


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        ("torchvision:vit_b_32", 32, 768),
        ("timm:vit_tiny_patch16_224", 16, 192),
        ("timm:deit_tiny_patch16_224", 16, 192),
        ("timm:vit_small_patch14_dinov2", 14, 384),
    ],
)
def test_flat_transformers_take_any_size(name, stride, channels):
    with torch.device("meta"):
        backbone = OutsideBackbone(name).eval()
        maps = backbone(torch.empty(1, 3, 10 * stride, 7 * stride))

    assert {k: tuple(m.shape) for k, m in maps.items()} == {f"stride{stride}": (1, channels, 10, 7)}
    assert backbone.size_divisibility == stride


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "module_of_stride"),
    [
        ("resnet18", {4: "layer1", 8: "layer2", 32: "layer4"}),
        ("vgg11", {4: "features.9", 32: "features.20"}),
        ("densenet121", {4: "features.denseblock1", 16: "features.denseblock3"}),
        ("mobilenet_v2", {8: "features.6", 32: "features"}),
        ("squeezenet1_1", {8: "features.7"}),
        ("shufflenet_v2_x0_5", {8: "stage2", 32: "conv5"}),
        ("swin_t", {4: "features.1", 32: "permute"}),
        ("googlenet", {32: "inception5b"}),
    ],
)
def test_maps_are_those_inside_torchvisions_model(name, module_of_stride):
    """What a hook on the whole model sees, up to the layout of Swin."""
    backbone = OutsideBackbone(f"torchvision:{name}", out_features=list(module_of_stride)).eval()
    options = {"transform_input": True, "init_weights": True} if name == "googlenet" else {}
    whole = torchvision.models.get_model(name, weights=None, **options).eval()
    whole.load_state_dict(backbone.net.state_dict(), strict=False)
    heard = {}
    for stride, path in module_of_stride.items():
        whole.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, stride=stride: heard.update({stride: output.clone()})
        )
    image = torch.rand(1, 3, 64, 96)
    whole(image)

    for stride, found in zip(module_of_stride, backbone(image).values(), strict=True):
        expected = heard[stride]
        if expected.shape[-1] == found.shape[1]:
            expected = expected.movedim(-1, 1)
        if name == "squeezenet1_1":  # it doesn't pad: stretched to the grid
            expected = torch.nn.functional.interpolate(expected, found.shape[-2:], mode="bilinear")
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_vit_computes_what_torchvisions_does():
    backbone = OutsideBackbone("torchvision:vit_b_32").eval()
    whole = torchvision.models.vit_b_32(weights=None).eval()
    whole.load_state_dict(backbone.net.state_dict(), strict=False)
    tokens = []
    whole.encoder.register_forward_hook(lambda m, i, output: tokens.append(output))
    image = torch.rand(1, 3, 224, 224)
    whole(image)

    expected = tokens[0][:, 1:].transpose(1, 2).reshape(1, 768, 7, 7)
    torch.testing.assert_close(backbone(image)["stride32"], expected)


@torch.no_grad()
def test_timms_features_are_timms():
    backbone = OutsideBackbone("timm:resnet18", out_features=["res3", "stride32"]).eval()
    whole = timm.create_model("resnet18").eval()
    whole.load_state_dict(backbone.net.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 64)

    maps = backbone(image)

    assert list(maps) == ["res3", "stride32"]
    torch.testing.assert_close(maps["stride32"], whole.forward_features(image))


@pytest.mark.parametrize(
    ("name", "strides", "temporal"),
    [
        ("r3d_18", [2, 4, 8, 16], [1, 2, 4, 8]),
        ("mc3_18", [2, 4, 8, 16], [1, 1, 1, 1]),
        ("r2plus1d_18", [2, 4, 8, 16], [1, 2, 4, 8]),
        ("s3d", [2, 4, 8, 16, 32], [2, 2, 2, 4, 8]),
        ("swin3d_t", [4, 8, 16, 32], [2, 2, 2, 2]),
        ("mvit_v1_b", [4, 8, 16, 32], [2, 2, 2, 2]),
        ("mvit_v2_s", [4, 8, 16, 32], [2, 2, 2, 2]),
    ],
)
def test_video_models_take_clips(name, strides, temporal):
    with torch.device("meta"):
        backbone = OutsideBackbone(f"torchvision:{name}").eval()
        maps = backbone(torch.empty(1, 3, 16, 224, 224))

    assert backbone.is_clip
    assert [s.stride for s in backbone.output_shape().values()] == strides
    assert list(backbone.temporal_strides.values()) == temporal
    for (key, shape), frames in zip(backbone.output_shape().items(), temporal, strict=True):
        side = 224 // shape.stride
        assert tuple(maps[key].shape) == (1, shape.channels, 16 // frames, side, side)
    with pytest.raises(ValueError, match=r"expects clips \(N, C, T, H, W\); got \(1, 3, 64, 64\)"):
        backbone(torch.empty(1, 3, 64, 64, device="meta"))


@torch.no_grad()
def test_a_clip_goes_through_as_in_torchvision():
    backbone = OutsideBackbone("torchvision:r3d_18", out_features=[16]).eval()
    whole = torchvision.models.video.r3d_18(weights=None).eval()
    whole.load_state_dict(backbone.net.state_dict(), strict=False)
    heard = []
    whole.layer4.register_forward_hook(lambda m, i, output: heard.append(output))
    clip = torch.rand(1, 3, 8, 32, 32)
    whole(clip)

    torch.testing.assert_close(backbone(clip)["stride16"], heard[0])


def test_networks_made_for_one_size_say_so():
    with torch.device("meta"):
        backbone = OutsideBackbone("torchvision:maxvit_t").eval()

    assert backbone.padding_constraints == {"square_size": 224}
    with pytest.raises(ValueError, match="takes images of 224 x 224 pixels only"):
        backbone(torch.empty(1, 3, 256, 256, device="meta"))


def test_nothing_is_trained_in_vain():
    """What no feature map depends on is dropped or frozen: DDP waits for every gradient."""
    for name in ("timm:mobilenetv3_small_050", "torchvision:mobilenet_v3_small"):
        backbone = OutsideBackbone(name, out_features=[8, 16])
        sum(m.sum() for m in backbone(torch.rand(2, 3, 64, 64)).values()).backward()
        assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())


def test_weights_say_how_images_are_normalised():
    with torch.device("meta"):
        vit = OutsideBackbone("timm:vit_tiny_patch16_224")
        resnet = OutsideBackbone("torchvision:resnet18")

    assert tuple(vit.image_mean) == (0.5, 0.5, 0.5)
    assert resnet.pixel_mean == pytest.approx([123.675, 116.28, 103.53])
    assert resnet.pixel_std == pytest.approx([58.395, 57.12, 57.375])


def make_cfg(name, in_features=("res2", "res3", "res4", "res5")):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.FPN.IN_FEATURES = list(in_features)
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    return cfg


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "in_features", "pyramid"),
    [
        ("timm:mobilenetv3_small_050", ("res2", "res3", "res4", "res5"), "FPN"),
        (
            "torchvision:mobilenet_v3_small",
            ("stride4", "stride8", "stride16", "stride32"),
            "FPN",
        ),
        ("timm:vit_tiny_patch16_224", ("stride16",), "SimpleFeaturePyramid"),
    ],
)
def test_a_config_names_the_network(name, in_features, pyramid):
    model = build_model(make_cfg(name, in_features)).eval()

    strides = {k: s.stride for k, s in model.backbone.output_shape().items()}
    assert type(model.backbone).__name__ == pyramid
    assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    image = {"image": torch.randint(0, 255, (3, 64, 90)).float()}
    found = model([image])[0]["instances"]
    assert len(found) > 0
    again = optimize_for_inference(model)([image])[0]["instances"]
    torch.testing.assert_close(again.scores, found.scores, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_colours_reach_the_network_as_its_weights_expect():
    """The default config feeds BGR, 0 to 255 less a mean; the network sees RGB as in training."""
    cfg = make_cfg("torchvision:mobilenet_v3_small", ())
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["stride16"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128]]
    model = build_model(cfg).eval()
    network = OutsideBackbone("torchvision:mobilenet_v3_small", out_features=[16]).eval()
    network.load_state_dict(model.backbone.state_dict())
    bgr = torch.randint(0, 255, (3, 64, 96)).float()

    mean, std = (torch.tensor(x)[:, None, None] for x in (network.image_mean, network.image_std))
    expected = network(((bgr.flip(0) / 255 - mean) / std)[None])["stride16"]

    found = model.backbone(model.preprocess_image([{"image": bgr}]).tensor)["stride16"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_retinanet_on_top():
    cfg = make_cfg("torchvision:mobilenet_v3_small", ("stride8", "stride16", "stride32"))
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    with torch.device("meta"):
        cfg.MODEL.DEVICE = "meta"
        model = build_model(cfg)

    strides = [s.stride for s in model.backbone.output_shape().values()]
    assert strides == [8, 16, 32, 64, 128]


@torch.no_grad()
def test_torchvisions_api_takes_it_with_a_pyramid():
    network = OutsideBackbone("timm:convnext_atto", out_features=[4, 8, 16, 32])
    backbone = FPN(network, list(network.output_shape()), 8)
    model = FasterRCNN(backbone, num_classes=3, min_size=64, max_size=96).eval()

    found = model([torch.rand(3, 50, 70)])

    assert sorted(found[0]) == ["boxes", "labels", "scores"]
    assert model.transform.image_mean == network.image_mean


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "timm:convnext_tinny",
            "unknown timm model 'convnext_tinny'; did you mean 'convnext_tiny'",
        ),
        ("torchvision:resnet51", "unknown torchvision model 'resnet51'; did you mean 'resnet50'"),
        ("torchvision:fcn_resnet50", "no classification model .* name the backbone"),
        ("timm:mobilenetv3_small_050?foo=3", "unexpected keyword argument 'foo'"),
        ("torchvision:mobilenet_v2?foo=3", "unexpected keyword argument 'foo'"),
        ("timm:vit_tiny_patch16_224", "no feature map 'res2', 'res3', 'res5'; it has stride16"),
        (
            "torchvision:r3d_18?out_features=stride4,stride8",
            "takes clips .* of a config take images",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(name, message):
    with pytest.raises(ValueError, match=message):
        build_model(make_cfg(name))


def test_a_model_without_feature_maps_is_refused(monkeypatch):
    def create_model(name, features_only=False, **options):
        if features_only:
            raise RuntimeError("features_only not implemented for X")
        return torch.nn.Identity()

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ValueError, match=r"timm:resnet18 has no feature maps: .*not implemented"):
        OutsideBackbone("timm:resnet18")


def test_pretrained_is_passed_on(monkeypatch):
    asked = []
    create_model = timm.create_model

    def spy(name, pretrained=False, **options):
        asked.append(pretrained)
        if pretrained:
            raise OSError("no connection")
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", spy)
    with pytest.raises(RuntimeError, match=r"pretrained weights cannot be loaded .no connection"):
        OutsideBackbone("timm:mobilenetv3_small_050", pretrained=True)
    assert asked[-1]

    spied = []
    get_model = torchvision.models.get_model

    def spy_on_torchvision(name, weights=None, **options):
        spied.append(weights)
        return get_model(name, weights=None, **options)

    monkeypatch.setattr(torchvision.models, "get_model", spy_on_torchvision)
    OutsideBackbone("torchvision:mobilenet_v3_small", pretrained=True)
    OutsideBackbone("torchvision:mobilenet_v3_small", weights="IMAGENET1K_V1")
    assert [w for w in spied if w] == ["DEFAULT", "IMAGENET1K_V1"]
