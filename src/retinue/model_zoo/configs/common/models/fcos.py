"""FCOS: RetinaNet's model with a head that needs no anchors."""

from retinue.modeling import FCOS
from retinue.modeling.meta_arch.fcos import FCOSHead

from .retinanet import model

for key in ("anchor_generator", "box2box_transform", "anchor_matcher", "input_format"):
    model.pop(key)

model._target_ = FCOS
model.test_score_thresh = 0.2
model.test_nms_thresh = 0.6

model.head._target_ = FCOSHead
model.head.norm = "GN"
model.head.pop("num_anchors")

# The coarse levels grow out of p5, as the FCOS paper found better for this detector.
model.backbone.top_block.in_feature = "p5"
model.backbone.top_block.in_channels = 256
