import math

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import build_proposal_generator, build_rpn_head
from retinue.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator
from retinue.modeling.box_regression import Box2BoxTransform, Box2BoxTransformRotated
from retinue.modeling.matcher import Matcher
from retinue.modeling.proposal_generator import RPN, StandardRPNHead
from retinue.modeling.proposal_generator.rrpn import RRPN
from retinue.structures import Boxes, ImageList, Instances, RotatedBoxes
from retinue.utils.errors import InputError, UnknownNameError
from retinue.utils.events import EventStorage

SIZES = [(32, 32), (24, 30)]


def make_rpn(cls=RPN, **options):
    """Two levels of stride 8 and 16, one square anchor of 16 and of 32 pixels at each place."""
    rotated = cls is RRPN
    make_anchors = RotatedAnchorGenerator if rotated else DefaultAnchorGenerator
    angles = {"angles": [[0]]} if rotated else {}
    transform = Box2BoxTransformRotated if rotated else Box2BoxTransform
    arguments = {
        "in_features": ["p3", "p4"],
        "head": StandardRPNHead(in_channels=4, num_anchors=1, box_dim=5 if rotated else 4),
        "anchor_generator": make_anchors(
            sizes=[[16], [32]], aspect_ratios=[[1.0]], strides=[8, 16], **angles
        ),
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": transform([1.0] * (5 if rotated else 4)),
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "pre_nms_topk": (12, 6),
        "post_nms_topk": (10, 5),
    }
    torch.manual_seed(0)
    return cls(**arguments | options)


def inputs():
    features = {
        "p3": torch.sin(torch.arange(2 * 4 * 16.0)).view(2, 4, 4, 4),
        "p4": torch.cos(torch.arange(2 * 4 * 4.0)).view(2, 4, 2, 2),
    }
    return ImageList(torch.zeros(2, 3, 32, 32), SIZES), features


def ground_truth(*boxes_per_image, kind=Boxes):
    dims = 5 if kind is RotatedBoxes else 4
    return [
        Instances(size, gt_boxes=kind(torch.tensor(boxes, dtype=torch.float32).reshape(-1, dims)))
        for size, boxes in zip(SIZES, boxes_per_image, strict=True)
    ]


# ----------------------------------------------------------------------------------------- head


def test_the_head_predicts_for_every_anchor():
    head = StandardRPNHead(in_channels=4, num_anchors=3, box_dim=5)
    logits, deltas = head([torch.rand(2, 4, 6, 5), torch.rand(2, 4, 3, 3)])

    assert [tuple(x.shape) for x in logits] == [(2, 3, 6, 5), (2, 3, 3, 3)]
    assert [tuple(x.shape) for x in deltas] == [(2, 15, 6, 5), (2, 15, 3, 3)]
    assert sorted(name for name, _ in head.named_children()) == [
        "anchor_deltas", "conv", "objectness_logits",
    ]  # fmt: skip
    assert "conv.weight" in head.state_dict()


def test_several_convolutions_have_the_names_of_checkpoints():
    head = StandardRPNHead(in_channels=4, num_anchors=1, conv_dims=[-1, 6, -1])
    shapes = {k: tuple(v.shape[:2]) for k, v in head.state_dict().items() if k.endswith("weight")}

    assert shapes == {
        "conv.conv0.weight": (4, 4),
        "conv.conv1.weight": (6, 4),
        "conv.conv2.weight": (6, 6),
        "objectness_logits.weight": (1, 6),
        "anchor_deltas.weight": (4, 6),
    }


@pytest.mark.parametrize("conv_dims", [[], [0], [4, -2]])
def test_widths_that_make_no_sense_are_refused(conv_dims):
    with pytest.raises(ValueError, match="conv_dims must hold numbers of channels"):
        StandardRPNHead(in_channels=4, num_anchors=1, conv_dims=conv_dims)


# --------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize("cls", [RPN, RRPN])
def test_inference_gives_proposals_inside_their_images(cls):
    rpn = make_rpn(cls).eval()
    proposals, losses = rpn(*inputs())

    assert losses == {}
    for found, (height, width) in zip(proposals, SIZES, strict=True):
        assert 0 < len(found) <= 5
        assert found.objectness_logits.diff().le(0).all()
        if cls is RPN:
            low, high = found.proposal_boxes.tensor.split(2, dim=1)
            assert low.ge(0).all()
            assert high.le(torch.tensor([width, height])).all()


