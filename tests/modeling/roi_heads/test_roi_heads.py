"""Matching and sampling of proposals, and which head sees what."""

import pytest
import torch
from torch import nn

from retinue.config import configurable, get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
    Res5ROIHeads,
    ROIHeads,
    RROIHeads,
    StandardROIHeads,
    build_roi_heads,
    select_foreground_proposals,
)
from retinue.modeling.roi_heads.cascade_rcnn import _ScaleGradient
from retinue.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from retinue.structures import BitMasks, Boxes, Instances, Keypoints, RotatedBoxes
from retinue.utils.events import EventStorage

SIZE = (64, 64)
SHAPES = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=4, stride=8)}
K = 3


def features(num_images=2):
    torch.manual_seed(0)
    return {"p2": torch.randn(num_images, 4, 16, 16), "p3": torch.randn(num_images, 4, 8, 8)}


def proposals(boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))


def targets(boxes, labels):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    masks[:, 10:20, 10:20] = True
    points = torch.cat((boxes[:, None, :2] + 5, torch.full((len(boxes), 1, 1), 2.0)), dim=2)
    return Instances(
        SIZE,
        gt_boxes=Boxes(boxes),
        gt_classes=torch.tensor(labels, dtype=torch.int64),
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(points),
    )


def base(**kwargs):
    return ROIHeads(
        **{
            "num_classes": K,
            "batch_size_per_image": 8,
            "positive_fraction": 0.5,
            "proposal_matcher": Matcher([0.5], [0, 1]),
        }
        | kwargs
    )


ONE_BOX = [[10, 10, 30, 30]]
NEAR_AND_FAR = [[11, 10, 31, 30], [40, 40, 60, 60]]


def test_proposals_learn_what_they_should_find():
    """One overlaps the object by 19/21, the other not at all; the object itself is added."""
    with EventStorage() as storage:
        labelled = base().label_and_sample_proposals(
            [proposals(NEAR_AND_FAR)], [targets(ONE_BOX, [2])]
        )[0]

    by_label = {
        tuple(b): c
        for b, c in zip(
            labelled.proposal_boxes.tensor.tolist(), labelled.gt_classes.tolist(), strict=True
        )
    }
    assert by_label == {(11, 10, 31, 30): 2, (40, 40, 60, 60): K, (10, 10, 30, 30): 2}
    is_object = labelled.gt_classes == 2
    assert labelled.gt_boxes.tensor[is_object].tolist() == ONE_BOX * 2
    assert labelled.has("gt_masks")
    assert labelled.has("gt_keypoints")
    logged = {name: float(value) for name, (value, _) in storage.latest().items()}
    assert logged == {"roi_head/num_fg_samples": 2, "roi_head/num_bg_samples": 1}


def test_an_image_without_objects_is_all_background():
    labelled = base().label_and_sample_proposals([proposals(NEAR_AND_FAR)], [targets([], [])])[0]

    assert labelled.gt_classes.tolist() == [K, K]
    assert not labelled.has("gt_boxes")


def test_an_image_without_proposals_has_its_objects():
    without = base(proposal_append_gt=False)
    truth = [targets(ONE_BOX, [1])]

    assert base().label_and_sample_proposals([proposals([])], truth)[0].gt_classes.tolist() == [1]
    assert len(without.label_and_sample_proposals([proposals([])], truth)[0]) == 0


def test_uncertain_proposals_are_left_out():
    """IoU 19/21 = 0.90 lies between the limits 0.8 and 0.95."""
    heads = base(proposal_matcher=Matcher([0.8, 0.95], [0, -1, 1]), proposal_append_gt=False)

    labelled = heads.label_and_sample_proposals([proposals(NEAR_AND_FAR)], [targets(ONE_BOX, [2])])

    assert labelled[0].gt_classes.tolist() == [K]


