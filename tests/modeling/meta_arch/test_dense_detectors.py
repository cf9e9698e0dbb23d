"""RetinaNet and FCOS."""

import math

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import CycleBatchNormList, ShapeSpec
from retinue.modeling import FCOS, RetinaNet, build_model
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K
from retinue.modeling.meta_arch.fcos import FCOSHead
from retinue.modeling.meta_arch.retinanet import RetinaNetHead, class_targets
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError, UnknownNameError

SHAPES = [ShapeSpec(channels=4)] * 2


def retinanet(backbone, pixels, **options):
    torch.manual_seed(3)
    arguments = {
        "head": RetinaNetHead(input_shape=SHAPES, num_classes=3, num_anchors=2, conv_dims=[4]),
        "head_in_features": ["p3", "p4"],
        "anchor_generator": DefaultAnchorGenerator(
            sizes=[[12, 16], [24, 32]], aspect_ratios=[[1.0]], strides=[8, 16]
        ),
        "box2box_transform": Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        "anchor_matcher": Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True),
        "num_classes": 3,
        "test_score_thresh": 0.001,
    }
    return RetinaNet(backbone=backbone, **arguments | options, **pixels)


def fcos(backbone, pixels, **options):
    torch.manual_seed(3)
    head = FCOSHead(input_shape=SHAPES, num_classes=3, conv_dims=[4])
    nn.init.constant_(head.bbox_pred.bias, 1.0)  # boxes of two strides, not empty ones
    arguments = {"head": head, "num_classes": 3, "test_score_thresh": 0.001} | options
    return FCOS(backbone=backbone, **arguments, **pixels)


MAKERS = pytest.mark.parametrize("make", [retinanet, fcos])


# ----------------------------------------------------------------------------------------- both


@MAKERS
def test_training_gives_losses_without_a_storage(make, backbone, pixels, inputs):
    model = make(backbone, pixels)
    losses = model(inputs)

    assert all(x.isfinite() for x in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@MAKERS
def test_images_without_objects_can_be_trained_on(make, backbone, pixels, inputs):
    losses = make(backbone, pixels)(inputs[1:])

    assert sum(losses.values()) > 0
    assert losses[{retinanet: "loss_box_reg", fcos: "loss_fcos_loc"}[make]] == 0


@MAKERS
def test_inference_gives_boxes_in_the_asked_size(make, backbone, pixels, inputs):
    model = make(backbone, pixels, max_detections_per_image=5).eval()
    outputs = [o["instances"] for o in model(inputs)]

    assert [found.image_size for found in outputs] == [(64, 80), (24, 30)]
    assert all(0 < len(found) <= 5 for found in outputs)
    assert outputs[0].scores.diff().le(0).all()
    assert sorted(outputs[0].get_fields()) == ["pred_boxes", "pred_classes", "scores"]
    assert model.device == torch.device("cpu")


@MAKERS
def test_a_high_threshold_finds_nothing(make, backbone, pixels, inputs):
    outputs = make(backbone, pixels, test_score_thresh=1.0).eval()(inputs)

    assert [len(o["instances"]) for o in outputs] == [0, 0]


@MAKERS
def test_wrong_input_is_refused(make, backbone, pixels, inputs):
    model = make(backbone, pixels)
    with pytest.raises(AssertionError, match="'instances' is missing"):
        model([{"image": inputs[0]["image"]}])
    with pytest.raises(KeyError, match=r"unknown feature in head_in_features 'p5'.*backbone"):
        make(backbone, pixels, head_in_features=["p3", "p5"])
    with pytest.raises(InputError, match="made for 2 feature maps; got 1"):
        model.head([torch.rand(1, 4, 2, 2)])


def test_predictions_are_brought_to_rows_of_anchors():
    """Channel a * K + k at (y, x) goes to row (y * W + x) * A + a, column k."""
    x = torch.arange(2 * 6 * 2 * 3.0).view(2, 6, 2, 3)
    rows = permute_to_N_HWA_K(x, 3)

    assert rows.shape == (2, 12, 3)
    for y, column, a, k in [(0, 0, 0, 0), (1, 2, 1, 2), (0, 1, 1, 0)]:
        assert rows[1, (y * 3 + column) * 2 + a, k] == x[1, a * 3 + k, y, column]


def test_the_best_pairs_of_a_level_are_decoded(backbone, pixels):
    """By hand: of three anchors and two classes, three pairs pass 0.5 and two may stay."""
    model = retinanet(backbone, pixels)
    anchors = Boxes([[0, 0, 4, 4], [4, 4, 8, 8], [8, 8, 12, 12]])
    scores = torch.tensor([[0.5, 0.6], [0.9, 0.1], [0.1, 0.8]])
    deltas = torch.tensor([[0.0] * 4, [0.25, 0, 0, 0], [0, 0, 0, math.log(2)]])
    found = model._decode_multi_level_predictions([anchors], [scores], [deltas], 0.5, 2, (20, 20))

    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.pred_classes.tolist() == [0, 1]
    boxes = [[5, 4, 9, 8], [8, 6, 12, 14]]  # a quarter of the side to the right; twice as high
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor(boxes, dtype=torch.float32))


