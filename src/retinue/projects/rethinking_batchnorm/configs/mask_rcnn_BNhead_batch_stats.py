"""As mask_rcnn_BNhead, with statistics of the batch in inference, too.

Training is the same: weights trained with that config are evaluated with this one.
"""

from retinue.projects.rethinking_batchnorm import BatchNormBatchStat

from .mask_rcnn_BNhead import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.box_head.conv_norm = BatchNormBatchStat
model.roi_heads.mask_head.conv_norm = BatchNormBatchStat
