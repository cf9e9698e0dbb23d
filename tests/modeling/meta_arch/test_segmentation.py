"""Semantic and panoptic segmentation."""

import math

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import PanopticFPN, SemanticSegmentor, build_model
from retinue.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from retinue.modeling.meta_arch.semantic_seg import SemSegFPNHead
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError

SHAPES = {"p4": ShapeSpec(channels=4, stride=16), "p3": ShapeSpec(channels=4, stride=8)}


def head(**options):
    torch.manual_seed(4)
    arguments = {"num_classes": 5, "conv_dims": 4, "common_stride": 8, "ignore_value": 255}
    return SemSegFPNHead(SHAPES, **arguments | options)


@pytest.fixture
def labelled(inputs):
    for one in inputs:
        height, width = one["image"].shape[1:]
        one["sem_seg"] = (torch.arange(height * width) % 5).view(height, width)
    return inputs


def test_the_head_adds_its_levels_at_one_stride():
    """By hand: identity convolutions and a predictor of ones sum 1 + 10 over 4 channels."""
    model = head(num_classes=1).eval()
    for conv in (model.p3[0], model.p4[0]):
        nn.init.dirac_(conv.weight)
    nn.init.ones_(model.predictor.weight)
    features = {"p3": torch.ones(1, 4, 4, 2), "p4": torch.full((1, 4, 2, 1), 10.0)}
    logits, losses = model(features)

    assert model.in_features == ["p3", "p4"]
    assert (logits.shape, losses) == ((1, 1, 32, 16), {})
    torch.testing.assert_close(logits, torch.full_like(logits, 44.0))
    assert [type(m).__name__ for m in model.p3] == ["Conv2d"]
    assert [type(m).__name__ for m in model.p4] == ["Conv2d", "Upsample"]
    assert model.scale_heads == [model.p3, model.p4]


def test_coarser_levels_are_doubled_more_often():
    model = SemSegFPNHead(
        {"p5": ShapeSpec(channels=4, stride=32)},
        num_classes=2,
        conv_dims=32,
        common_stride=4,
        norm="GN",
    )

    assert len(model.p5) == 6
    assert model.p5[0].bias is None
    assert model.layers({"p5": torch.rand(1, 4, 2, 2)}).shape == (1, 2, 16, 16)


def test_the_loss_counts_pixels_that_are_not_ignored():
    """By hand: equal logits of five classes cost ln 5, however many pixels count."""
    model = head(loss_weight=2.0)
    targets = torch.full((1, 32, 16), 255)
    targets[0, 3, 4] = 2
    losses = model.losses(torch.zeros(1, 5, 4, 2, dtype=torch.bfloat16), targets)

    assert losses["loss_sem_seg"].item() == pytest.approx(2 * math.log(5))
    assert losses["loss_sem_seg"].dtype == torch.float32
    with pytest.raises(InputError, match="training needs targets; give 'sem_seg'"):
        model({"p3": torch.rand(1, 4, 4, 2), "p4": torch.rand(1, 4, 2, 1)})
    with pytest.raises(ValueError, match="needs at least one feature map; got none"):
        SemSegFPNHead({}, num_classes=1, conv_dims=4, common_stride=4)


def test_a_segmentor_trains_and_labels_pixels(backbone, pixels, labelled):
    model = SemanticSegmentor(backbone=backbone, sem_seg_head=head(), **pixels)
    losses = model(labelled)
    assert list(losses) == ["loss_sem_seg"]
    losses["loss_sem_seg"].backward()
    assert all(p.grad is not None for p in model.parameters())

    outputs = model.eval()(labelled)
    assert [tuple(o["sem_seg"].shape) for o in outputs] == [(5, 64, 80), (5, 24, 30)]
    assert model.device == torch.device("cpu")
    del labelled[0]["sem_seg"]
    assert len(model(labelled)) == 2  # labels are for training only
    with pytest.raises(AssertionError, match="model input 0: 'sem_seg' is missing"):
        model.train()(labelled)


def test_a_config_builds_a_segmentor():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    with torch.device("meta"):
        model = build_model(cfg)

    assert model.sem_seg_head.in_features == ["p2", "p3", "p4", "p5"]
    assert model.sem_seg_head.predictor.out_channels == 54


# ------------------------------------------------------------------------------------- panoptic


def combine(masks, scores, labels, *, overlap=0.5, stuff=2, score=0.3):
    masks = torch.tensor(masks, dtype=torch.bool)
    found = Instances(
        tuple(masks.shape[1:]),
        pred_masks=masks,
        scores=torch.tensor(scores),
        pred_classes=torch.arange(len(scores)) + 10,
    )
    return combine_semantic_and_instance_outputs(found, torch.tensor(labels), overlap, stuff, score)