def test_suppression_is_by_class(backbone, pixels):
    model = retinanet(backbone, pixels, max_detections_per_image=2)
    anchors = [Boxes([[0, 0, 10, 10], [0, 0, 10, 9]])]
    scores = [torch.tensor([[0.9, 0.0], [0.8, 0.7]])]
    found = model.inference_single_image(anchors, scores, [torch.zeros(2, 4)], (20, 20))

    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert found.pred_classes.tolist() == [0, 1]


def test_a_running_mean_moves_by_a_tenth(backbone, pixels):
    model = retinanet(backbone, pixels)

    assert model._ema_update("mean", torch.tensor(20.0), 100) == 92
    assert model._ema_update("mean", torch.tensor(2.0), 100) == pytest.approx(83)
    assert model._ema_update("plain", 0.0, 10) == 9
    assert "mean" not in model.state_dict()


def test_a_subclass_must_say_what_predictions_mean(backbone, pixels, inputs):
    model = DenseDetector(backbone, nn.Identity(), **pixels)
    assert model.head_in_features == ["p3", "p4"]
    with pytest.raises(NotImplementedError, match="DenseDetector must define forward_training"):
        model(inputs)
    with pytest.raises(NotImplementedError, match="must define forward_inference"):
        model.eval()(inputs)


def test_targets_have_a_one_for_each_object():
    logits = torch.zeros(3, 2, requires_grad=True)

    assert class_targets(torch.tensor([1, 2, 0]), logits).tolist() == [[0, 1], [0, 0], [1, 0]]


# ------------------------------------------------------------------------------------ RetinaNet


def test_retinanets_losses_by_hand(backbone, pixels):
    """Logits of 0 are probabilities of 1/2: each column costs ln 2 / 4, times 1/4 for the one of
    the object and 3/4 for others. The deltas miss by 0.5. The running mean is 0.9 * 100 + 0.1.
    """
    model = retinanet(backbone, pixels)
    anchors = [Boxes([[0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 5, 5]])]
    labels = [torch.tensor([2, 3, -1])]
    boxes = [torch.tensor([[5.0, 0, 15, 10], [0] * 4, [0] * 4])]
    losses = model.losses(anchors, [torch.zeros(1, 3, 3)], labels, [torch.zeros(1, 3, 4)], boxes)

    cost = math.log(2) / 4 * (0.25 + 5 * 0.75)
    assert losses["loss_cls"].item() == pytest.approx(cost / 90.1)
    assert losses["loss_box_reg"].item() == pytest.approx(0.5 / 90.1)


def test_retinanets_labels_by_hand(backbone, pixels):
    """IoU with the box: 1, 0.45 (between both thresholds), 0.25."""
    model = retinanet(backbone, pixels)
    anchors = [Boxes([[0, 0, 10, 10]]), Boxes([[0, 0, 10, 4.5], [0, 0, 5, 5]])]
    gt = Instances((20, 20), gt_boxes=Boxes([[0, 0, 10, 10]]), gt_classes=torch.tensor([1]))
    none = Instances((20, 20), gt_boxes=Boxes([]), gt_classes=torch.zeros(0, dtype=torch.int64))
    labels, boxes = model.label_anchors(anchors, [gt, none])

    assert [x.tolist() for x in labels] == [[1, -1, 3], [3, 3, 3]]
    assert boxes[0][0].tolist() == [0, 0, 10, 10]
    assert boxes[1].shape == (3, 4)


def test_every_anchor_begins_as_background():
    head = RetinaNetHead(input_shape=SHAPES, num_classes=3, num_anchors=2, conv_dims=[4, 4],
                         prior_prob=0.2)  # fmt: skip
    logits, deltas = head([torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 1, 1)])

    assert [tuple(x.shape) for x in logits] == [(1, 6, 2, 2), (1, 6, 1, 1)]
    assert [tuple(x.shape) for x in deltas] == [(1, 8, 2, 2), (1, 8, 1, 1)]
    torch.testing.assert_close(logits[0].sigmoid(), torch.full((1, 6, 2, 2), 0.2))


