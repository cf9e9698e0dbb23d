"""The helpers for tests."""

import unittest
from types import SimpleNamespace as Space

import numpy as np
import pytest
import torch

from retinue.config import LazyConfig
from retinue.engine import testing
from retinue.structures import Boxes, Instances


def make(scores=(0.5, 0.25), size=(10, 20), **more):
    boxes = Boxes(torch.arange(4.0 * len(scores)).reshape(-1, 4))
    fields = {
        "boxes": boxes,
        "scores": torch.tensor(scores),
        "classes": torch.ones(len(scores)).long(),
    }
    return Instances(size, **(fields | more))


def test_equal_instances():
    testing.assert_instances_allclose(make(), make())
    testing.assert_instances_allclose(make(()), make(()))
    size = torch.tensor([10, 20])
    testing.assert_instances_allclose(make(), make(size=tuple(size)), size_as_tensor=True)
    testing.assert_instances_allclose(make(), make((0.5, 0.25 + 1e-7)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(size=(10, 21)), r"image sizes are \(10, 20\) and \(10, 21\)"),
        (make(more=torch.zeros(2)), r"fields are .* and .*'more'"),
        (make((0.5, 0.3)), "model a: field 'scores' differs"),
        (make(boxes=Boxes(torch.ones(2, 4))), "field 'boxes' differs"),
        (make(classes=torch.zeros(2).long()), "field 'classes' differs"),
    ],
)
def test_different_instances(other, message):
    with pytest.raises(AssertionError, match=message):
        testing.assert_instances_allclose(make(), other, msg="model a")


def test_fields_that_cannot_be_compared():
    with pytest.raises(ValueError, match="values of type list"):
        testing.assert_instances_allclose(make(x=[1, 2]), make(x=[1, 2]))


def test_scripted_instances():
    scripted = Space(image_size=(10, 20), _field_names=["scores", "gone"], _scores=torch.ones(2))
    got = testing.convert_scripted_instances(scripted)
    assert list(got.get_fields()) == ["scores"]
    testing.assert_instances_allclose(scripted, got)
    with pytest.raises(AssertionError, match="expected an Instances object; got int"):
        testing.convert_scripted_instances(3)


def test_random_boxes():
    boxes = testing.random_boxes(50, max_coord=30)
    size = boxes[:, 2:] - boxes[:, :2]
    assert boxes.shape == (50, 4)
    assert size.min() > 0.999  # 1 up to rounding
    assert boxes.max() <= 30


def test_a_sample_picture():
    image = testing.get_sample_coco_image(tensor=False)
    tensor = testing.get_sample_coco_image()
    assert (image.shape, image.dtype) == ((480, 640, 3), np.uint8)
    assert torch.equal(tensor, torch.from_numpy(image).permute(2, 0, 1))


def test_configs_and_scripts_come_back(tmp_path):
    (tmp_path / "c.py").write_text("a = dict(b=1, c=[2, 3])\n")
    cfg = testing.reload_lazy_config(LazyConfig.load(str(tmp_path / "c.py")))
    assert cfg.a.c == [2, 3]


def test_dynamic_axes():
    def model(*names):
        dims = [Space(dim_param=name) for name in names]
        value = Space(type=Space(tensor_type=Space(shape=Space(dim=dims))))
        return Space(graph=Space(input=[value], output=[]))

    assert testing.has_dynamic_axes(model("batch", "", "height"))
    assert not testing.has_dynamic_axes(model("batch", "3"))


def test_skipping():
    class Case:
        opset_version = 11

        @testing.skipIfUnsupportedMinOpsetVersion(11)
        def runs(self):
            return "ran"

        @testing.skipIfUnsupportedMinOpsetVersion(16)
        def is_skipped(self):
            raise AssertionError

    assert Case().runs() == "ran"
    with pytest.raises(unittest.SkipTest, match="needs ONNX operator set 16"):
        Case().is_skipped()
    new = testing.skipIfUnsupportedMinTorchVersion("99.0")(lambda: None)
    with pytest.raises(unittest.SkipTest, match=r"needs PyTorch 99\.0"):
        new()
    assert testing.skipIfUnsupportedMinTorchVersion("1.0")(lambda: 3)() == 3


def test_nothing_is_registered_for_a_new_torch():
    testing.register_custom_op_onnx_export("a::b", None, 11, "1.0")
    testing.unregister_custom_op_onnx_export("a::b", 11, "1.0")


@pytest.mark.slow
def test_models_without_weights():
    model = testing.get_model_no_weights("COCO-Detection/rpn_R_50_FPN_1x.yaml")
    assert type(model).__name__ == "ProposalNetwork"
