"""Functions that programs put in the place of detectron2's are those that retinue's code calls."""

import importlib
import types
from unittest import mock

import pytest
import torch

FAST_RCNN = "detectron2.modeling.roi_heads.fast_rcnn"
RPN = "detectron2.modeling.proposal_generator.rpn"


@pytest.fixture
def model(cfg, hook):
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    return build_model(cfg)


def _inputs():
    from detectron2.structures import Boxes, Instances

    objects = Instances((64, 64))
    objects.gt_boxes = Boxes([[5.0, 5, 40, 40]])
    objects.gt_classes = torch.tensor([1])
    return [{"image": torch.zeros(3, 64, 64), "instances": objects, "height": 64, "width": 64}]


@pytest.mark.parametrize(
    ("name", "is_training"),
    [
        (f"{FAST_RCNN}.fast_rcnn_inference_single_image", False),
        (f"{FAST_RCNN}.fast_rcnn_inference", False),
        (f"{RPN}.find_top_rpn_proposals", False),
        ("detectron2.modeling.roi_heads.roi_heads.add_ground_truth_to_proposals", True),
        ("detectron2.modeling.roi_heads.roi_heads.pairwise_iou", True),
        ("detectron2.modeling.roi_heads.roi_heads.subsample_labels", True),
    ],
)
def test_a_models_functions(model, name, is_training):
    """Each stands in for itself, so that the results stay the same, too."""
    model.train(is_training)
    module, _, function = name.rpartition(".")
    original = getattr(importlib.import_module(module), function)
    stand_in = mock.Mock(side_effect=original)

    def run():
        torch.manual_seed(0)
        with torch.no_grad():
            out = model(_inputs())
        return out if is_training else out[0]["instances"].get("pred_boxes").tensor

    before = run()
    with mock.patch(name, stand_in):
        during = run()
    calls = stand_in.call_count
    after = run()

    assert calls == 1
    assert stand_in.call_count == 1  # the original is back
    torch.testing.assert_close(during, before)
    torch.testing.assert_close(after, before)


def test_printing_of_a_datasets_classes(hook):
    from detectron2.data import MetadataCatalog, build, get_detection_dataset_dicts

    MetadataCatalog.get("patched").thing_classes = ["a"]
    one = {"annotations": [{"iscrowd": 0, "category_id": 0}]}
    hook_data = importlib.import_module("detectron2.data").DatasetCatalog
    hook_data.register("patched", lambda: [one])
    with mock.patch.object(build, "print_instances_class_histogram") as printing:
        get_detection_dataset_dicts("patched")

    printing.assert_called_once_with([one], ["a"])


def test_assigning_without_a_patch_lasts_until_the_hook_goes(hook):
    import detectron2.engine.defaults as defaults

    from retinue import evaluation

    original = evaluation.print_csv_format
    defaults.print_csv_format = lambda results: None
    assert evaluation.print_csv_format is defaults.print_csv_format

    hook.uninstall()
    assert evaluation.print_csv_format is original
    assert type(defaults) is types.ModuleType
    del defaults.print_csv_format
    hook.install()


def test_every_row_names_something(hook):
    from retinue.compat.patches import HANDED_ON, _place

    for module, rows in HANDED_ON.items():
        served = importlib.import_module(module.replace("retinue", "detectron2", 1))
        for name, (target, _) in rows.items():
            assert callable(getattr(served, name))
            assert callable(getattr(*_place(target)))


def test_a_mask_heads_layers():
    from retinue.layers import ShapeSpec
    from retinue.modeling.roi_heads import MaskRCNNConvUpsampleHead
    from retinue.structures import Instances

    head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=2), num_classes=3, conv_dims=[4]).eval()
    found = Instances((4, 4), pred_classes=torch.tensor([1]))
    with mock.patch.object(MaskRCNNConvUpsampleHead, "layers", return_value=torch.ones(1, 3, 4, 4)):
        head(torch.zeros(1, 2, 2, 2), [found])
    assert found.pred_masks.flatten()[0].item() == pytest.approx(
        torch.sigmoid(torch.ones(())).item()
    )
