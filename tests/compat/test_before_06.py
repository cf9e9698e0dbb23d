"""Names of detectron2 0.1 to 0.5 that 0.6 dropped, and that projects of those years import."""

import importlib

import pytest
import torch

from retinue.compat.absent import NotCarriedError
from retinue.compat.fast_rcnn_outputs import FastRCNNOutputs
from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError

BOXES = torch.tensor([[10.0, 10.0, 30.0, 40.0], [5.0, 8.0, 25.0, 28.0], [0.0, 0.0, 9.0, 9.0]])


def regions(labels):
    """Regions of two images, two in the first, with truth a little beside them."""
    images = []
    for rows in ([0, 1], [2]):
        truth = Boxes(BOXES[rows] + torch.tensor([1.0, 0.0, 3.0, 2.0]))
        gt = {"gt_classes": torch.tensor(labels)[rows], "gt_boxes": truth}
        images.append(Instances((48, 64), proposal_boxes=Boxes(BOXES[rows]), **gt))
    return images


@pytest.fixture
def layers():
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    return FastRCNNOutputLayers(cfg, ShapeSpec(channels=6))


@pytest.mark.parametrize("labels", [[0, 3, 4], [4, 4, 4]], ids=["objects", "background"])
@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_outputs_agree_with_the_layers_of_today(layers, labels, loss):
    layers.box_reg_loss_type = loss
    predictions = layers(torch.randn(3, 6))
    images = regions(labels)
    outputs = FastRCNNOutputs(layers.box2box_transform, *predictions, images, 0.0, loss)

    expected = layers.losses(predictions, images)
    assert outputs.losses().keys() == expected.keys()
    for name, value in outputs.losses().items():
        torch.testing.assert_close(value, expected[name])
    torch.testing.assert_close(
        list(outputs.predict_boxes()), list(layers.predict_boxes(predictions, images))
    )
    found, rows = outputs.inference(0.0, 0.5, 5)
    detections, expected_rows = layers.inference(predictions, images)
    assert [r.tolist() for r in rows] == [r[:5].tolist() for r in expected_rows]
    assert len(found) == len(detections) == 2


def test_outputs_without_regions(layers):
    nothing = Instances((48, 64), proposal_boxes=Boxes([]))
    for images in ([], [nothing]):
        predictions = layers(torch.randn(0, 6))
        outputs = FastRCNNOutputs(layers.box2box_transform, *predictions, images)
        assert outputs._no_instances
        assert {k: v.item() for k, v in outputs.losses().items()} == {
            "loss_cls": 0.0,
            "loss_box_reg": 0.0,
        }


def test_proposals_that_need_gradients_are_refused(layers):
    image = Instances((48, 64), proposal_boxes=Boxes(BOXES.clone().requires_grad_()))
    with pytest.raises(InputError, match="must not need gradients"):
        FastRCNNOutputs(Box2BoxTransform((1, 1, 1, 1)), *layers(torch.randn(3, 6)), [image])


def test_names_of_the_years_before(hook):
    from detectron2.data.transforms.transform_gen import RandomFlip, TransformGen
    from detectron2.evaluation import CityscapesEvaluator
    from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputs as Served
    from detectron2.solver.build import WarmupMultiStepLR
    from detectron2.structures.boxes import matched_boxlist_iou

    from retinue.data.transforms import Augmentation

    assert Served is FastRCNNOutputs
    assert issubclass(RandomFlip, TransformGen)
    assert TransformGen is Augmentation
    assert CityscapesEvaluator.__name__ == "CityscapesInstanceEvaluator"
    assert WarmupMultiStepLR.__module__ == "retinue.solver.lr_scheduler"
    assert matched_boxlist_iou(Boxes(BOXES), Boxes(BOXES)).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["rpn_outputs", "rrpn_outputs"])
def test_a_module_that_was_dissolved_says_where_its_work_went(hook, name):
    with pytest.raises(NotCarriedError, match="proposal_utils picks the best"):
        importlib.import_module(f"detectron2.modeling.proposal_generator.{name}")