def test_no_more_are_sampled_than_asked_for():
    boxes = [[10, 10, 30, 30 + i] for i in range(10)] + [[40, 40, 60, 50 + i] for i in range(10)]

    labels = base().label_and_sample_proposals([proposals(boxes)], [targets(ONE_BOX, [0])])[0]

    assert sorted(labels.gt_classes.tolist()) == [0] * 4 + [K] * 4


def test_foreground_is_selected():
    p = proposals([[0, 0, 9, 9]] * 4)
    p.gt_classes = torch.tensor([0, -1, K, 2])

    kept, masks = select_foreground_proposals([p, p[:0]], K)

    assert kept[0].gt_classes.tolist() == [0, 2]
    assert masks[0].tolist() == [True, False, False, True]
    assert len(kept[1]) == len(masks[1]) == 0


def test_proposals_that_see_a_keypoint_are_selected():
    p = proposals([[0, 0, 9, 9]] * 4)
    p.gt_keypoints = Keypoints(
        [[[5.0, 5, 2]], [[5.0, 5, 0]], [[20.0, 5, 2]], [[9.0, 0, 1]]]
    )  # inside; not visible; outside; on the corner
    with EventStorage() as storage:
        kept = select_proposals_with_visible_keypoints([p, p[:0]])

    assert [len(k) for k in kept] == [2, 0]
    assert storage.latest()["keypoint_head/num_fg_samples"][0] == 2
    assert select_proposals_with_visible_keypoints([p[:0]])[0] is not None


# ----------------------------------------------------------------------------- StandardROIHeads


def predictor(num_classes=K, **kwargs):
    return FastRCNNOutputLayers(
        ShapeSpec(channels=6),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=num_classes,
        **kwargs,
    )


def pooler(size):
    return ROIPooler(size, (1 / 4, 1 / 8), 0, "ROIAlignV2")


def standard_arguments():
    pooled = ShapeSpec(channels=4, height=4, width=4)
    return {
        "num_classes": K,
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1]),
        "box_in_features": ["p2", "p3"],
        "box_pooler": pooler(4),
        "box_head": FastRCNNConvFCHead(pooled, conv_dims=[], fc_dims=[6]),
        "box_predictor": predictor(test_topk_per_image=5),
        "mask_in_features": ["p2", "p3"],
        "mask_pooler": pooler(4),
        "mask_head": MaskRCNNConvUpsampleHead(pooled, num_classes=K, conv_dims=[5]),
        "keypoint_in_features": ["p2", "p3"],
        "keypoint_pooler": pooler(4),
        "keypoint_head": KRCNNConvDeconvUpsampleHead(pooled, num_keypoints=1, conv_dims=[5]),
    }


TRUTH = [targets(ONE_BOX, [2]), targets([], [])]
PROPOSALS = [proposals(NEAR_AND_FAR), proposals(NEAR_AND_FAR)]


def test_training_gives_the_losses_of_all_branches():
    heads = StandardROIHeads(**standard_arguments())

    sampled, losses = heads(None, features(), PROPOSALS, TRUTH)

    assert sorted(losses) == ["loss_box_reg", "loss_cls", "loss_keypoint", "loss_mask"]
    assert [len(s) for s in sampled] == [3, 2]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in heads.parameters())


