"""Cascade Mask R-CNN, Swin-B from ImageNet-21K, 50 epochs of LVIS."""

from retinue.projects.vitdet.recipes import (
    WARMUP_ITERS,
    rescale_schedule,
    use_lvis,
    use_lvis_schedule,
)

from ..COCO.cascade_mask_rcnn_swin_b_in21k_50ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_lvis(dataloader, *model.roi_heads.box_predictors)
use_lvis_schedule(train, lr_multiplier)
rescale_schedule(train, lr_multiplier, 1, of=2)
lr_multiplier.warmup_length = WARMUP_ITERS / train.max_iter
model.roi_heads.num_classes = 1203
model.backbone.bottom_up.drop_path_rate = 0.3
optimizer.lr = 1e-4
