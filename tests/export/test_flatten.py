"""Nested objects become flat tuples of tensors, and come back."""

import json

import pytest
import torch
from torch import nn

from retinue.config.instantiate import dump_dataclass, instantiate
from retinue.export import TracingAdapter, dump_torchscript_IR, scripting_with_instances
from retinue.export.flatten import IdentitySchema, ListSchema, flatten_to_tuple
from retinue.export.torchscript_patch import (
    freeze_training_mode,
    patch_builtin_len,
    patch_instances,
    patch_nonscriptable_classes,
)
from retinue.structures import Boxes, Instances


def test_nesting_comes_back():
    nested = [1, (2, {"b": 3, "a": [4]}), []]
    leaves, schema = flatten_to_tuple(nested)

    assert leaves == (1, 2, 4, 3)
    assert schema(leaves) == nested
    assert instantiate(json.loads(json.dumps(dump_dataclass(schema)))) == schema


def test_instances_come_back():
    found = Instances((5, 8), pred_boxes=Boxes(torch.ones(2, 4)), scores=torch.tensor([1.0, 2.0]))
    leaves, schema = flatten_to_tuple({"instances": found})
    again = schema(leaves)["instances"]

    assert [tuple(x.shape) for x in leaves] == [(2, 4), (2,), (2,)]
    assert again.image_size.tolist() == [5, 8]
    assert again.pred_boxes.tensor.equal(found.pred_boxes.tensor)
    assert again.scores.equal(found.scores)


def test_wrong_input():
    with pytest.raises(KeyError, match="keys of a dict must be strings; got 1"):
        flatten_to_tuple({1: 2})
    with pytest.raises(AssertionError, match="expected 2 flat values; got 1"):
        ListSchema([IdentitySchema(), IdentitySchema()], [1, 1])((1,))
    with pytest.raises(ValueError, match="expected 2 parts; got 1"):
        ListSchema([IdentitySchema(), IdentitySchema()], [1])((1,))


class Detector(nn.Module):
    """Takes and returns what detectors do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, batch):
        return [
            {"instances": Instances((4, 5), pred_boxes=Boxes(self.layer(x["image"])))}
            for x in batch
        ]


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # PyTorch 2.6's own
@pytest.mark.filterwarnings("ignore:Node lifted_tensor_")
def test_a_detector_is_exported():
    model = Detector().eval()
    adapter = TracingAdapter(model, [{"image": torch.rand(2, 3)}])
    program = torch.export.export(adapter, adapter.flattened_inputs, strict=False)
    image = torch.rand(2, 3)
    found = adapter.outputs_schema(program.module()(image))

    expected = model([{"image": image}])[0]["instances"].pred_boxes.tensor
    assert torch.allclose(found[0]["instances"].pred_boxes.tensor, expected)
    wrapped = adapter._create_wrapper(program.module())
    assert torch.equal(
        wrapped([{"image": image}])[0]["instances"].pred_boxes.tensor,
        found[0]["instances"].pred_boxes.tensor,
    )


@pytest.mark.parametrize("is_set", [False, True])
def test_the_schema_of_the_outputs_outlives_the_export(is_set):
    """PyTorch puts attributes back that were there before, such as a None."""
    adapter = TracingAdapter(nn.Linear(2, 2), torch.ones(1, 2))
    if is_set:
        adapter.outputs_schema = None
    assert adapter.outputs_schema is None
    torch.export.export(adapter, adapter.flattened_inputs, strict=False)
    assert adapter.outputs_schema == IdentitySchema()


def test_an_adapter_with_other_leaves():
    model = nn.Identity()
    with pytest.raises(ValueError, match="inputs must only contain tensors; got 3"):
        TracingAdapter(model, (torch.ones(1), 3))
    first = lambda model, x, number: (x, number)  # noqa: E731
    adapter = TracingAdapter(model, (torch.ones(1), 3), first, allow_non_tensor=True)

    assert len(adapter(*adapter.flattened_inputs)) == 1
    with pytest.raises(ValueError, match="it cannot generalize to other inputs"):
        adapter(torch.ones(1))
    strict = TracingAdapter(model, torch.ones(1), lambda model, x: (x, "text"))
    with pytest.raises(ValueError, match="outputs must only contain tensors; got 'text'"):
        strict(torch.ones(1))
    sizes = TracingAdapter(model, torch.ones(1), lambda model, x: [x] * len(x))
    sizes(torch.ones(1))
    with pytest.raises(ValueError, match="another structure than in the first"):
        sizes(torch.ones(2))


def test_torchscript_says_what_to_use():
    with pytest.raises(
        NotImplementedError, match=r"scripting_with_instances: TorchScript .*export"
    ):
        scripting_with_instances(nn.Identity(), {})
    for function, arguments in (
        (patch_instances, ({},)),
        (patch_nonscriptable_classes, ()),
        (freeze_training_mode, (nn.Identity(),)),
    ):
        with pytest.raises(NotImplementedError, match="TracingAdapter"):
            function(*arguments)
    with patch_builtin_len():
        assert len([1]) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is (deprecated|not supp)")
def test_someone_elses_torchscript_is_dumped(tmp_path):
    traced = torch.jit.trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(1, 2))
    dump_torchscript_IR(traced, str(tmp_path))

    assert {p.name for p in tmp_path.iterdir()} == {
        "model.txt",
        "model_ts_IR.txt",
        "model_ts_IR_inlined.txt",
        "model_ts_code.txt",
    }
    assert "aten::linear" in (tmp_path / "model_ts_IR_inlined.txt").read_text()
    assert "def forward" in (tmp_path / "model_ts_code.txt").read_text()
