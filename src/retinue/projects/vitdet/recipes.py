"""Changes that several configs share: each takes nodes of a lazy config and edits them in place."""

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import DictConfig
from torch import nn

from retinue import model_zoo
from retinue.config import LazyCall as L
from retinue.data.detection_utils import get_fed_loss_cls_weights
from retinue.data.samplers import RepeatFactorTrainingSampler
from retinue.evaluation import LVISEvaluator
from retinue.layers import ShapeSpec
from retinue.modeling.backbone.vit import get_vit_lr_decay_rate
from retinue.modeling.roi_heads import FastRCNNConvFCHead
from retinue.solver import WarmupParamScheduler
from retinue.solver.param_scheduler import MultiStepParamScheduler

__all__ = [
    "WARMUP_ITERS",
    "fast_training",
    "rescale_schedule",
    "step_schedule",
    "use_cascade",
    "use_lvis",
    "use_lvis_schedule",
    "use_vit",
]

WARMUP_ITERS = 250


def use_vit(
    model: DictConfig,
    optimizer: DictConfig,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    drop_path_rate: float,
    lr_decay_rate: float,
) -> None:
    """Make the ViT of a model another one.

    Every quarter of the blocks ends in one that sees the whole image; the others see windows. The
    rate falls by ``lr_decay_rate`` a block from the last to the first.
    """
    net = model.backbone.net
    net.embed_dim, net.depth, net.num_heads = embed_dim, depth, num_heads
    net.drop_path_rate = drop_path_rate
    net.window_block_indexes = [i for i in range(depth) if (i + 1) % (depth // 4)]
    optimizer.params.lr_factor_func = partial(
        get_vit_lr_decay_rate, lr_decay_rate=lr_decay_rate, num_layers=depth
    )


def use_cascade(model: DictConfig, conv_norm: str | Callable[[int], nn.Module] = "LN") -> None:
    """Make the heads of a Mask R-CNN those of Cascade R-CNN, with four convolutions each."""
    cascade = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
    for key in ("box_head", "box_predictor", "proposal_matcher"):
        model.roi_heads.pop(key)
    for key in ("_target_", "box_predictors", "proposal_matchers"):
        model.roi_heads[key] = cascade[key]
    model.roi_heads.box_heads = [
        L(FastRCNNConvFCHead)(
            input_shape=ShapeSpec(channels=256, height=7, width=7),
            conv_dims=[256, 256, 256, 256],
            fc_dims=[1024],
            conv_norm=conv_norm,
        )
        for _ in range(3)
    ]


def fast_training(init_checkpoint: str) -> DictConfig:
    """Return training settings with half precision, starting from these weights."""
    train = model_zoo.get_config("common/train.py").train
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    train.init_checkpoint = init_checkpoint
    return train


def step_schedule(*milestones: int, max_iter: int) -> DictConfig:
    """Return a schedule that falls to a tenth at two iterations, after a short warm-up.

    Args:
        *milestones: the two iterations; ``max_iter`` may stand behind them.
        max_iter: iterations of the whole training.
    """
    end: dict[str, Any] = {"num_updates": max_iter} if len(milestones) == 2 else {}
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01], milestones=list(milestones), **end
        ),
        warmup_length=WARMUP_ITERS / max_iter,
        warmup_factor=0.001,
    )


def rescale_schedule(train: DictConfig, lr_multiplier: DictConfig, numerator: int, of: int) -> None:
    """Shorten training to ``numerator`` parts ``of`` so many; the warm-up shrinks with it."""
    train.max_iter = train.max_iter * numerator // of
    schedule = lr_multiplier.scheduler
    schedule.milestones = [m * numerator // of for m in schedule.milestones]
    schedule.num_updates = train.max_iter


def use_lvis(dataloader: DictConfig, *box_predictors: DictConfig) -> None:
    """Train and test on LVIS: rare classes repeated, the federated loss, 300 detections."""
    dataloader.train.dataset.names = "lvis_v1_train"
    frequencies = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    dataloader.train.sampler = L(RepeatFactorTrainingSampler)(
        repeat_factors=L(frequencies)(
            dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.001
        )
    )
    dataloader.test.dataset.names = "lvis_v1_val"
    dataloader.evaluator = L(LVISEvaluator)(
        dataset_name="${..test.dataset.names}", max_dets_per_image=300
    )
    for predictor in box_predictors:
        predictor.test_score_thresh = 0.02
        predictor.test_topk_per_image = 300
        predictor.use_sigmoid_ce = True
        predictor.use_fed_loss = True
        predictor.get_fed_loss_cls_weights = lambda: get_fed_loss_cls_weights(
            dataloader.train.dataset.names, 0.5
        )


def use_lvis_schedule(train: DictConfig, lr_multiplier: DictConfig) -> None:
    """Train for 100 epochs of LVIS: 100,000 images, 64 a batch."""
    train.max_iter = 156_250
    train.eval_period = 30_000
    lr_multiplier.scheduler.milestones = [138_889, 150_463]
    lr_multiplier.scheduler.num_updates = train.max_iter
    lr_multiplier.warmup_length = WARMUP_ITERS / train.max_iter
