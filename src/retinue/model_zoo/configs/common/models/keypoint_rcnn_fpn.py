"""Keypoint R-CNN: Mask R-CNN's model with one class and a key point head for the mask head."""

from retinue.config import LazyCall as L
from retinue.layers import ShapeSpec
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.roi_heads import KRCNNConvDeconvUpsampleHead

from .mask_rcnn_fpn import POOLED_LEVELS, POOLED_SCALES, model

for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)

model.roi_heads.update(
    num_classes=1,
    keypoint_in_features=POOLED_LEVELS,
    keypoint_pooler=L(ROIPooler)(
        output_size=14, scales=POOLED_SCALES, sampling_ratio=0, pooler_type="ROIAlignV2"
    ),
    keypoint_head=L(KRCNNConvDeconvUpsampleHead)(
        input_shape=ShapeSpec(channels=256, width=14, height=14),
        num_keypoints=17,
        conv_dims=[512] * 8,
        loss_normalizer="visible",
    ),
)

# Key point data has few boxes an image; a smooth loss and more proposals than for 80 classes.
model.roi_heads.box_predictor.smooth_l1_beta = 0.5
model.proposal_generator.post_nms_topk = (1500, 1000)
