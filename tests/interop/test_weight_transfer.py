"""torchvision's detectors with random weights, and ours with the same weights."""

import math

import pytest
import torch
from torch import nn

detection = pytest.importorskip(
    "torchvision.models.detection", exc_type=ImportError, reason="run by `make interop`"
)

import retinue.torchvision as ours  # noqa: E402
from retinue.checkpoint.names_torchvision import convert_torchvision_names  # noqa: E402
from retinue.config import get_cfg  # noqa: E402
from retinue.modeling import build_model  # noqa: E402
from retinue.modeling.taps import taps  # noqa: E402

SMALL = {"min_size": 128, "max_size": 200, "box_score_thresh": 0.0, "box_detections_per_img": 40}
SMALL |= {"rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 100}


# How much the outputs of these layers shall vary: neither all alike, nor saturated.
SPREAD = {
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 1.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 1.0,
    "roi_heads.keypoint_predictor.kps_score_lowres": 1.0,
    "head.classification_head.cls_logits": 1.0,
    "head.regression_head.bbox_reg": 0.3,
    "head.regression_head.bbox_ctrness": 1.0,
}


@torch.no_grad()
def filled(model, images):
    """Random weights whose outputs differ from place to place and from class to class."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if "running_var" in name or ("bn" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.dim() > 1:
            tensor.normal_(0, math.sqrt(2 / tensor[0].numel()), generator=generator)
        else:
            tensor.normal_(0, 0.05, generator=generator)
    hooks = [
        m.register_forward_hook(_scale(SPREAD[n])) for n, m in model.named_modules() if n in SPREAD
    ]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    return model


def _scale(spread):
    done = set()

    def hook(layer, inputs, output):
        if layer in done:  # shared by the levels of a pyramid
            return output
        done.add(layer)
        factor = spread / output.std()
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
        return output * factor

    return hook


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    low = [torch.rand(3, 6, 8, generator=generator), torch.rand(3, 9, 7, generator=generator)]
    sizes = [(100, 150), (140, 105)]
    return [
        nn.functional.interpolate(x[None], size, mode="bicubic")[0].clamp(0, 1)
        for x, size in zip(low, sizes, strict=True)
    ]


def resnet18_pyramid(extra_blocks=None, returned_layers=None):
    from torchvision.models import resnet18
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    return _resnet_fpn_extractor(
        resnet18(weights=None), 5, extra_blocks=extra_blocks, returned_layers=returned_layers
    )


def their_retinanet(**arguments):
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet18_pyramid(LastLevelP6P7(256, 256), [2, 3, 4])
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    anchors = detection.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    return detection.RetinaNet(backbone, 7, anchor_generator=anchors, **arguments)


def equal_results(theirs, found, keys=("boxes", "scores")):
    assert len(theirs) == len(found)
    for a, b in zip(theirs, found, strict=True):
        assert len(a["boxes"]) > 10  # there is something to compare
        assert a["labels"].tolist() == b["labels"].tolist()
        for key in keys:
            tolerance = 2e-2 if key in ("boxes", "keypoints") else 1e-4
            torch.testing.assert_close(b[key], a[key], atol=tolerance, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["FasterRCNN", "MaskRCNN", "KeypointRCNN"])
def test_rcnn_gives_the_same_detections(kind, images):
    num_classes = 2 if kind == "KeypointRCNN" else 5
    theirs = filled(getattr(detection, kind)(resnet18_pyramid(), num_classes, **SMALL), images)
    model = getattr(ours, kind)(ours.resnet_fpn_backbone("resnet18"), num_classes, **SMALL).eval()

    model.load_state_dict(theirs.state_dict())

    keys = ("boxes", "scores") + (("keypoints", "keypoints_scores") if "Key" in kind else ())
    expected, found = theirs(images), model(images)
    equal_results(expected, found, keys)
    if kind == "MaskRCNN":  # pasted by another method: edges may differ by a pixel
        for a, b in zip(expected, found, strict=True):
            differ = ((a["masks"] > 0.5) != (b["masks"] > 0.5)).flatten(1).float().mean(dim=1)
            assert differ.max() < 0.05
        with taps(theirs, "roi_heads.mask_predictor") as a:
            theirs(images)
        with taps(model, "roi_heads.mask_predictor") as b:
            model(images)
        logits = [t["roi_heads.mask_predictor"] for t in (a, b)]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_retinanet_gives_the_same_detections(images):
    arguments = {"min_size": 128, "max_size": 200, "score_thresh": 0.3, "detections_per_img": 60}
    theirs = filled(their_retinanet(**arguments), images)
    backbone = ours.resnet_fpn_backbone("resnet18", extra_levels="p6p7")
    model = ours.RetinaNet(
        backbone,
        7,
        anchor_generator=ours.AnchorGenerator(
            theirs.anchor_generator.sizes, theirs.anchor_generator.aspect_ratios
        ),
        **arguments,
    ).eval()

    model.load_state_dict(theirs.state_dict())

    equal_results(theirs(images), model(images))


def fcos_pair(images, **arguments):
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet18_pyramid(LastLevelP6P7(256, 256), [2, 3, 4])
    theirs = filled(detection.FCOS(backbone, 7, **arguments), images)
    backbone = ours.resnet_fpn_backbone("resnet18", extra_levels="p6p7", freeze_norm=False)
    model = ours.FCOS(backbone, 7, **arguments).eval()
    model.load_state_dict(theirs.state_dict())
    return theirs, model


@torch.no_grad()
def test_fcos_gives_the_same_detections(images):
    theirs, model = fcos_pair(
        images, min_size=128, max_size=200, score_thresh=0.3, detections_per_img=60
    )
    equal_results(theirs(images), model(images))


def test_fcos_gives_the_same_losses(images):
    theirs, model = fcos_pair(images, min_size=128, max_size=200)
    targets = [
        {
            "boxes": torch.tensor([[10.0, 12.0, 60.0, 80.0], [50.0, 5.0, 95.0, 70.0]]),
            "labels": torch.tensor([3, 1]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    for part in (theirs.train(), model.train()):
        part.backbone.eval()  # norms over the few pixels of coarse maps magnify rounding
    expected, found = theirs(images, targets), model(images, targets)
    assert list(found) == list(expected)
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["FasterRCNN", "MaskRCNN"])
def test_a_model_of_a_config_gives_the_same_detections(kind, images):
    """The converted weights, under detectron2's names, in a model that a config builds."""
    theirs = filled(getattr(detection, kind)(resnet18_pyramid(), 5, **SMALL), images)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 300
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 100
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 40
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
        head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = "ROIAlign", 2
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 4
    cfg.MODEL.MASK_ON = kind == "MaskRCNN"
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    model = build_model(cfg).eval()
    weights, old_names = convert_torchvision_names(theirs.state_dict())
    model.load_state_dict(weights)
    assert set(old_names.values()) <= set(theirs.state_dict())
    generator = model.proposal_generator.anchor_generator
    whole_anchors = theirs.rpn.anchor_generator.cell_anchors
    for own, whole in zip(generator.cell_anchors, whole_anchors, strict=True):
        assert (own - whole).abs().max() <= 0.5  # theirs are rounded
        own.copy_(whole)

    theirs.transform.min_size, theirs.transform.max_size = (128,), 192
    image = nn.functional.interpolate(images[0][None], (128, 192), mode="bilinear")[0]
    expected = theirs([image])[0]
    found = model([{"image": image * 255}])[0]["instances"]

    assert found.pred_classes.tolist() == (expected["labels"] - 1).tolist()
    torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], atol=2e-2, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos"],
)
def test_complete_models_take_each_others_names(name):
    with torch.device("meta"):
        theirs = getattr(detection, f"{name}_resnet50_fpn")(weights=None, weights_backbone=None)
        model = getattr(ours, f"{name}_resnet50_fpn")()

    model.load_state_dict(theirs.state_dict())  # strict: every name and shape fits


