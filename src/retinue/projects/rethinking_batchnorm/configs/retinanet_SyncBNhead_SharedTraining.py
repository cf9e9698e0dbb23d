"""As retinanet_SyncBNhead, with one normalisation of all levels together in training, too."""

from retinue.projects.rethinking_batchnorm import RetinaNetHead_SharedTrainingBN

from .retinanet_SyncBNhead import dataloader, lr_multiplier, model, optimizer, train

model.head._target_ = RetinaNetHead_SharedTrainingBN