def test_an_untrained_head_proposes_the_anchors():
    """By hand: zero deltas leave the anchors as they are; here that of the best logit."""
    rpn = make_rpn().eval()
    for conv in (rpn.rpn_head.objectness_logits, rpn.rpn_head.anchor_deltas):
        nn.init.zeros_(conv.weight)
    nn.init.zeros_(rpn.rpn_head.conv.weight)
    nn.init.constant_(rpn.rpn_head.objectness_logits.bias, 1.5)
    found = rpn(*inputs())[0][0]

    assert found.objectness_logits.unique().tolist() == [1.5]
    anchors = torch.cat([a.tensor for a in rpn.anchor_generator(list(inputs()[1].values()))])
    clipped = {tuple(box) for box in anchors.clamp(0, 32).tolist()}
    assert {tuple(box) for box in found.proposal_boxes.tensor.tolist()} <= clipped


@pytest.mark.parametrize(
    ("cls", "loss"),
    [(RPN, "smooth_l1"), (RPN, "giou"), (RPN, "diou"), (RPN, "ciou"), (RRPN, "smooth_l1")],
)
def test_training_gives_losses_with_gradients(cls, loss):
    rpn = make_rpn(cls, box_reg_loss_type=loss)
    boxes = {RPN: [[2, 3, 19, 17]], RRPN: [[10, 10, 17, 15, 3]]}[cls]
    kind = RotatedBoxes if cls is RRPN else Boxes
    proposals, losses = rpn(*inputs(), ground_truth(boxes, [], kind=kind))

    assert sorted(losses) == ["loss_rpn_cls", "loss_rpn_loc"]
    assert all(x.isfinite() and x > 0 for x in losses.values())
    assert not any(p.proposal_boxes.tensor.requires_grad for p in proposals)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in rpn.parameters())


def test_losses_by_hand():
    """Zero logits cost ln 2 for each of 2 x 3 sampled anchors; 2 images times 4 samples divide.

    The one object is moved by half its anchor's side in x, at weight 1: |0.5| by plain L1.
    """
    rpn = make_rpn(batch_size_per_image=4, loss_weight={"loss_rpn_cls": 2.0, "loss_rpn_loc": 10})
    anchors = [Boxes([[0, 0, 10, 10], [0, 0, 20, 20]]), Boxes([[0, 0, 5, 5]])]
    logits = [torch.zeros(2, 2), torch.zeros(2, 1)]
    deltas = [torch.zeros(2, 2, 4), torch.zeros(2, 1, 4)]
    labels = [torch.tensor([1, 0, 0]), torch.tensor([0, 0, 0])]
    boxes = [torch.tensor([[5.0, 0, 15, 10], [0] * 4, [0] * 4]), torch.zeros(3, 4)]
    with EventStorage() as storage:
        losses = rpn.losses(anchors, logits, labels, deltas, boxes)

    assert losses["loss_rpn_cls"].item() == pytest.approx(2 * 6 * math.log(2) / 8)
    assert losses["loss_rpn_loc"].item() == pytest.approx(10 * 0.5 / 8)
    latest = {name: float(value) for name, (value, _) in storage.latest().items()}
    assert latest == {"rpn/num_pos_anchors": 0.5, "rpn/num_neg_anchors": 2.5}


def test_one_weight_serves_both_losses():
    assert make_rpn(loss_weight=3).loss_weight == {"loss_rpn_cls": 3, "loss_rpn_loc": 3}


def test_labels_by_hand():
    """The box equals one anchor of level 0, which is the object; 7 samples remain for background.

    The second image has no box: all its samples are background.
    """
    rpn = make_rpn()
    anchors = rpn.anchor_generator(list(inputs()[1].values()))
    box = anchors[0].tensor[5]
    labels, boxes = rpn.label_and_sample_anchors(anchors, ground_truth([box.tolist()], []))

    assert [x.shape for x in labels] == [(20,)] * 2
    assert (labels[0] == 1).nonzero().flatten().tolist() == [5]
    assert boxes[0][5].equal(box)
    assert [(x == 0).sum().item() for x in labels] == [7, 8]
    assert boxes[1].eq(0).all()


