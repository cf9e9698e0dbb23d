import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retinue.layers import Conv2d, FrozenBatchNorm2d
from retinue.modeling.optimize import _WinogradConv2d, optimize_for_inference
from retinue.modeling.taps import taps


def settle(model):
    """Give norms statistics that are not those of new ones."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                tensor = getattr(module, name)
                if tensor is not None:
                    tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()


class Net(nn.Module):
    """A stem, a residual block, a pair in a Sequential, norms that can't be folded, a head."""

    def __init__(self, norm=FrozenBatchNorm2d):
        super().__init__()
        self.stem = Conv2d(3, 64, 7, stride=2, padding=3, bias=False, norm=norm(64))
        self.conv1 = Conv2d(64, 64, 3, padding=1, norm=norm(64), activation=F.relu)
        self.conv2 = Conv2d(64, 64, 3, padding=1, norm=nn.GroupNorm(8, 64), activation=nn.ReLU())
        self.pair = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64, affine=False),
            nn.ReLU(),
            nn.BatchNorm2d(64),
        )
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        x = self.stem(x).relu_()
        x = self.pair(x + self.conv2(self.conv1(x)))
        return self.head(x.mean(dim=(2, 3)))


X = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_results_are_equal_and_the_model_is_untouched(norm):
    model = settle(Net(norm))
    before = copy.deepcopy(model.state_dict())
    model.train()
    fast = optimize_for_inference(model)
    model.eval()

    with torch.no_grad():
        torch.testing.assert_close(fast(X), model(X), rtol=1e-5, atol=1e-5)
    assert type(fast) is Net
    assert not fast.training
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert type(model.conv1) is Conv2d


def test_what_is_folded_and_what_is_not():
    fast = optimize_for_inference(settle(Net()))

    assert fast.stem.norm is None
    assert fast.conv1.norm is None
    assert isinstance(fast.conv2.norm, nn.GroupNorm)
    assert [type(m) for m in fast.pair] == [
        _WinogradConv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d
    ]  # fmt: skip
    assert fast.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert type(fast.stem) is Conv2d
    assert set(fast.state_dict()) < set(Net().state_dict()) | {"stem.bias", "pair.0.bias"}


def test_a_convolution_used_twice_is_left():
    conv = nn.Conv2d(4, 4, 1)
    model = settle(nn.ModuleList([nn.Sequential(conv, nn.BatchNorm2d(4)), conv]))
    fast = optimize_for_inference(model)

    assert isinstance(fast[0][1], nn.BatchNorm2d)
    assert torch.equal(fast[1].weight, conv.weight)


def test_a_norm_of_the_batch_is_left():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    fast = optimize_for_inference(nn.Sequential(nn.Conv2d(4, 4, 1), norm))

    assert isinstance(fast[1], nn.BatchNorm2d)


def test_double_precision_stays():
    model = settle(Net()).double()

    with torch.no_grad():
        torch.testing.assert_close(optimize_for_inference(model)(X.double()), model(X.double()))


def test_the_copy_moves_and_casts_like_any_module():
    model = settle(Net())
    fast = optimize_for_inference(model).to(torch.bfloat16)

    assert fast(X.bfloat16()).dtype == torch.bfloat16
    assert fast.to("meta")(X.bfloat16().to("meta")).shape == (2, 5)


def test_half_precision_runs_by_itself():
    model = settle(Net())
    fast = optimize_for_inference(model, dtype=torch.bfloat16)
    with taps(fast, "conv1") as t, torch.no_grad():
        out = fast(X)

    assert t["conv1"].dtype == torch.bfloat16
    assert fast.conv1.weight.dtype == torch.bfloat16
    expected = model(X)
    assert (out - expected).abs().max() < 0.02 * expected.abs().max()


def test_modules_keep_their_names_and_results():
    model = settle(Net())
    fast = optimize_for_inference(model)
    with taps(model, "conv?", "pair") as slow_taps, taps(fast, "conv?", "pair") as fast_taps:
        model(X)
        fast(X)

    assert list(fast_taps) == ["conv1", "conv2", "pair"]
    for name, value in slow_taps.items():
        torch.testing.assert_close(fast_taps[name], value, rtol=1e-4, atol=1e-4)


def test_autocast_around_the_copy_is_followed():
    model = settle(Net())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        out, expected = optimize_for_inference(model)(X), model(X)

    assert (out - expected).abs().max() < 0.02 * expected.abs().max()


def test_another_type_is_refused():
    with pytest.raises(ValueError, match=r"torch\.bfloat16 or torch\.float16; got torch\.int8"):
        optimize_for_inference(nn.Identity(), dtype=torch.int8)
