"""The functions of ``detectron2._C``, with its calling conventions: results go to given tensors.

Importing this also defines the operators ``torch.ops.detectron2.*``. Code of one's own had better
call ``retinue.layers``, which these do; the buffers named ``columns`` and ``ones`` are not used.
"""

from __future__ import annotations

from typing import Any

import torch

from retinue.compat.coco_eval import (
    COCOevalAccumulate,
    COCOevalEvaluateImages,
    ImageEvaluation,
    InstanceAnnotation,
)
from retinue.layers.deform_conv import deform_conv, modulated_deform_conv
from retinue.layers.nms import nms_rotated
from retinue.layers.roi_align_rotated import roi_align_rotated
from retinue.layers.rotated_boxes import pairwise_iou_rotated

__all__ = [
    "COCOevalAccumulate",
    "COCOevalEvaluateImages",
    "ImageEvaluation",
    "InstanceAnnotation",
    "box_iou_rotated",
    "deform_conv_backward_filter",
    "deform_conv_backward_input",
    "deform_conv_forward",
    "get_compiler_version",
    "get_cuda_version",
    "has_cuda",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "nms_rotated",
    "roi_align_rotated_backward",
    "roi_align_rotated_forward",
]

box_iou_rotated = pairwise_iou_rotated


def get_compiler_version() -> str:
    """Say that nothing was compiled."""
    return "none: retinue is pure Python"


def get_cuda_version() -> str:
    """Return the CUDA version that PyTorch was built for, or an empty string."""
    return torch.version.cuda or ""


def has_cuda() -> bool:
    """Whether this PyTorch has CUDA; the operators run wherever it does."""
    return torch.version.cuda is not None


def _fill(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write a result into the tensor that the caller gave for it, which may be empty."""
    target.resize_(values.shape).copy_(values)


def deform_conv_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    output: torch.Tensor,
    columns: torch.Tensor,
    ones: torch.Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> int:
    """Fill ``output`` with the deformable convolution of ``input``; return 1."""
    options = ((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    with torch.no_grad():
        _fill(output, deform_conv(input, offset, weight, *options, im2col_step))
    return 1


def _gradients(
    inputs: tuple[torch.Tensor, ...], grad_output: torch.Tensor, function: Any
) -> tuple[torch.Tensor, ...]:
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in inputs)
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, grad_output.view_as(output))


def deform_conv_backward_input(
    input: torch.Tensor,
    offset: torch.Tensor,
    gradOutput: torch.Tensor,
    gradInput: torch.Tensor,
    gradOffset: torch.Tensor,
    weight: torch.Tensor,
    columns: torch.Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> int:
    """Fill the gradients with respect to input and offset; return 1."""
    options = ((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    grads = _gradients(
        (input, offset), gradOutput, lambda x, moves: deform_conv(x, moves, weight, *options)
    )
    _fill(gradInput, grads[0])
    _fill(gradOffset, grads[1])
    return 1


def deform_conv_backward_filter(
    input: torch.Tensor,
    offset: torch.Tensor,
    gradOutput: torch.Tensor,
    gradWeight: torch.Tensor,
    columns: torch.Tensor,
    ones: torch.Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> int:
    """Add ``scale`` times the gradient with respect to the weight to ``gradWeight``; return 1."""
    options = ((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    (grad,) = _gradients(
        (torch.zeros_like(gradWeight),),
        gradOutput,
        lambda weight: deform_conv(input, offset, weight, *options),
    )
    gradWeight.add_(grad, alpha=scale)
    return 1


def modulated_deform_conv_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ones: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    output: torch.Tensor,
    columns: torch.Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill ``output`` with the modulated deformable convolution of ``input``."""
    options = ((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    with torch.no_grad():
        out = modulated_deform_conv(
            input, offset, mask, weight, bias if with_bias else None, *options, group,
            deformable_group,
        )  # fmt: skip
    _fill(output, out)


def modulated_deform_conv_backward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ones: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    columns: torch.Tensor,
    grad_input: torch.Tensor,
    grad_weight: torch.Tensor,
    grad_bias: torch.Tensor,
    grad_offset: torch.Tensor,
    grad_mask: torch.Tensor,
    grad_output: torch.Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the gradients of the modulated deformable convolution."""
    options = ((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))

    def forward(x: torch.Tensor, w: torch.Tensor, moves: torch.Tensor, m: torch.Tensor) -> Any:
        return modulated_deform_conv(x, moves, m, w, None, *options, group, deformable_group)

    grads = _gradients((input, weight, offset, mask), grad_output, forward)
    for target, grad in zip((grad_input, grad_weight, grad_offset, grad_mask), grads, strict=True):
        _fill(target, grad)
    if with_bias:
        _fill(grad_bias, grad_output.sum(dim=(0, 2, 3)))


def roi_align_rotated_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> torch.Tensor:
    """Pool rotated regions ``(R, 6)`` of ``(N, C, H, W)`` to ``(R, C, P, Q)``."""
    size = (pooled_height, pooled_width)
    return roi_align_rotated(input, rois, size, spatial_scale, sampling_ratio)


def roi_align_rotated_backward(
    grad: torch.Tensor,
    rois: torch.Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
) -> torch.Tensor:
    """Return the gradient ``(N, C, H, W)`` with respect to the features."""
    size = (pooled_height, pooled_width)
    (gradient,) = _gradients(
        (grad.new_zeros(batch_size, channels, height, width),),
        grad,
        lambda x: roi_align_rotated(x, rois, size, spatial_scale, sampling_ratio),
    )
    return gradient


def _define_operators() -> torch.library.Library:
    library = torch.library.Library("detectron2", "FRAGMENT")
    for signature, function in (
        ("nms_rotated(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms_rotated),
        ("box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor", box_iou_rotated),
        (
            "roi_align_rotated_forward(Tensor input, Tensor rois, float spatial_scale,"
            " int pooled_height, int pooled_width, int sampling_ratio) -> Tensor",
            roi_align_rotated_forward,
        ),
        (
            "roi_align_rotated_backward(Tensor grad, Tensor rois, float spatial_scale,"
            " int pooled_height, int pooled_width, int batch_size, int channels, int height,"
            " int width, int sampling_ratio) -> Tensor",
            roi_align_rotated_backward,
        ),
    ):
        library.define(signature)
        library.impl(signature.partition("(")[0], function, "CompositeImplicitAutograd")
    return library


_library = _define_operators()  # the operators live as long as this object