def test_anchors_beyond_the_border_can_be_ignored():
    rpn = make_rpn(anchor_boundary_thresh=0.0, batch_size_per_image=100)
    anchors = rpn.anchor_generator(list(inputs()[1].values()))
    labels, _ = rpn.label_and_sample_anchors(anchors, ground_truth([], []))
    inside = Boxes.cat(anchors).inside_box((32, 32), 0)

    assert (labels[0] >= 0).equal(inside)
    assert 0 < inside.sum() < 20


# ----------------------------------------------------------------------------------- wrong input


def test_training_without_ground_truth_is_refused():
    with pytest.raises(AssertionError, match="training needs ground truth; give 'instances'"):
        make_rpn()(*inputs())


def test_diverged_predictions_stop_training():
    rpn = make_rpn()
    nn.init.constant_(rpn.rpn_head.anchor_deltas.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="training has diverged"):
        rpn(*inputs(), ground_truth([[2, 3, 19, 17]], []))


def test_anchors_that_do_not_fit_are_refused_with_the_numbers():
    three = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], strides=[4, 8, 16])
    with pytest.raises(InputError, match=r"anchors for 3 levels, but in_features names 2: \['p3'"):
        make_rpn(anchor_generator=three)
    more = DefaultAnchorGenerator(sizes=[[8, 16]], aspect_ratios=[[1.0]], strides=[8, 16])
    with pytest.raises(InputError, match=r"head is made for 1 anchors of 4 .*makes \[2, 2\]"):
        make_rpn(anchor_generator=more)


def test_rotated_anchors_have_no_border():
    with pytest.raises(NotImplementedError, match="BOUNDARY_THRESH"):
        make_rpn(RRPN, anchor_boundary_thresh=0.0)


# -------------------------------------------------------------------------------------- configs


def shapes(**channels):
    return {
        name: ShapeSpec(channels=num, stride=2 ** int(name[1])) for name, num in channels.items()
    }


def config():
    cfg = get_cfg()
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64]]
    return cfg


def test_a_config_fills_every_argument():
    cfg = config()
    cfg.MODEL.RPN.LOSS_WEIGHT = 2.0
    cfg.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 3.0
    cfg.MODEL.RPN.CONV_DIMS = [8, -1]
    cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE = 4
    rpn = build_proposal_generator(cfg, shapes(p3=4, p4=4))

    assert type(rpn) is RPN
    assert rpn.loss_weight == {"loss_rpn_cls": 2.0, "loss_rpn_loc": 6.0}
    assert rpn.pre_nms_topk == {True: 12000, False: 6000}
    assert rpn.post_nms_topk == {True: 2000, False: 1000}
    assert rpn.min_box_size == 4
    assert len(rpn.rpn_head.conv) == 2
    assert rpn.rpn_head.objectness_logits.out_channels == 3

    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, {}) is None


def test_a_config_builds_the_rotated_one():
    cfg = config()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RRPN"
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = [1.0, 1.0, 1.0, 1.0, 2.0]
    rpn = build_proposal_generator(cfg, shapes(p3=4, p4=4))

    assert type(rpn) is RRPN
    assert isinstance(rpn.box2box_transform, Box2BoxTransformRotated)
    assert rpn.rpn_head.anchor_deltas.out_channels == 5 * 9


def test_wrong_configs_are_refused():
    with pytest.raises(UnknownNameError, match="IN_FEATURES 'p4'"):
        build_proposal_generator(config(), shapes(p3=4))
    with pytest.raises(AssertionError, match=r"same number of channels; got \[4, 8\]"):
        build_proposal_generator(config(), shapes(p3=4, p4=8))
    cfg = config()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64, 128]]
    with pytest.raises(AssertionError, match=r"anchors at each place; got \[3, 6\]"):
        build_rpn_head(cfg, list(shapes(p3=4, p4=4).values()))
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPM"
    with pytest.raises(UnknownNameError, match="PROPOSAL_GENERATOR registry 'RPM'"):
        build_proposal_generator(cfg, {})
