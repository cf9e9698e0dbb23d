"""As mask_rcnn_BNhead, with regions of all devices shuffled before the heads."""

from retinue.projects.rethinking_batchnorm import ShuffledBoxHead, ShuffledMaskHead

from .mask_rcnn_BNhead import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.box_head._target_ = ShuffledBoxHead
model.roi_heads.mask_head._target_ = ShuffledMaskHead
