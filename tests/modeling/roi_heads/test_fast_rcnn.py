"""Detections from scored boxes, and the losses of the box branch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retinue.layers import ShapeSpec
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from retinue.structures import Boxes, Instances, pairwise_iou
from retinue.utils.events import EventStorage

GOLDEN = Path(__file__).parents[2] / "golden" / "fast_rcnn_inference.npz"


def detect_slowly(boxes, scores, size_hw, score_thresh, nms_thresh, topk):
    """The textbook: class by class, box by box; rows of (image row, class)."""
    found = []
    for label in range(scores.shape[1] - 1):
        box = boxes.unflatten(1, (-1, 4))[:, label if boxes.shape[1] > 4 else 0]
        box = Boxes(box)
        box.clip(size_hw)
        kept = []
        for row in scores[:, label].argsort(descending=True, stable=True).tolist():
            if scores[row, label] > score_thresh and all(
                pairwise_iou(box[row], box[other]) <= nms_thresh for other in kept
            ):
                kept.append(row)
        found += [(-scores[row, label].item(), row, label) for row in kept]
    return [(row, label) for _, row, label in sorted(found)[:topk]]


def random_predictions(generator, num_rows, num_classes, *, shared_box=False):
    low = torch.rand(num_rows, 1 if shared_box else num_classes, 2, generator=generator) * 60
    size = torch.rand(num_rows, 1 if shared_box else num_classes, 2, generator=generator) * 50
    boxes = torch.cat((low - 5, low + size), dim=2).flatten(1)
    scores = torch.rand(num_rows, num_classes + 1, generator=generator)
    return boxes, scores


@pytest.mark.parametrize("case", ["fast_rcnn_inference", "fast_rcnn_inference_agnostic"])
@pytest.mark.parametrize("bits", [32, 64])
def test_detections_are_those_of_detectron2(case, bits):
    """Recorded from detectron2 02b5c4e."""
    golden = np.load(GOLDEN)
    params = json.loads(str(golden[f"{case}/params"]))
    dtype = torch.float64 if bits == 64 else torch.float32
    boxes, scores = (
        torch.from_numpy(golden[f"{case}/in/{name}"]).to(dtype) for name in ("boxes", "scores")
    )

    found, rows = fast_rcnn_inference_single_image(
        boxes,
        scores,
        tuple(params["image_shape"]),
        params["score_thresh"],
        params["nms_thresh"],
        params["topk_per_image"],
    )

    out = {name: golden[f"{case}/out{bits}/{name}"] for name in ("boxes", "scores", "classes")}
    np.testing.assert_array_equal(rows.numpy(), golden[f"{case}/out{bits}/indices"])
    np.testing.assert_array_equal(found.pred_classes.numpy(), out["classes"])
    np.testing.assert_allclose(found.scores.numpy(), out["scores"], rtol=1e-6)
    np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), out["boxes"], rtol=1e-6)


@pytest.mark.parametrize("shared_box", [False, True])
@pytest.mark.parametrize("topk", [5, 1000])
def test_a_batch_gives_what_the_textbook_gives_image_by_image(shared_box, topk):
    generator = torch.Generator().manual_seed(0)
    sizes = [(60, 70), (50, 90), (64, 64)]
    predictions = [
        random_predictions(generator, rows, 3, shared_box=shared_box) for rows in (20, 0, 12)
    ]
    boxes, scores = zip(*predictions, strict=True)

    found, rows = fast_rcnn_inference(boxes, scores, sizes, 0.3, 0.4, topk)

    for i, size in enumerate(sizes):
        want = detect_slowly(*predictions[i], size, 0.3, 0.4, topk)
        got = list(zip(rows[i].tolist(), found[i].pred_classes.tolist(), strict=True))
        assert got == want
        assert found[i].image_size == size


def test_more_candidates_are_looked_at_when_the_best_are_all_one_object():
    """1,000 candidates are looked at first; here the best 1,500 are one box."""
    one_place = torch.tensor([[10.0, 10.0, 20.0, 20.0]]).repeat(1500, 1)
    apart = torch.arange(8.0)[:, None] * 30 + torch.tensor([[30.0, 30.0, 50.0, 50.0]])
    boxes = torch.cat((one_place, apart))
    scores = torch.cat((torch.full((1500,), 0.9), torch.linspace(0.8, 0.1, 8)))
    scores = torch.stack((scores, 1 - scores), dim=1)

    _, rows = fast_rcnn_inference_single_image(boxes, scores, (400, 400), 0.05, 0.5, 5)

    assert rows.tolist() == [0, 1500, 1501, 1502, 1503]


def test_ties_beyond_the_first_candidates_are_kept_together():
    """All 3,000 scores are equal: the order of the rows decides, as in a plain greedy pass."""
    boxes = torch.arange(3000.0)[:, None] * 10 + torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    scores = torch.full((3000, 2), 0.5)

    _, rows = fast_rcnn_inference_single_image(boxes, scores, (40000, 40000), 0.0, 0.5, 100)

    assert rows.tolist() == list(range(100))


def test_a_negative_number_of_detections_means_all():
    boxes = torch.arange(300.0)[:, None] * 10 + torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    scores = torch.full((300, 2), 0.5)

    found, _ = fast_rcnn_inference_single_image(boxes, scores, (4000, 4000), 0.0, 0.5, -1)

    assert len(found) == 300


def test_rows_that_are_not_finite_are_left_out():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, float("inf"), 40], [50, 50, 60, 60]])
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [float("nan"), 0.1]])

    found, rows = fast_rcnn_inference_single_image(boxes, scores, (99, 99), 0.1, 0.5, 10)

    assert rows.tolist() == [0]
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 9, 9]]


def test_no_images_give_no_detections():
    assert fast_rcnn_inference([], [], [], 0.1, 0.5, 10) == ([], [])


# ------------------------------------------------------------------------------------- the layers


def make_layers(num_classes=3, **kwargs):
    torch.manual_seed(0)
    return FastRCNNOutputLayers(
        ShapeSpec(channels=8),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=num_classes,
        **kwargs,
    )


def make_proposals(labels):
    labels = torch.tensor(labels)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]) + torch.arange(float(len(labels)))[:, None]
    return Instances(
        (50, 50),
        proposal_boxes=Boxes(boxes),
        gt_boxes=Boxes(boxes + torch.tensor([1.0, 0.0, 1.0, 0.0])),
        gt_classes=labels,
    )


def test_losses_by_hand():
    """Boxes move by a tenth of their width: a delta of weight 10 * 0.1 = 1, where 0 is predicted.

    Two of four regions hold an object; the mean is over all four. Equal logits cost log(4).
    """
    layers = make_layers()
    logits, deltas = torch.zeros(4, 4), torch.zeros(4, 12)

    losses = layers.losses((logits, deltas), [make_proposals([0, 3]), make_proposals([2, 3])])

    assert losses["loss_cls"].item() == pytest.approx(np.log(4))
    assert losses["loss_box_reg"].item() == pytest.approx(2 * 1 / 4, rel=1e-5)


def test_weights_scale_the_losses():
    predictions = torch.zeros(2, 4), torch.zeros(2, 12)
    proposals = [make_proposals([0, 3])]
    plain = make_layers().losses(predictions, proposals)
    one_number = make_layers(loss_weight=2.0).losses(predictions, proposals)
    one_name = make_layers(loss_weight={"loss_box_reg": 3.0}).losses(predictions, proposals)

    assert one_number["loss_cls"] == 2 * plain["loss_cls"]
    assert one_number["loss_box_reg"] == 2 * plain["loss_box_reg"]
    assert one_name["loss_cls"] == plain["loss_cls"]
    assert one_name["loss_box_reg"] == 3 * plain["loss_box_reg"]


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
@pytest.mark.parametrize("shared_box", [False, True])
def test_only_the_box_of_the_true_class_gets_a_gradient(kind, shared_box):
    layers = make_layers(box_reg_loss_type=kind, cls_agnostic_bbox_reg=shared_box)
    deltas = torch.zeros(3, 4 if shared_box else 12, requires_grad=True)
    proposals = [make_proposals([1, 3, 0])]

    layers.losses((torch.zeros(3, 4), deltas), proposals)["loss_box_reg"].backward()

    touched = deltas.grad.view(3, -1, 4).abs().sum(dim=2) > 0
    want = [[1], [0], [1]] if shared_box else [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert touched.int().tolist() == want


def test_nothing_to_learn_from_costs_nothing():
    layers = make_layers()
    x = torch.zeros(0, 8)
    for proposals in ([], [make_proposals([])]):
        losses = layers.losses(layers(x), proposals)
        assert [v.item() for v in losses.values()] == [0, 0]
        sum(losses.values()).backward()
    background = Instances((50, 50), proposal_boxes=Boxes([[0, 0, 9, 9]]))
    background.gt_classes = torch.tensor([3])

    losses = layers.losses(layers(torch.zeros(1, 8)), [background])

    assert losses["loss_box_reg"].item() == 0
    assert losses["loss_cls"].item() > 0


def test_each_class_by_itself():
    """Zero logits cost log(2) each: 3 classes a region, whatever the label."""
    layers = make_layers(use_sigmoid_ce=True)
    logits = torch.zeros(5, 4)

    loss = layers.sigmoid_cross_entropy_loss(logits, torch.tensor([0, 1, 2, 3, 3]))

    assert loss.item() == pytest.approx(3 * np.log(2))
    assert layers.sigmoid_cross_entropy_loss(torch.zeros(0, 4), torch.zeros(0).long()) == 0
    probs = layers.predict_probs((logits, None), [make_proposals([0, 1]), make_proposals([0] * 3)])
    assert [p.shape for p in probs] == [(2, 4), (3, 4)]
    assert probs[0].unique().tolist() == [0.5]


def federated(num_classes=10, chosen=4, weights=None):
    weights = torch.ones(num_classes) if weights is None else weights
    return make_layers(
        num_classes,
        use_sigmoid_ce=True,
        use_fed_loss=True,
        get_fed_loss_cls_weights=lambda: weights,
        fed_loss_num_classes=chosen,
    )


def test_federated_loss_looks_at_present_and_some_other_classes():
    weights = torch.zeros(10)
    weights[[5, 6]] = 1  # only these can be sampled
    layers = federated(weights=weights)
    labels = torch.tensor([2, 10, 2])

    classes = layers.get_fed_loss_classes(labels, 4, 10, weights)

    assert classes[:2].tolist() == [2, 10]
    assert sorted(classes[2:].tolist()) == [5, 6]
    logits = torch.zeros(3, 11, requires_grad=True)
    layers.sigmoid_cross_entropy_loss(logits, labels).backward()
    assert (logits.grad.abs().sum(dim=0) > 0).nonzero().flatten().tolist() == [2, 5, 6]


def test_federated_loss_with_more_wanted_than_there_are():
    layers = federated(num_classes=5, chosen=50)

    classes = layers.get_fed_loss_classes(torch.tensor([1, 5]), 50, 5, torch.ones(5))

    assert set(classes.tolist()) <= set(range(6))
    assert len(set(classes.tolist())) == len(classes) == 5
    assert "fed_loss_cls_weights" in layers.state_dict()
    present = torch.arange(5)
    assert layers.get_fed_loss_classes(present, 3, 5, torch.ones(5)).equal(present)


def test_federated_loss_says_what_it_lacks():
    with pytest.raises(AssertionError, match="USE_SIGMOID_CE"):
        make_layers(use_fed_loss=True, get_fed_loss_cls_weights=lambda: torch.ones(3))
    with pytest.raises(ValueError, match="needs get_fed_loss_cls_weights; got None"):
        make_layers(use_fed_loss=True, use_sigmoid_ce=True)
    with pytest.raises(ValueError, match="each of the 3 classes; got 2"):
        make_layers(
            use_fed_loss=True, use_sigmoid_ce=True, get_fed_loss_cls_weights=lambda: torch.ones(2)
        )


def test_proposals_are_constants():
    proposals = make_proposals([0])
    proposals.proposal_boxes.tensor.requires_grad_()
    with pytest.raises(AssertionError, match="must not need gradients"):
        make_layers().losses((torch.zeros(1, 4), torch.zeros(1, 12)), [proposals])


def test_boxes_of_the_true_class():
    layers = make_layers()
    deltas = torch.zeros(2, 3, 4)
    deltas[:, :, 0] = torch.arange(3.0)  # class k moves right by k * width / 10
    proposals = [make_proposals([1, 3])]
    predictions = torch.zeros(2, 4), deltas.flatten(1)

    boxes = layers.predict_boxes_for_gt_classes(predictions, proposals)

    assert boxes[0][:, 0].tolist() == [1.0, 1.0 + 2.0]
    assert layers.predict_boxes(predictions, []) == []
    assert layers.predict_boxes_for_gt_classes(predictions, []) == []


def test_inference_is_prediction_and_choice():
    layers = make_layers(test_score_thresh=0.4, test_topk_per_image=1)
    logits = torch.tensor([[5.0, 0, 0, 0], [9.0, 0, 0, 0], [0, 0, 0, 9.0]])
    proposals = [make_proposals([3, 3]), make_proposals([3])]

    found, rows = layers.inference((logits, torch.zeros(3, 12)), proposals)

    assert [r.tolist() for r in rows] == [[1], []]
    assert found[0].scores.item() == pytest.approx(F.softmax(logits[1], 0)[0].item())


@pytest.mark.parametrize(
    "input_shape", [8, ShapeSpec(channels=8), ShapeSpec(channels=2, height=2, width=2)]
)
def test_input_shapes(input_shape):
    layers = FastRCNNOutputLayers(
        input_shape, box2box_transform=Box2BoxTransform(weights=(1, 1, 1, 1)), num_classes=5
    )

    logits, deltas = layers(torch.zeros(6, 2, 2, 2))

    assert (logits.shape, deltas.shape) == ((6, 6), (6, 20))


def test_accuracy_is_reported_under_detectron2s_names():
    """Predicted classes 0, 1, background, background; true ones 0, 2, 1, background."""
    logits = 9 * F.one_hot(torch.tensor([0, 1, 3, 3]), 4).float()
    with EventStorage() as storage:
        make_layers().losses((logits, torch.zeros(4, 12)), [make_proposals([0, 2, 1, 3])])

    latest = {name: float(value) for name, (value, _) in storage.latest().items()}
    assert latest == pytest.approx(
        {
            "fast_rcnn/cls_accuracy": 2 / 4,
            "fast_rcnn/fg_cls_accuracy": 1 / 3,
            "fast_rcnn/false_negative": 1 / 3,
        }
    )
