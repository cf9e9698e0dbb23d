import pytest
import torch
from torch import nn
from torch.nn import functional as F

import retinue.layers
from retinue.layers import (
    Conv2d,
    ShapeSpec,
    cat,
    cross_entropy,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)
from retinue.layers.wrappers import (
    _NewEmptyTensorOp,
    check_if_dynamo_compiling,
    disable_torch_compiler,
)


def test_convolution_then_norm_then_activation():
    conv = Conv2d(3, 4, 1, bias=False, norm=nn.BatchNorm2d(4), activation=F.relu)
    x = torch.randn(2, 3, 5, 5)

    torch.testing.assert_close(conv(x), F.relu(conv.norm(F.conv2d(x, conv.weight))))
    assert {"weight", "norm.weight", "norm.running_var"} <= set(conv.state_dict())


def test_convolution_of_no_images():
    assert Conv2d(3, 4, 3, stride=2, padding=1)(torch.zeros(0, 3, 9, 9)).shape == (0, 4, 5, 5)
    conv = Conv2d(3, 4, 1, norm=nn.SyncBatchNorm(4))
    with pytest.raises(AssertionError, match=r"no statistics of an empty input .* \(0, 3, 9, 9\)"):
        conv(torch.zeros(0, 3, 9, 9))
    assert conv.eval()(torch.zeros(0, 3, 9, 9)).shape == (0, 4, 9, 9)


def test_cat_of_one_tensor_is_that_tensor():
    x = torch.ones(2, 3)

    assert cat([x]) is x
    assert cat((x, x), dim=1).shape == (2, 6)
    with pytest.raises(AssertionError, match="must be a list or tuple; got generator"):
        cat(t for t in [x])


def test_cross_entropy_of_nothing_is_zero():
    logits = torch.randn(0, 5, requires_grad=True)

    loss = cross_entropy(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()

    assert loss.item() == 0
    assert logits.grad.shape == (0, 5)
    some, labels = torch.randn(3, 5), torch.tensor([1, 0, 4])
    torch.testing.assert_close(cross_entropy(some, labels), F.cross_entropy(some, labels))
    assert cross_entropy(some, labels, reduction="none").shape == (3,)
    assert cross_entropy(some[:0], labels[:0], reduction="none").shape == (0,)


def test_small_helpers():
    x = torch.tensor([[0, 1], [1, 0]])

    assert [t.tolist() for t in nonzero_tuple(x)] == [[0, 1], [1, 0]]
    assert move_device_like(x, torch.empty(0, device="meta")).is_meta
    assert shapes_to_tensor([3, 4]).tolist() == [3, 4]
    assert shapes_to_tensor([torch.tensor(3), 4]).tolist() == [3, 4]
    assert not check_if_dynamo_compiling()


def test_functions_kept_from_the_compiler_still_run():
    @disable_torch_compiler
    def double(x):
        return 2 * x

    assert double(3) == 6


def test_an_empty_tensor_of_another_shape_has_a_gradient():
    x = torch.zeros(0, 3, requires_grad=True)

    _NewEmptyTensorOp.apply(x, (0, 7)).sum().backward()

    assert x.grad.shape == (0, 3)


def test_shape_spec_is_a_record():
    assert ShapeSpec(channels=3) == ShapeSpec(3, None, None, None)
    assert (
        repr(ShapeSpec(3, stride=4)) == "ShapeSpec(channels=3, height=None, width=None, stride=4)"
    )


def test_every_listed_name_is_there():
    missing = [n for n in retinue.layers.__all__ if not hasattr(retinue.layers, n)]
    assert not missing
