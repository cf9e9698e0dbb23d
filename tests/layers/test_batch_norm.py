import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from retinue.layers import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)
from retinue.layers.distributed import differentiable_all_gather, differentiable_all_reduce


def filled_norm(norm: nn.Module) -> nn.Module:
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
def test_frozen_norm_is_the_norm_at_inference(requires_grad, dtype, tolerance):
    frozen = filled_norm(FrozenBatchNorm2d(3))
    if dtype == torch.float64:
        frozen = frozen.double()
    x = torch.randn(2, 3, 4, 5).to(dtype).requires_grad_(requires_grad)

    out = frozen(x)

    buffers = [b.double() for b in frozen.buffers()]
    weight, bias, mean, var = buffers
    expected = F.batch_norm(x.double(), mean, var, weight, bias, eps=1e-5)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_new_frozen_norm_changes_nothing():
    x = torch.randn(2, 3, 4, 5)

    torch.testing.assert_close(FrozenBatchNorm2d(3)(x), x)
    assert FrozenBatchNorm2d(3)(x[:0]).shape == (0, 3, 4, 5)


def test_gradients_of_a_frozen_norm_are_exact():
    frozen = filled_norm(FrozenBatchNorm2d(2)).double()

    assert torch.autograd.gradcheck(frozen, torch.randn(1, 2, 3, 3).double().requires_grad_())


def test_checkpoints_without_statistics_mean_zero_and_one():
    frozen = FrozenBatchNorm2d(2)

    frozen.load_state_dict({"weight": torch.tensor([2.0, 3]), "bias": torch.tensor([4.0, 5])})

    assert frozen.running_mean.tolist() == [0, 0]
    assert frozen.running_var.tolist() == [1, 1]
    assert list(frozen.state_dict()) == ["weight", "bias", "running_mean", "running_var"]


def test_new_checkpoints_must_be_complete():
    state = FrozenBatchNorm2d(2).state_dict()
    del state["running_mean"]

    with pytest.raises(RuntimeError, match="running_mean"):
        FrozenBatchNorm2d(2).load_state_dict(state)


def test_freezing_and_thawing_keep_what_a_model_computes():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        filled_norm(nn.BatchNorm2d(4, eps=1e-3)),
        nn.Sequential(filled_norm(nn.SyncBatchNorm(4))),
    ).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = model(x)

    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert frozen is model
    assert isinstance(model[1], FrozenBatchNorm2d)
    assert model[1].eps == 1e-3
    assert not list(model[1].parameters())
    torch.testing.assert_close(model(x), expected)

    FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model)
    assert type(model[2][0]) is nn.BatchNorm2d
    assert len(list(model[1].parameters())) == 2
    torch.testing.assert_close(model.eval()(x), expected)


def test_a_norm_itself_becomes_a_new_layer():
    norm = nn.BatchNorm2d(4, affine=False)

    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm)

    assert isinstance(frozen, FrozenBatchNorm2d)
    assert frozen.weight.tolist() == [1] * 4
    assert repr(frozen) == "FrozenBatchNorm2d(num_features=4, eps=1e-05)"


def test_a_norm_without_statistics_is_not_frozen():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="without running statistics"):
        FrozenBatchNorm2d.convert_frozen_batchnorm(norm)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", nn.GroupNorm),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("naiveSyncBN", NaiveSyncBatchNorm),
        ("naiveSyncBN_N", NaiveSyncBatchNorm),
        ("LN", LayerNorm),
        (lambda channels: nn.InstanceNorm2d(channels), nn.InstanceNorm2d),
    ],
)
def test_names_of_norms(name, kind):
    norm = get_norm(name, 64)

    assert type(norm) is kind
    assert norm(torch.randn(2, 64, 3, 3)).shape == (2, 64, 3, 3)


def test_no_norm_and_an_unknown_one():
    assert get_norm("", 4) is None
    assert get_norm(None, 4) is None
    with pytest.raises(KeyError, match="unknown norm 'FrozenBM'; did you mean 'FrozenBN'"):
        get_norm("FrozenBM", 4)


def test_layer_norm_is_over_channels():
    norm = LayerNorm(6)
    x = torch.randn(2, 6, 3, 4)

    out = norm(x)

    expected = (x - x.mean(1, keepdim=True)) / (
        x.var(1, keepdim=True, unbiased=False) + 1e-6
    ).sqrt()
    torch.testing.assert_close(out, expected)


def test_norms_of_a_cycle_take_turns():
    norms = CycleBatchNormList(2, num_features=3)
    first, second = torch.randn(2, 3, 4, 4), 5 + torch.randn(2, 3, 4, 4)

    norms(first)
    norms(second)

    assert norms[1].running_mean.min() > norms[0].running_mean.max()
    assert {name for name, _ in norms.named_parameters()} == {"weight", "bias"}
    assert norms.extra_repr() == "affine=True"
    plain = CycleBatchNormList(1, nn.BatchNorm2d, num_features=3, affine=False)
    assert not list(plain.parameters())
    assert plain(first).mean().abs() < 1e-5


def test_naive_sync_norm_alone_is_batch_norm():
    x = torch.randn(3, 4, 5, 5)

    torch.testing.assert_close(NaiveSyncBatchNorm(4)(x), nn.BatchNorm2d(4)(x))
    with pytest.raises(AssertionError, match="stats_mode must be '' or 'N'; got 'M'"):
        NaiveSyncBatchNorm(4, stats_mode="M")


def test_collectives_in_a_single_process_are_identities():
    x = torch.ones(2)

    assert differentiable_all_reduce(x) is x
    assert differentiable_all_gather(x) == [x]


def _check_on_rank(rank: int, address: str) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    weight = torch.randn(x.shape, dtype=torch.float64)
    mine = slice(0, 2) if rank == 0 else slice(2, 5)

    joint_x = x.clone().requires_grad_()
    joint = nn.BatchNorm2d(3).double()
    joint_out = joint(joint_x)
    (joint_out * weight).sum().backward()

    part = x[mine].clone().requires_grad_()
    norm = NaiveSyncBatchNorm(3, stats_mode="N").double()
    out = norm(part)
    (out * weight[mine]).sum().backward()
    torch.testing.assert_close(out, joint_out[mine])
    torch.testing.assert_close(part.grad, joint_x.grad[mine])
    torch.testing.assert_close(norm.running_mean, joint.running_mean)

    empty = x[:0] if rank == 0 else x  # a rank without images still takes part
    torch.testing.assert_close(
        NaiveSyncBatchNorm(3, stats_mode="N").double()(empty).sum(),
        nn.BatchNorm2d(3).double()(x).sum() if rank else torch.zeros(()).double(),
    )
    equal = NaiveSyncBatchNorm(3).double()(x[:4][rank * 2 : rank * 2 + 2])
    expected = nn.BatchNorm2d(3).double()(x[:4])[rank * 2 : rank * 2 + 2]
    torch.testing.assert_close(equal, expected)
    with pytest.raises(AssertionError, match="needs an image on every rank"):
        NaiveSyncBatchNorm(3).double()(x[:0])

    own = torch.tensor([1.0 + rank], requires_grad=True)
    parts = differentiable_all_gather(own)
    assert [p.item() for p in parts] == [1, 2]
    (parts[0] + 10 * parts[1]).sum().backward()
    assert own.grad.item() == 2 * (1 if rank == 0 else 10)
    dist.destroy_process_group()


@pytest.mark.slow
def test_naive_sync_norm_is_the_norm_of_the_joined_batch(tmp_path):
    mp.spawn(_check_on_rank, args=(f"file://{tmp_path}/store",), nprocs=2)