@pytest.mark.parametrize("name", ["fasterrcnn", "maskrcnn", "retinanet", "fcos"])
def test_every_weight_gets_a_name_of_ours(name):
    kind = "_resnet50_fpn" if name == "fcos" else "_resnet50_fpn_v2"
    with torch.device("meta"):
        theirs = getattr(detection, name + kind)(weights=None, weights_backbone=None)

    converted, _ = convert_torchvision_names(theirs.state_dict())

    known = [
        "backbone.bottom_up.stem.",
        "backbone.bottom_up.res",
        "backbone.fpn_",
        "backbone.top_block.p",
        "proposal_generator.rpn_head.",
        "roi_heads.box_head.",
        "roi_heads.box_predictor.",
        "roi_heads.mask_head.",
        "head.cls_",
        "head.bbox_",
        "head.ctrness",
    ]
    assert [n for n in converted if not n.startswith(tuple(known))] == []


def test_published_weights_are_where_torchvision_says():
    for name in ours.__all__:
        if name.endswith("_Weights"):
            members, theirs = getattr(ours, name), getattr(detection, name)
            assert {m.name: m.url for m in members} == {m.name: m.url for m in theirs}
            assert members.DEFAULT.name == theirs.DEFAULT.name
            assert members.DEFAULT.meta["categories"] == theirs.DEFAULT.meta["categories"]