def test_inference_gives_all_fields():
    heads = StandardROIHeads(**standard_arguments()).eval()

    found, losses = heads(None, features(), PROPOSALS)

    assert losses == {}
    assert [len(f) for f in found] == [5, 5]
    fields = ["pred_boxes", "pred_classes", "pred_keypoint_heatmaps", "pred_keypoints"]
    assert sorted(found[0].get_fields()) == [*fields, "pred_masks", "scores"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_scores_and_places_keep_their_precision(dtype):
    heads = StandardROIHeads(**standard_arguments())
    with torch.autocast("cpu", dtype=dtype):
        losses = heads(None, features(), PROPOSALS, TRUTH)[1]
        found, _ = heads.eval()(None, features(), PROPOSALS)

    sum(losses.values()).backward()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert found[0].scores.dtype == found[0].pred_keypoints.dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_no_objects_and_no_proposals_are_ordinary(training):
    heads = StandardROIHeads(**standard_arguments()).train(training)
    nothing = [proposals([]), proposals([])]

    _, losses = heads(None, features(), nothing, [targets([], [])] * 2)

    if training:
        sum(losses.values()).backward()
        assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(losses, 0)


def test_branches_may_train_on_predicted_boxes():
    """With weights of zero the predicted box is the proposal; a bias of 1 moves it by a tenth."""
    arguments = standard_arguments()
    layers = arguments["box_predictor"]
    nn.init.zeros_(layers.bbox_pred.weight)
    with torch.no_grad():
        layers.bbox_pred.bias[0::4] = 1.0
    heads = StandardROIHeads(**arguments, train_on_pred_boxes=True)

    sampled, _ = heads(None, features(1), [proposals([])], [targets(ONE_BOX, [2])])

    assert sampled[0].proposal_boxes.tensor.tolist() == [[12, 10, 32, 30]]


def test_a_head_may_take_whole_feature_maps():
    class Masks(nn.Module):
        def forward(self, x, instances):
            assert sorted(x) == ["p2"]
            return {"loss_mask": x["p2"].sum()}

    arguments = standard_arguments() | {
        "mask_head": Masks(),
        "mask_pooler": None,
        "mask_in_features": ["p2"],
    }

    assert "loss_mask" in StandardROIHeads(**arguments)(None, features(), PROPOSALS, TRUTH)[1]


def test_other_outputs_of_given_boxes():
    heads = StandardROIHeads(**standard_arguments())
    found = Instances(SIZE, pred_boxes=Boxes(ONE_BOX), pred_classes=torch.tensor([1]))
    with pytest.raises(AssertionError, match=r"call eval\(\) first"):
        heads.forward_with_given_boxes(features(1), [found])
    heads.eval()
    with pytest.raises(AssertionError, match=r"need pred_boxes and pred_classes.*\['pred_boxes'\]"):
        heads.forward_with_given_boxes(features(1), [Instances(SIZE, pred_boxes=Boxes(ONE_BOX))])

    heads.forward_with_given_boxes(features(1), [found])

    assert found.pred_masks.shape == (1, 1, 8, 8)


def test_training_needs_targets():
    with pytest.raises(AssertionError, match="one Instances an image; got None"):
        StandardROIHeads(**standard_arguments())(None, features(), PROPOSALS)


def small_cfg(name="StandardROIHeads"):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NAME = name
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = K
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 4
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 6
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 5
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 1
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (5,)
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.KEYPOINT_ON = True
    return cfg


def test_from_a_config():
    heads = build_roi_heads(small_cfg(), SHAPES)

    assert type(heads) is StandardROIHeads
    assert len(heads(None, features(), PROPOSALS, TRUTH)[1]) == 4


def test_a_config_with_one_part_of_ones_own():
    own = predictor(num_classes=K)

    assert StandardROIHeads(small_cfg(), SHAPES, box_predictor=own).box_predictor is own


def test_projects_build_branches_their_own_way():
    class MyHeads(StandardROIHeads):
        @classmethod
        def _init_box_head(cls, cfg, input_shape):
            ret = super()._init_box_head(cfg, input_shape)
            ret["box_predictor"] = predictor(test_topk_per_image=1)
            return ret

        def _forward_mask(self, features, instances):
            return {} if self.training else instances

    heads = MyHeads(small_cfg(), SHAPES)

    assert sorted(heads(None, features(), PROPOSALS, TRUTH)[1]) == [
        "loss_box_reg",
        "loss_cls",
        "loss_keypoint",
    ]
    found, _ = heads.eval()(None, features(), PROPOSALS)
    assert len(found[0]) == 1
    assert not found[0].has("pred_masks")


def test_projects_of_the_first_year_build_branches_on_the_instance():
    class OldHeads(StandardROIHeads):
        @configurable
        def __init__(self, **kwargs):
            super().__init__(
                **{k: v for k, v in standard_arguments().items() if "box" in k}, **kwargs
            )

        def _init_box_head(self, cfg):
            raise AssertionError("not called by from_config")

    assert OldHeads(small_cfg(), SHAPES).mask_on


def test_maps_pooled_together_have_the_same_channels():
    shapes = SHAPES | {"p3": ShapeSpec(channels=5, stride=8)}
    with pytest.raises(AssertionError, match=r"same number of channels; got {'p2': 4, 'p3': 5}"):
        build_roi_heads(small_cfg(), shapes)


def test_heads_say_what_they_must_define():
    with pytest.raises(NotImplementedError, match="ROIHeads must define forward"):
        base()(None, {}, [])


# ------------------------------------------------------------------------------------ variants


def c4_cfg():
    cfg = small_cfg("Res5ROIHeads")
    cfg.MODEL.KEYPOINT_ON = False
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 2
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 1
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 0
    return cfg


C4 = {"res4": ShapeSpec(channels=8, stride=16)}


@pytest.mark.parametrize("masks", [True, False])
def test_c4_heads_share_a_trunk(masks):
    cfg = c4_cfg()
    cfg.MODEL.MASK_ON = masks
    heads = build_roi_heads(cfg, C4)
    maps = {"res4": torch.randn(2, 8, 4, 4)}

    sampled, losses = heads(None, maps, PROPOSALS, TRUTH)

    assert sampled == []
    assert sorted(losses) == ["loss_box_reg", "loss_cls", *(["loss_mask"] if masks else [])]
    sum(losses.values()).backward()
    found, _ = heads.eval()(None, maps, PROPOSALS)
    assert found[0].has("pred_masks") == masks


def test_c4_heads_take_blocks_and_build_them_on_the_instance_too():
    class Moco(Res5ROIHeads):
        def _build_res5_block(self, cfg):
            return nn.Sequential(nn.Conv2d(8, 16, 1)), 16

    assert len(Moco(c4_cfg(), C4).res5) == 1
    arguments = Res5ROIHeads.from_config(c4_cfg(), C4) | {"res5": [nn.Identity(), nn.Identity()]}
    assert len(Res5ROIHeads(**arguments).res5) == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.KEYPOINT_ON", True, "expected MODEL.KEYPOINT_ON False"),
        ("MODEL.ROI_HEADS.IN_FEATURES", ["res4", "res5"], "one name in MODEL.ROI_HEADS"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True], "must be False"),
    ],
)
def test_c4_heads_say_what_they_cannot_do(key, value, message):
    cfg = c4_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(AssertionError, match=message):
        build_roi_heads(cfg, C4)


