"""Normalisation layers, and the table of their names in configs.

Shapes
    N images; C channels; H, W rows and columns.

Reading order: get_norm maps a config's word to a layer; FrozenBatchNorm2d is what pretrained
backbones use; the others serve special trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from retinue.layers.distributed import differentiable_all_reduce
from retinue.layers.wrappers import BatchNorm2d
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "CycleBatchNormList",
    "FrozenBatchNorm2d",
    "LayerNorm",
    "NaiveSyncBatchNorm",
    "get_norm",
]


def _per_channel(vector: torch.Tensor) -> torch.Tensor:
    return vector.reshape(1, -1, 1, 1)


def _replace_modules(
    module: nn.Module, replace: Callable[[nn.Module], nn.Module | None]
) -> nn.Module:
    """Swap, in place, each submodule for which ``replace`` gives another; return the new root."""
    new = replace(module)
    if new is not None:
        return new
    for name, child in module.named_children():
        swapped = _replace_modules(child, replace)
        if swapped is not child:
            setattr(module, name, swapped)
    return module


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and fixed scale and shift; it is an identity when new.

    ``y = (x - running_mean) / sqrt(running_var + eps) * weight + bias``, all of them buffers.
    Caffe2's backbones store the product of both steps as ``weight`` and ``bias`` alone; the
    statistics are then loaded as 0 and 1.

    Args:
        num_features: C.
        eps: added to the variance.
    """

    _version = 3

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor | None

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        ones, zeros = torch.ones(num_features), torch.zeros(num_features)
        self.register_buffer("weight", ones)
        self.register_buffer("bias", zeros)
        self.register_buffer("running_mean", zeros.clone())
        self.register_buffer("running_var", ones - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to the same shape and dtype."""
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        # F.batch_norm would keep x for its backward; a product with a constant keeps nothing.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(_per_channel(shift).to(x.dtype), x, _per_channel(scale).to(x.dtype))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if (local_metadata.get("version") or 0) < 2:  # checkpoints with weight and bias alone
            state_dict.setdefault(f"{prefix}running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(f"{prefix}running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(
            state_dict,
            prefix,
            dict(local_metadata),
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Freeze every ``BatchNorm2d`` and ``SyncBatchNorm`` in ``module``, in place.

        Returns:
            ``module``, or the new layer if ``module`` is itself such a norm.
        """

        def freeze(norm: nn.Module) -> nn.Module | None:
            if not isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                return None
            if norm.running_mean is None or norm.running_var is None:
                raise InputError(
                    "convert_frozen_batchnorm: a norm without running statistics can't be frozen;"
                    f" got {norm}; make it with track_running_stats=True"
                )
            frozen = cls(norm.num_features, norm.eps).to(norm.running_mean.device)
            if norm.affine:
                frozen.weight = norm.weight.detach().clone()
                frozen.bias = norm.bias.detach().clone()
            frozen.running_mean = norm.running_mean
            frozen.running_var = norm.running_var
            frozen.num_batches_tracked = norm.num_batches_tracked
            return frozen

        return _replace_modules(module, freeze)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Make every ``FrozenBatchNorm2d`` in ``module`` a trainable ``BatchNorm2d``, in place.

        Returns:
            ``module``, or the new layer if ``module`` is itself such a norm.
        """

        def thaw(norm: nn.Module) -> nn.Module | None:
            if not isinstance(norm, FrozenBatchNorm2d):
                return None
            thawed = nn.BatchNorm2d(norm.num_features, norm.eps)
            thawed.weight = nn.Parameter(norm.weight.detach().clone())
            thawed.bias = nn.Parameter(norm.bias.detach().clone())
            thawed.running_mean = norm.running_mean.detach().clone()
            thawed.running_var = norm.running_var.detach().clone()
            thawed.num_batches_tracked = norm.num_batches_tracked
            return thawed

        return _replace_modules(module, thaw)


class NaiveSyncBatchNorm(BatchNorm2d):
    """Batch norm over the batches of all ranks, on any device and backend.

    Args:
        *args: of ``torch.nn.BatchNorm2d``.
        stats_mode: how ranks are weighed. ``""``: equally, whatever their number and size of
            images; every rank must have at least one. ``"N"``: by their number of images, which
            may be 0.
        **kwargs: of ``torch.nn.BatchNorm2d``.

    Both modes equal the norm of the joined batch where all images have the same size (and, for
    ``""``, all ranks as many). See Wu & Johnson, "Rethinking 'Batch' in BatchNorm" (2021).
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise InputError(
                f"NaiveSyncBatchNorm: stats_mode must be '' or 'N'; got {stats_mode!r}"
            )
        self._stats_mode = stats_mode

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to the same shape and dtype; every rank has to call it."""
        is_distributed = dist.is_available() and dist.is_initialized()
        if not self.training or not is_distributed or dist.get_world_size() == 1:
            return super().forward(input)
        x = input.float() if input.dtype == torch.float16 else input  # squares overflow in half
        mean, square_mean, momentum = self._joint_statistics(x)
        var = square_mean - mean * mean
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_(var.to(self.running_var.dtype), momentum)
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        return (x * _per_channel(scale) + _per_channel(shift)).to(input.dtype)

    def _joint_statistics(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]:
        """Return mean and mean square per channel over all ranks, and the momentum to use."""
        momentum = 0.0 if self.momentum is None else self.momentum
        num_images, num_channels = x.shape[:2]
        if num_images == 0:
            if self._stats_mode == "":
                raise InputError(
                    "NaiveSyncBatchNorm: stats_mode '' needs an image on every rank; got a batch"
                    " of 0; use stats_mode='N' (norm 'naiveSyncBN_N')"
                )
            moments = x.new_zeros(2 * num_channels) + x.sum()  # keeps this rank in the graph
        else:
            moments = torch.cat([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))])
        weight = num_images if self._stats_mode == "N" else 1
        joint = differentiable_all_reduce(
            torch.cat([moments * weight, moments.new_full((1,), weight)])
        )
        total = joint[-1].detach()
        mean, square_mean = (joint[:-1] / total.clamp(min=1)).split(num_channels)
        return mean, square_mean, total.clamp(max=1) * momentum  # no images: nothing to learn


class CycleBatchNormList(nn.ModuleList):
    """Batch norms with separate statistics and shared scale and shift, one a call in turn.

    For a head that is applied to each of several feature levels: call it once for every level,
    always in the same order. Wu & Johnson, "Rethinking 'Batch' in BatchNorm" (2021), section 5.2.

    Args:
        length: number of norms.
        bn_class: class of the norms.
        **kwargs: of ``bn_class``, for example ``num_features``.
    """

    def __init__(
        self, length: int, bn_class: Callable[..., nn.Module] = nn.BatchNorm2d, **kwargs: Any
    ) -> None:
        self._affine = kwargs.pop("affine", True)
        super().__init__([bn_class(**kwargs, affine=False) for _ in range(length)])
        if self._affine:
            num_features: int = self[0].num_features  # type: ignore[assignment]
            self.weight = nn.Parameter(torch.ones(num_features))
            self.bias = nn.Parameter(torch.zeros(num_features))
        self._pos = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to the same shape by the norm whose turn it is."""
        x = self[self._pos](x)
        self._pos = (self._pos + 1) % len(self)
        return x * _per_channel(self.weight) + _per_channel(self.bias) if self._affine else x

    def extra_repr(self) -> str:
        """Say whether scale and shift are learned."""
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer norm over the channels of ``(N, C, H, W)``, at each position by itself.

    As in ConvNeXt: Liu et al. (2022), https://arxiv.org/abs/2201.03545.

    Args:
        normalized_shape: C.
        eps: added to the variance.
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        by_position = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(by_position, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels: NaiveSyncBatchNorm(channels, stats_mode="N"),
    "LN": LayerNorm,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Make the normalisation layer that a config or an argument names.

    Args:
        norm: ``BN``, ``SyncBN``, ``FrozenBN``, ``GN`` (32 groups), ``nnSyncBN``, ``naiveSyncBN``,
            ``naiveSyncBN_N``, ``LN``; or a callable that makes a layer from a number of channels.
        out_channels: C.

    Returns:
        The layer; ``None`` for ``None`` and ``""``.

    Raises:
        UnknownNameError: (a ``KeyError``) If the name isn't one of these.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise unknown_name("norm", norm, _NORMS)
        norm = _NORMS[norm]
    return norm(out_channels)
