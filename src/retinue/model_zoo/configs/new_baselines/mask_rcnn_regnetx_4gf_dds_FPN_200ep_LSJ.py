from .mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

train["max_iter"] *= 2
lr_multiplier.scheduler.milestones = [2 * m for m in lr_multiplier.scheduler.milestones]
lr_multiplier.scheduler.num_updates = train["max_iter"]