def cascade_cfg():
    cfg = small_cfg("CascadeROIHeads")
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    return cfg


def test_a_cascade_has_losses_of_each_stage():
    heads = build_roi_heads(cascade_cfg(), SHAPES)

    with EventStorage() as storage:
        _, losses = heads(None, features(), PROPOSALS, TRUTH)

    want = {f"loss_{k}_stage{s}" for k in ("cls", "box_reg") for s in range(3)}
    assert set(losses) == want | {"loss_mask", "loss_keypoint"}
    names = set(storage.latest())
    assert {"stage0/fast_rcnn/cls_accuracy", "stage2/fast_rcnn/cls_accuracy"} <= names
    assert {"stage1/roi_head/num_fg_samples", "stage2/roi_head/num_bg_samples"} <= names
    sum(losses.values()).backward()
    found, _ = heads.eval()(None, features(), PROPOSALS)
    assert found[0].has("pred_masks")


def test_a_cascade_trains_without_an_event_storage():
    heads = build_roi_heads(cascade_cfg(), SHAPES)

    assert len(heads(None, features(), PROPOSALS, TRUTH)[1]) == 8


def test_a_cascade_averages_scores_and_takes_the_last_boxes():
    heads = build_roi_heads(cascade_cfg(), SHAPES).eval()
    for stage, layers in enumerate(heads.box_predictor):
        nn.init.zeros_(layers.cls_score.weight)
        nn.init.zeros_(layers.bbox_pred.weight)
        layers.cls_score.bias.data[0] = 30.0 * (stage - 1)  # certainly not, at odds, certainly
        layers.bbox_pred.bias.data[0] = 1.0  # of weights 10, 20 and 30
    heads.mask_on = heads.keypoint_on = False

    found, _ = heads(None, features(1), [proposals([[10, 10, 30, 30]])])

    best = found[0][found[0].pred_classes == 0]
    assert best.scores.item() == pytest.approx((0 + 1 / 4 + 1) / 3)
    assert best.pred_boxes.tensor[0, 0].item() == pytest.approx(
        10 + 20 * (1 / 10 + 1 / 20 + 1 / 30)
    )


