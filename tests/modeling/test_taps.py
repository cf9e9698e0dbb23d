from collections import namedtuple

import pytest
import torch
from torch import nn

import retinue
from retinue.modeling.taps import taps
from retinue.structures import Boxes, Instances

Pair = namedtuple("Pair", "boxes features")


class Head(nn.Module):
    def forward(self, x):
        boxes = Boxes(x.flatten(1)[:, :4])
        return [Instances((4, 4), pred_boxes=boxes)], {"x": x}, Pair(boxes, (x, "text", 3))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.blocks = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(inplace=True))
        self.head = Head()
        self.unused = nn.Identity()

    def forward(self, x):
        return self.head(self.blocks(self.blocks(self.stem(x))))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Detector()


X = torch.arange(100.0).reshape(1, 1, 10, 10)


def test_outputs_by_name(model):
    with retinue.taps(model, "stem", "head") as t:
        instances, mapping, pair = model(X)

    assert torch.equal(t["stem"], model.stem(X))
    assert list(t) == ["stem", "head"]
    assert len(t) == 2
    assert "unused" not in t
    assert torch.equal(t["head"][0][0].pred_boxes.tensor, instances[0].pred_boxes.tensor)
    assert torch.equal(t["head"][1]["x"], mapping["x"])
    assert t["head"][2].features[1:] == pair.features[1:] == ("text", 3)
    assert repr(t) == "Taps(calls={'stem': 1, 'head': 1})"


def test_copies_stay_as_the_module_gave_them(model):
    """The ReLU works in place, on the memory of the convolution's output."""
    with taps(model, "blocks.0") as t, taps(model, "blocks.0", detach=False) as raw:
        instances, _, _ = model(X)
    instances[0].pred_boxes.scale(0.0, 0.0)

    assert (t["blocks.0"] < 0).any()
    assert not (raw["blocks.0"] < 0).any()


def test_without_detach_gradients_flow(model):
    with taps(model, "stem", detach=False) as t, taps(model, "stem") as copies:
        loss = model(X)[1]["x"].sum()
    (grad,) = torch.autograd.grad(loss, [t["stem"]])

    assert grad.shape == t["stem"].shape
    assert not copies["stem"].requires_grad


def test_every_call_is_kept_or_the_last_ones(model):
    with taps(model, "blocks", "stem") as t, taps(model, "blocks", keep=1) as last:
        model(X)
        model(X)

    assert len(t.calls("blocks")) == 4
    assert len(t.calls("stem")) == 2
    assert len(last.calls("blocks")) == 1
    assert torch.equal(last["blocks"], t.calls("blocks")[-1])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("blocks.*", {"blocks.0", "blocks.1"}),
        ("*", {"stem", "blocks", "blocks.0", "blocks.1", "head"}),
        ("bl*s.[01]", {"blocks.0", "blocks.1"}),
        ("", {""}),
    ],
)
def test_wildcards(model, pattern, names):
    with taps(model, pattern) as t:
        model(X)

    assert set(t) == names


def test_hooks_are_there_only_inside_the_block(model):
    t = taps(model, "*")
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(RuntimeError), t:
        model(torch.zeros(1, 5, 10, 10))
    assert not any(m._forward_hooks for m in model.modules())
    assert len(t) == 0

    with t:
        model(X)
    with t:
        model(X)
    assert len(t.calls("stem")) == 1
    assert len(t) == 5


def test_shared_modules_answer_to_all_their_names():
    layer = nn.Linear(2, 2)
    with taps(model := nn.Sequential(layer, layer), "0", "1") as t:
        model(torch.ones(1, 2))

    assert len(t.calls("0")) == len(t.calls("1")) == 2


def test_wrong_names_are_told_with_near_matches(model):
    with pytest.raises(KeyError, match=r"unknown module 'block\.0'; did you mean 'blocks\.0'"):
        taps(model, "block.0")
    with pytest.raises(ValueError, match="expected the name of at least one module"):
        taps(model)
    with pytest.raises(ValueError, match="keep must be positive or None; got 0"):
        taps(model, "stem", keep=0)
    with taps(model, "stem", "unused") as t:
        model(X)
    with pytest.raises(KeyError, match="'unused': the module was not called"):
        t["unused"]
    with pytest.raises(KeyError, match="unknown tap 'stm'; did you mean 'stem'"):
        t["stm"]
