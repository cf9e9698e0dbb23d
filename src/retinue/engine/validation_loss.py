"""The losses of training on images that are not trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retinue.engine.loop import HookBase
from retinue.engine.parallel import gathered
from retinue.engine.training_state import load_training_state, training_state
from retinue.utils import comm
from retinue.utils.events import EventStorage

if TYPE_CHECKING:
    from retinue.config import CfgNode

__all__ = [
    "ValidationLoss",
    "build_validation_loaders",
    "build_validation_loss",
    "validation_losses",
]

logger = logging.getLogger(__name__)

SEED = 0  # of the sampling of anchors and regions, so that losses can be compared over time


class ValidationLoss(HookBase):
    """Reports the mean losses on other images as ``val_total_loss``, ``val_loss_cls`` and so on.

    Register it in all processes.

    Args:
        period: iterations between measurements; the last iteration measures, too.
        model: returns a dict of losses in training mode.
        loaders: each gives annotated batches, this process's share, and ends.
    """

    def __init__(self, period: int, model: nn.Module, loaders: Sequence[Iterable[Any]]) -> None:
        self._period = period
        self._model = model
        self._loaders = loaders

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period and done != self.trainer.max_iter:
            return
        means = validation_losses(self._model, (b for loader in self._loaders for b in loader))
        if not means:
            logger.warning("There is no annotated image to compute a validation loss on")
            return
        total = sum(means.values())
        values = {f"val_{name}": value for name, value in means.items()} | {"val_total_loss": total}
        self.trainer.storage.put_scalars(**values, smoothing_hint=False)
        logger.info("val_total_loss is %.4f after iteration %d", total, self.trainer.iter)


def validation_losses(model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
    """Return the mean of each loss over batches, in all processes; weights stay as they are.

    Args:
        model: returns a dict of losses in training mode.
        batches: of this process.
    """
    sums: dict[str, torch.Tensor] = {}
    num_batches = 0
    inner = getattr(model, "module", model)  # processes have different numbers of batches
    with gathered(inner), _losses_only(inner), torch.no_grad(), EventStorage():
        for batch in batches:
            for name, loss in inner(batch).items():
                sums[name] = sums[name] + loss.double() if name in sums else loss.double()
            num_batches += 1
    shares = comm.all_gather((num_batches, {name: value.item() for name, value in sums.items()}))
    total = sum(num for num, _ in shares)
    names = sorted({name for _, share in shares for name in share})
    return {name: sum(share.get(name, 0.0) for _, share in shares) / total for name in names}


@contextmanager
def _losses_only(model: nn.Module) -> Iterator[None]:
    """Compute losses without side effects: norms and dropout as in inference, own random numbers.

    The model itself stays in training mode, which is what makes it return losses.
    """
    modes = {module: module.training for module in model.modules()}
    kept = training_state(model)
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    kept_still = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    with torch.random.fork_rng(devices=[d.index for d in devices]):
        torch.manual_seed(SEED)
        try:
            model.train()
            for module in model.modules():
                if isinstance(module, kept_still):
                    module.eval()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            load_training_state(model, kept)


def build_validation_loss(cfg: CfgNode, model: nn.Module) -> ValidationLoss:
    """Build the hook that ``RETINUE.VAL_LOSS_PERIOD`` asks for."""
    return ValidationLoss(cfg.RETINUE.VAL_LOSS_PERIOD, model, build_validation_loaders(cfg))


def build_validation_loaders(cfg: CfgNode) -> list[Iterable[Any]]:
    """Build a loader of annotated images for each of ``cfg.DATASETS.TEST``.

    Images are resized as in inference, and not augmented; those without objects are left out.
    """
    from retinue.data import DatasetMapper, build_detection_test_loader
    from retinue.data.build import get_detection_dataset_dicts
    from retinue.data.transforms import ResizeShortestEdge

    shortest = cfg.INPUT.MIN_SIZE_TEST
    resize = ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
    mapper = DatasetMapper(cfg, True, augmentations=[resize])
    return [
        build_detection_test_loader(
            get_detection_dataset_dicts([name], filter_empty=True),
            mapper=mapper,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
        for name in cfg.DATASETS.TEST
    ]
