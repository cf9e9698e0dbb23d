"""Tensor operations and building blocks that models are made of."""

from retinue.layers.aspp import ASPP
from retinue.layers.batch_norm import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)
from retinue.layers.blocks import CNNBlockBase, DepthwiseSeparableConv2d
from retinue.layers.deform_conv import DeformConv, ModulatedDeformConv
from retinue.layers.losses import ciou_loss, diou_loss
from retinue.layers.mask_ops import paste_masks_in_image
from retinue.layers.nms import batched_nms, batched_nms_rotated, nms, nms_rotated
from retinue.layers.roi_align import ROIAlign, roi_align
from retinue.layers.roi_align_rotated import ROIAlignRotated, roi_align_rotated
from retinue.layers.roi_pool import ROIPool, roi_pool
from retinue.layers.rotated_boxes import pairwise_iou_rotated
from retinue.layers.shape_spec import ShapeSpec
from retinue.layers.wrappers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    cat,
    cross_entropy,
    empty_input_loss_func_wrapper,
    interpolate,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)

__all__ = [
    "ASPP",
    "BatchNorm2d",
    "CNNBlockBase",
    "Conv2d",
    "ConvTranspose2d",
    "CycleBatchNormList",
    "DeformConv",
    "DepthwiseSeparableConv2d",
    "FrozenBatchNorm2d",
    "LayerNorm",
    "Linear",
    "ModulatedDeformConv",
    "NaiveSyncBatchNorm",
    "ROIAlign",
    "ROIAlignRotated",
    "ROIPool",
    "ShapeSpec",
    "batched_nms",
    "batched_nms_rotated",
    "cat",
    "ciou_loss",
    "cross_entropy",
    "diou_loss",
    "empty_input_loss_func_wrapper",
    "get_norm",
    "interpolate",
    "move_device_like",
    "nms",
    "nms_rotated",
    "nonzero_tuple",
    "pairwise_iou_rotated",
    "paste_masks_in_image",
    "roi_align",
    "roi_align_rotated",
    "roi_pool",
    "shapes_to_tensor",
]