def test_batch_norms_keep_levels_apart(caplog):
    head = RetinaNetHead(input_shape=SHAPES, num_classes=1, num_anchors=1, conv_dims=[4], norm="BN")
    head([torch.rand(2, 4, 2, 2), torch.rand(2, 4, 1, 1) + 5])
    norm = head.cls_subnet[1]

    assert isinstance(norm, CycleBatchNormList)
    assert not norm[0].running_mean.equal(norm[1].running_mean)
    RetinaNetHead(input_shape=SHAPES, num_classes=1, num_anchors=1, conv_dims=[4], norm="FrozenBN")
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_parts_that_do_not_fit_are_refused_with_the_numbers(backbone, pixels):
    three = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[4, 8, 16])
    with pytest.raises(InputError, match="for 3 levels, but head_in_features names 2"):
        retinanet(backbone, pixels, anchor_generator=three)
    with pytest.raises(InputError, match=r"5 classes .* need a head with \(10, 8\) outputs; got"):
        retinanet(backbone, pixels, num_classes=5)
    with pytest.raises(InputError, match="got 2 and 0"):
        RetinaNetHead(input_shape=SHAPES, num_classes=1, num_anchors=1, conv_dims=[])


def retinanet_config():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[x, x * 2 ** (1 / 3)] for x in (32, 64, 128, 256, 512)]
    return cfg


def test_a_config_builds_retinanet():
    cfg = retinanet_config()
    cfg.MODEL.RETINANET.NUM_CLASSES = 5
    with torch.device("meta"):
        model = build_model(cfg)

    assert model.head.cls_score.out_channels == 5 * 6
    assert len([m for m in model.head.cls_subnet if isinstance(m, nn.Conv2d)]) == 4
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512, 600]]
    with torch.device("meta"), pytest.raises(AssertionError, match=r"got \[3, 3, 3, 3, 6\]"):
        build_model(cfg)
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    cfg.MODEL.RETINANET.IN_FEATURES = ["p3", "p8"]
    with torch.device("meta"), pytest.raises(UnknownNameError, match=r"IN_FEATURES 'p8'"):
        build_model(cfg)


# ----------------------------------------------------------------------------------------- FCOS


def test_fcos_labels_by_hand(backbone, pixels):
    """A box of 16 pixels around (12, 12), the second place of each axis of level p3.

    Its farthest side is 8 away from there: level p3 takes it. The four places next to it are 8
    pixels away in x or y, less than 1.5 strides, but on the box's border or outside. Place (12,
    12) is also inside the smaller box of class 1, which wins.
    """
    model = fcos(backbone, pixels)
    anchors = model.anchor_generator([torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 2, 2)])
    gt = Instances(
        (32, 32),
        gt_boxes=Boxes([[4, 4, 20, 20], [8, 8, 16, 16]]),
        gt_classes=torch.tensor([2, 1]),
    )
    labels, boxes = model.label_anchors(anchors, [gt])

    assert labels[0].shape == (20,)
    assert (labels[0] != 3).nonzero().flatten().tolist() == [5]
    assert labels[0][5] == 1
    assert boxes[0][5].tolist() == [8, 8, 16, 16]


def test_large_boxes_belong_to_the_coarse_level(backbone, pixels):
    """By hand: 40 pixels to a side is more than 4 strides of p4's finer neighbour, 8 * 4 = 32."""
    model = fcos(backbone, pixels)
    anchors = model.anchor_generator([torch.zeros(1, 4, 10, 10), torch.zeros(1, 4, 5, 5)])
    gt = Instances((80, 80), gt_boxes=Boxes([[0, 0, 150, 80]]), gt_classes=torch.tensor([0]))
    (labels,), _ = model.label_anchors(anchors, [gt])

    assert (labels[:100] == 3).all()
    assert (labels[100:] == 0).any()


def test_centreness_by_hand(backbone, pixels):
    """Equation 3: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))."""
    model = fcos(backbone, pixels)
    anchors = [Boxes([[8, 8, 16, 16]])]  # the place (12, 12)
    boxes = [torch.tensor([[8.0, 4, 28, 20]]), torch.tensor([[4.0, 4, 20, 20]])]

    got = model.compute_ctrness_targets(anchors, boxes)
    torch.testing.assert_close(got, torch.tensor([[math.sqrt(4 / 16)], [1.0]]))
    assert model.compute_ctrness_targets(anchors, []).shape == (0, 1)


def test_a_score_is_the_mean_of_class_and_centreness(backbone, pixels, inputs):
    model = fcos(backbone, pixels).eval()
    for conv in (model.head.cls_score, model.head.ctrness):
        nn.init.zeros_(conv.weight)
    nn.init.constant_(model.head.cls_score.bias, math.log(0.09 / 0.91))
    nn.init.constant_(model.head.ctrness.bias, 0.0)
    scores = model(inputs)[0]["instances"].scores

    torch.testing.assert_close(scores, torch.full_like(scores, math.sqrt(0.09 * 0.5)))
