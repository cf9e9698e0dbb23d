"""Panoptic FPN: Mask R-CNN and a semantic head on the same pyramid."""

from retinue.config import LazyCall as L
from retinue.layers import ShapeSpec
from retinue.modeling import PanopticFPN
from retinue.modeling.meta_arch.semantic_seg import SemSegFPNHead

from .mask_rcnn_fpn import model

model._target_ = PanopticFPN
model.sem_seg_head = L(SemSegFPNHead)(
    input_shape={
        level: L(ShapeSpec)(stride=stride, channels="${....backbone.out_channels}")
        for level, stride in (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))
    },
    ignore_value=255,
    num_classes=54,  # COCO's 53 kinds of stuff, and one for all things
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
)
