"""Counts of parameters, multiply-adds and activations, by hand for small layers."""

from collections import Counter

import pytest
import torch
from torch import nn

from retinue.export import operator_counts as ops
from retinue.export.analysis import (
    FlopCountAnalysis,
    activation_count_operators,
    find_unused_parameters,
    flop_count_operators,
    parameter_count,
    parameter_count_table,
)
from retinue.export.model_tables import flop_count_str, flop_count_table
from retinue.export.operator_analysis import ActivationCountAnalysis, activation_count, flop_count
from retinue.export.operator_analysis import FlopCountAnalysis as PlainAnalysis


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2, bias=False))
        self.unused = nn.Linear(1, 1)

    def forward(self, batch):
        x = batch[0]["image"] if isinstance(batch, list) else batch
        x = self.norm(self.conv(x[None] if x.dim() == 3 else x))
        return self.head(x.mean(dim=(2, 3)))


# 6 x 8 pixels: 27 weights for each of 4 channels at 48 places; 2 a value in the norm; 4 x 5 + 5 x 2
CONV, NORM, HEAD = 48 * 4 * 27, 2 * 48 * 4, 20 + 10


def test_flops_by_module_and_operator():
    flops = PlainAnalysis(Net().eval(), torch.rand(1, 3, 6, 8))

    assert flops.by_operator() == {"conv": CONV, "batch_norm": NORM, "linear": 20, "matmul": 10}
    assert flops.total() == CONV + NORM + HEAD
    assert flops.total("head") == HEAD
    assert flops.by_module()["head.1"] == 10
    assert flops.by_module_and_operator()["head"] == {"linear": 20, "matmul": 10}
    assert flops.uncalled_modules() == {"unused"}
    assert flops.unsupported_ops("head") == {}
    assert "aten::mean" in flops.unsupported_ops()
    with pytest.raises(KeyError, match="unknown module 'heed'; did you mean 'head'"):
        flops.total("heed")


def test_a_module_under_two_names_and_called_twice():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, shared)
    flops = PlainAnalysis(model, torch.rand(1, 2))

    assert flops.total() == 8
    assert flops.total("0") == flops.total("1") == 8
    assert flops.canonical_module_name("1") == "0"


def test_handles_of_ones_own():
    flops = PlainAnalysis(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2))
    flops.set_op_handle("aten::relu", lambda inputs, outputs: Counter({"relu": 7}))

    assert flops.by_operator() == {"linear": 24, "relu": 7}
    other = flops.copy(new_inputs=torch.rand(8, 2)).set_op_handle("aten::addmm", None)
    assert other.by_operator() == {"relu": 7}
    assert other.unsupported_ops() == {}
    assert flops.clear_op_handles().total() == 0
    with pytest.raises(ValueError, match="names and handles in turn; got 1"):
        flops.set_op_handle("aten::relu")
    assert flops.ancestor_mode("caller").tracer_warnings("none") is flops
    with pytest.raises(ValueError, match="expected 'owner' or 'caller'; got 'me'"):
        flops.ancestor_mode("me")


def test_what_is_not_counted_is_logged(caplog):
    PlainAnalysis(Net().eval(), torch.rand(1, 3, 6, 8)).total()

    assert "Operator aten::mean is not counted; it was called 1 times." in caplog.text
    assert "1 modules were not called: unused" in caplog.text


def test_a_detectors_inputs():
    model = Net()
    inputs = [{"image": torch.rand(3, 6, 8), "height": 3}]
    by_operator = flop_count_operators(model, inputs)

    assert by_operator["conv"] == CONV / 1e9
    assert model.training
    assert FlopCountAnalysis(model.eval(), inputs).total("model.head") == HEAD
    assert activation_count_operators(model, inputs)["conv"] == 48 * 4 / 1e6
    with pytest.raises(AssertionError, match="expected one image; got 2"):
        activation_count_operators(model, inputs * 2)


def test_functions_of_fvcore():
    model, x = Net().eval(), torch.rand(1, 3, 6, 8)
    counts, skipped = flop_count(model, x)
    assert counts["conv"] == CONV / 1e9
    assert counts["nothing"] == 0
    assert skipped["aten::mean"] == 1
    counts, _ = activation_count(model, x, {"aten::mean": ops.generic_activation_jit("mean")})
    assert counts == {"conv": 192e-6, "linear": 5e-6, "matmul": 2e-6, "mean": 4e-6}
    assert ActivationCountAnalysis(model, x).total() == 192 + 5 + 2


def test_parameters():
    counts = parameter_count(Net())

    assert counts["conv.weight"] == 108
    assert counts["head"] == 4 * 5 + 5 + 10
    assert counts[""] == 112 + 8 + 35 + 2
    table = parameter_count_table(Net(), max_depth=1)
    assert "|  conv  " in table
    assert "conv.weight" not in table
    assert "(4, 3, 3, 3)" in parameter_count_table(Net())


def test_tables():
    model, x = Net().eval(), torch.rand(1, 3, 6, 8)
    flops, activations = PlainAnalysis(model, x), ActivationCountAnalysis(model, x)
    table = flop_count_table(flops, activations=activations)

    assert "#activations" in table.splitlines()[0]
    assert "5.2K" in table  # the convolution's 5184
    assert "conv.weight" not in flop_count_table(flops, show_param_shapes=False)
    assert "#flops: 5.2K" in flop_count_str(flops, activations)


def test_unused_parameters():
    class Losses(Net):
        def forward(self, x):
            return {"loss": super().forward(x).sum()}

    model = Losses()
    assert find_unused_parameters(model, torch.rand(1, 3, 6, 8)) == [
        "unused.weight",
        "unused.bias",
    ]
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(AssertionError, match="a model in train"):
        find_unused_parameters(model.eval(), torch.rand(1, 3, 6, 8))


def test_single_operators():
    a, b, c = torch.zeros(2, 3, 4), torch.zeros(2, 4, 5), torch.zeros(2, 3, 5)
    assert ops.get_shape(a) == [2, 3, 4]
    assert ops.get_shape(3) is None
    assert ops.bmm_flop_jit([a, b], [c]) == ops.matmul_flop_jit([a, b], [c]) == 2 * 3 * 4 * 5
    assert ops.einsum_flop_jit(["bij, bjk -> bik", [a, b]], [c]) == 2 * 3 * 4 * 5
    assert ops.linear_flop_jit([a, torch.zeros(7, 4)], []) == 2 * 3 * 4 * 7
    assert ops.addmm_flop_jit([None, a[0], b[0]], []) == 3 * 4 * 5
    assert ops.conv_flop_count([1, 3, 6, 8], [3, 4, 2, 2], [1, 4, 12, 16], True) == 48 * 48
    assert ops.norm_flop_counter(1)([a, None], []) == 4 * 24
    assert ops.norm_flop_counter(1)([a, a], []) == 5 * 24
    assert ops.batchnorm_flop_jit([a, a, a, a, a, True], []) == 5 * 24
    assert ops.batchnorm_flop_jit([a, None, a, a, a, False], []) == 24
    assert ops.elementwise_flop_counter(2, 3)([a], [b]) == 2 * 24 + 3 * 40
    assert ops.generic_activation_jit()([], [c]) == 30
