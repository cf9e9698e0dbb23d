import math

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.roi_heads import MaskRCNNConvUpsampleHead, build_mask_head
from retinue.modeling.roi_heads.mask_head import (
    BaseMaskRCNNHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from retinue.structures import BitMasks, Boxes, Instances
from retinue.utils.events import EventStorage

POOLED = ShapeSpec(channels=4, height=2, width=2)


def left_half(labels):
    """Objects that fill the left half of 8 x 8 boxes, in an image of 8 x 8."""
    masks = torch.zeros(len(labels), 8, 8, dtype=torch.bool)
    masks[:, :, :4] = True
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(len(labels), 1)
    return Instances(
        (8, 8),
        proposal_boxes=Boxes(boxes),
        gt_classes=torch.tensor(labels),
        gt_masks=BitMasks(masks),
    )


def test_loss_by_hand():
    """All cells at logit 2: the half inside costs log(1 + e^-2), the half outside log(1 + e^2)."""
    logits = torch.full((3, 5, 4, 4), 99.0)
    logits[torch.arange(3), torch.tensor([1, 4, 0])] = 2.0

    loss = mask_rcnn_loss(logits, [left_half([1, 4]), left_half([]), left_half([0])])

    want = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert loss.item() == pytest.approx(want)


def test_classes_may_share_a_mask():
    logits = torch.full((2, 1, 4, 4), -99.0)
    logits[:, :, :, :2] = 99.0

    assert mask_rcnn_loss(logits, [left_half([1, 4])]).item() == pytest.approx(0)


def test_without_regions_the_loss_is_zero_with_a_gradient():
    logits = torch.zeros(0, 5, 4, 4, requires_grad=True)

    mask_rcnn_loss(logits, [left_half([])]).backward()

    assert logits.grad.shape == logits.shape


def test_masks_are_square():
    with pytest.raises(AssertionError, match=r"must be square; got \(4, 6\)"):
        mask_rcnn_loss(torch.zeros(1, 5, 4, 6), [left_half([0])])


def test_accuracy_is_reported_under_detectron2s_names():
    """Positive everywhere: all of the outside half is wrong, nothing of the inside."""
    with EventStorage() as storage:
        mask_rcnn_loss(torch.ones(1, 1, 4, 4), [left_half([0])])

    assert {name: float(value) for name, (value, _) in storage.latest().items()} == {
        "mask_rcnn/accuracy": 0.5,
        "mask_rcnn/false_positive": 1.0,
        "mask_rcnn/false_negative": 0.0,
    }


@pytest.mark.parametrize("num_classes", [1, 3])
def test_each_detection_gets_the_mask_of_its_class(num_classes):
    logits = torch.zeros(3, num_classes, 4, 4)
    logits += torch.arange(num_classes)[:, None, None]
    found = [
        Instances((8, 8), pred_classes=torch.tensor(labels).long()) for labels in ([2, 0], [], [1])
    ]

    mask_rcnn_inference(logits, found)

    assert [i.pred_masks.shape for i in found] == [(2, 1, 4, 4), (0, 1, 4, 4), (1, 1, 4, 4)]
    got = torch.cat([i.pred_masks for i in found])[:, 0, 0, 0]
    want = torch.tensor([0.0, 0, 0] if num_classes == 1 else [2.0, 0, 1]).sigmoid()
    assert got.equal(want)


def test_the_head_in_training_and_in_inference():
    head = MaskRCNNConvUpsampleHead(
        POOLED, num_classes=5, conv_dims=[6, 7], conv_norm="", loss_weight=2.0
    )
    assert list(dict.fromkeys(k.split(".")[0] for k in head.state_dict())) == [
        "mask_fcn1",
        "deconv",
        "predictor",
    ]
    x = torch.randn(2, 4, 2, 2)

    losses = head(x, [left_half([1, 4])])
    assert losses["loss_mask"] == 2 * mask_rcnn_loss(head.layers(x), [left_half([1, 4])])

    found = [Instances((8, 8), pred_classes=torch.tensor([1, 4]))]
    assert head.eval()(x, found) is found
    assert found[0].pred_masks.shape == (2, 1, 4, 4)


@pytest.mark.parametrize("training", [True, False])
def test_only_the_mask_of_a_regions_class_is_drawn(training):
    """Numbers and gradients are those of drawing all classes, which a hook asks for."""
    torch.manual_seed(0)
    head = MaskRCNNConvUpsampleHead(POOLED, num_classes=5, conv_dims=[6, 7]).train(training)
    nn.init.normal_(head.predictor.weight)
    nn.init.normal_(head.predictor.bias)
    x = torch.randn(3, 4, 2, 2)
    results, drawn = [], []
    for is_heard in (False, True):
        head.zero_grad()
        if is_heard:
            head.predictor.register_forward_hook(lambda _, args, output: drawn.append(output))
        if training:
            loss = head(x, [left_half([1, 4]), left_half([0])])["loss_mask"]
            loss.backward()
            results.append([loss, *(p.grad.clone() for p in head.parameters())])
        else:
            found = [Instances((8, 8), pred_classes=torch.tensor([1, 4, 0]))]
            results.append([head(x, found)[0].pred_masks])

    assert [d.shape for d in drawn] == [(3, 5, 4, 4)]
    for fast, slow in zip(*results, strict=True):
        assert torch.allclose(fast, slow, atol=1e-6)


def test_a_subclass_with_layers_of_its_own_draws_by_them():
    class Mirrored(MaskRCNNConvUpsampleHead):
        def layers(self, x):
            return super().layers(x).flip(3)

    head = Mirrored(POOLED, num_classes=5, conv_dims=[7]).eval()
    nn.init.normal_(head.predictor.weight)
    x = torch.randn(1, 4, 2, 2)
    found = [Instances((8, 8), pred_classes=torch.tensor([3]))]

    masks = head(x, found)[0].pred_masks

    want = MaskRCNNConvUpsampleHead.layers(head, x)[:, 3:4].flip(3).sigmoid()
    assert masks.equal(want)


@pytest.mark.parametrize(("agnostic", "channels"), [(False, 7), (True, 1)])
def test_from_a_config(agnostic, channels):
    cfg = get_cfg()
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = agnostic
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 2
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7

    head = build_mask_head(cfg, POOLED)

    assert len(head.conv_norm_relus) == 2
    assert head(torch.zeros(0, 4, 2, 2), []) == {"loss_mask": 0}
    assert head.predictor.out_channels == channels


def test_a_head_has_layers():
    with pytest.raises(AssertionError, match="conv_dims must name at least"):
        MaskRCNNConvUpsampleHead(POOLED, num_classes=5, conv_dims=[])
    with pytest.raises(NotImplementedError, match=r"must define layers\(x\)"):
        BaseMaskRCNNHead()(torch.zeros(1), [])


def test_a_seed_gives_the_weights_that_it_gives_in_detectron2():
    """Its order of draws: all layers as PyTorch makes them, then the filling from first to last."""
    torch.manual_seed(0)
    head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=2), num_classes=3, conv_dims=[4, 5])

    torch.manual_seed(0)
    conv, deconv = nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 5, 2)
    predictor = nn.Conv2d(5, 3, 1)
    for layer in (conv, deconv):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(predictor.weight, std=0.001)
    assert torch.equal(head.mask_fcn1.weight, conv.weight)
    assert torch.equal(head.deconv.weight, deconv.weight)
    assert torch.equal(head.predictor.weight, predictor.weight)