def test_things_come_first_and_stuff_fills_the_rest():
    """By hand, on six pixels: the better instance takes three; of the other, one of three is
    taken; two pixels are left, one for each kind of stuff, and one is too few for label 7.
    """
    ids, segments = combine(
        [[[1, 1, 0, 0, 0, 0, 0]], [[0, 1, 1, 1, 0, 0, 0]]],
        [0.5, 0.9],
        [[3, 3, 3, 3, 3, 3, 7]],
    )

    assert ids.tolist() == [[2, 1, 1, 1, 3, 3, 0]]
    assert ids.dtype == torch.int32
    things = [
        {"id": 1, "score": pytest.approx(0.9), "category_id": 11, "instance_id": 1},
        {"id": 2, "score": pytest.approx(0.5), "category_id": 10, "instance_id": 0},
    ]
    things = [{"isthing": True} | thing for thing in things]
    assert segments == [*things, {"id": 3, "isthing": False, "category_id": 3, "area": 2}]


def test_hidden_weak_and_empty_instances_are_left_out():
    """Two of three pixels taken is more than half; a score below the limit ends the list."""
    ids, segments = combine(
        [[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 1]]],
        [0.9, 0.8, 0.7, 0.2],
        [[0, 0, 0, 0]],
    )

    assert ids.tolist() == [[1, 1, 0, 0]]
    assert [s["instance_id"] for s in segments] == [0]


def test_label_zero_is_no_stuff_and_nothing_is_nothing():
    ids, segments = combine(torch.zeros(0, 1, 3).tolist() or [[[0, 0, 0]]], [0.0], [[0, 0, 0]])
    assert (ids.tolist(), segments) == ([[0, 0, 0]], [])

    none = Instances(
        (1, 3),
        pred_masks=torch.zeros(0, 1, 3, dtype=torch.bool),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )
    ids, segments = combine_semantic_and_instance_outputs(
        none, torch.tensor([[4, 4, 0]]), 0.5, 2, 0.5
    )
    assert ids.tolist() == [[1, 1, 0]]
    assert segments == [{"id": 1, "isthing": False, "category_id": 4, "area": 2}]


def test_masks_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"of one size; got \(1, 2\) and \(1, 3\)"):
        combine([[[1, 0]]], [0.9], [[0, 0, 0]])


class FixedProposals(nn.Module):
    def forward(self, images, features, gt_instances=None):
        found = [
            Instances(size, proposal_boxes=Boxes([[1, 1, 9, 9]]), objectness_logits=torch.ones(1))
            for size in images.image_sizes
        ]
        return found, {"loss_rpn": features["p3"].mean()} if self.training else {}


class FixedHeads(nn.Module):
    def forward(self, images, features, proposals, targets=None):
        if self.training:
            return [], {"loss_heads": features["p4"].mean()}
        return [
            Instances(
                p.image_size,
                pred_boxes=p.proposal_boxes,
                scores=torch.tensor([0.9]),
                pred_classes=torch.tensor([1]),
                pred_masks=torch.ones(1, 1, 28, 28),
            )
            for p in proposals
        ], {}


@pytest.fixture
def panoptic(backbone, pixels):
    return PanopticFPN(
        sem_seg_head=head(),
        combine_stuff_area_thresh=1,
        backbone=backbone,
        proposal_generator=FixedProposals(),
        roi_heads=FixedHeads(),
        **pixels,
    )


def test_a_panoptic_model_trains_all_its_parts(panoptic, labelled):
    losses = panoptic(labelled)

    assert list(losses) == ["loss_sem_seg", "loss_rpn", "loss_heads"]
    del labelled[1]["sem_seg"]
    with pytest.raises(AssertionError, match="model input 1: 'sem_seg' is missing"):
        panoptic(labelled)


def test_a_panoptic_model_gives_all_three_results(panoptic, labelled):
    first, second = panoptic.eval()(labelled)
    ids, segments = first["panoptic_seg"]

    assert sorted(first) == ["instances", "panoptic_seg", "sem_seg"]
    assert first["sem_seg"].shape == (5, 64, 80)
    assert ids.shape == (64, 80)
    assert ids[4:16, 4:16].eq(1).all()  # the box, twice as large
    assert (segments[0]["isthing"], segments[0]["category_id"]) == (True, 1)
    assert len(segments) == ids.unique().ne(0).sum()
    assert second["panoptic_seg"][0].shape == (24, 30)


def test_raw_results_are_those_of_the_network(panoptic, labelled):
    found, logits = panoptic.eval().inference(labelled, do_postprocess=False)

    assert [f.image_size for f in found] == [(32, 40), (24, 30)]
    assert logits.shape == (2, 5, 32, 48)