def test_gradients_are_scaled():
    x = torch.ones(2, requires_grad=True)
    y = _ScaleGradient.apply(x, 0.25)
    y.sum().backward()

    assert y.tolist() == [1, 1]
    assert x.grad.tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, "CLS_AGNOSTIC_BBOX_REG True"),
        ("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6), "one entry a stage; got 2 and 3"),
        ("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.4, 0.6, 0.7), "the same; got 0.4 and 0.5"),
    ],
)
def test_a_cascade_checks_its_config(key, value, message):
    cfg = cascade_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(AssertionError, match=message):
        build_roi_heads(cfg, SHAPES)


def test_a_cascade_checks_its_arguments():
    arguments = CascadeROIHeads.from_config(cascade_cfg(), SHAPES)
    with pytest.raises(AssertionError, match="not proposal_matcher"):
        CascadeROIHeads(**arguments, proposal_matcher=Matcher([0.5], [0, 1]))
    with pytest.raises(AssertionError, match="one entry a stage; got 2, 3 and 3"):
        CascadeROIHeads(**arguments | {"box_heads": arguments["box_heads"][:2]})


def rotated_cfg():
    cfg = small_cfg("RROIHeads")
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignRotated"
    cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (10, 10, 5, 5, 1)
    return cfg


def test_rotated_heads():
    heads = build_roi_heads(rotated_cfg(), SHAPES)
    box = torch.tensor([[20.0, 20, 20, 10, 30], [50.0, 50, 10, 10, 0]])
    p = Instances(SIZE, proposal_boxes=RotatedBoxes(box), objectness_logits=torch.zeros(2))
    truth = Instances(SIZE, gt_boxes=RotatedBoxes(box[:1]), gt_classes=torch.tensor([1]))

    sampled, losses = heads(None, features(1), [p], [truth])
    assert sorted(sampled[0].gt_classes.tolist()) == [1, 1, K]
    sum(losses.values()).backward()

    found, _ = heads.eval()(None, features(1), [p])
    assert isinstance(found[0].pred_boxes, RotatedBoxes)
    assert len(found[0]) > 0


def test_rotated_heads_say_what_they_cannot_do():
    cfg = rotated_cfg()
    cfg.MODEL.MASK_ON = True
    with pytest.raises(AssertionError, match="don't go with rotated boxes"):
        RROIHeads(cfg, SHAPES)
    cfg = rotated_cfg()
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlign"
    with pytest.raises(AssertionError, match="must be 'ROIAlignRotated'; got 'ROIAlign'"):
        RROIHeads(cfg, SHAPES)


def test_a_misspelt_name_is_answered_with_the_right_one():
    cfg = small_cfg("StandartROIHeads")
    with pytest.raises(KeyError, match="did you mean 'StandardROIHeads'"):
        build_roi_heads(cfg, SHAPES)
    assert "StandardROIHeads" in ROI_HEADS_REGISTRY
