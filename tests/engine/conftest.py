"""Small models and data for the tests of training."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retinue.config import get_cfg
from retinue.modeling import META_ARCH_REGISTRY


class Line(nn.Module):
    """Two losses of a linear layer; its input is a batch ``(N, 3)``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch):
        out = self.norm(self.layer(batch))
        return {"loss_a": (out[:, 0] - 1).square().mean(), "loss_b": out[:, 1].abs().mean()}


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def batches():
    """Ten batches, the same ones in each test."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, generator=generator) for _ in range(10)]


@pytest.fixture
def sgd():
    return lambda model, lr=0.1: torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


@pytest.fixture
def squares(tmp_path):
    """Names of two small registered datasets of bright squares, and what they were made from."""
    from retinue.data import DatasetCatalog, MetadataCatalog
    from retinue.data.datasets import register_coco_instances

    folder = tmp_path / "squares"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(6):
        height, width = (48, 64) if index % 3 else (64, 48)
        pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
        pixels[8:28, 10:30] = 220
        Image.fromarray(pixels).save(folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1 + index % 2, "area": 400,
             "bbox": [10, 8, 20, 20], "iscrowd": 0}
        )  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(content))
    names = ("squares_train", "squares_val")
    for name in names:
        register_coco_instances(name, {}, str(folder / "a.json"), str(folder))
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@META_ARCH_REGISTRY.register()
class BrightnessModel(nn.Module):
    """Losses and "predictions" from a picture's mean colour; random numbers are part of it."""

    def __init__(self, cfg):
        super().__init__()
        self.layer = nn.Linear(3, cfg.MODEL.ROI_HEADS.NUM_CLASSES)

    def forward(self, batch):
        means = torch.stack([s["image"].float().mean(dim=(1, 2)) for s in batch]) / 255
        scores = self.layer(means)
        if not self.training:
            return [{"score": score.sum()} for score in scores]
        return {"loss_a": (scores - torch.rand(())).square().mean(), "loss_b": scores.abs().mean()}


@pytest.fixture
def small_cfg(squares, tmp_path):
    """A config that trains ``BrightnessModel`` for six iterations in a moment."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "BrightnessModel"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = squares[:1], squares[1:]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (40, 48), 48
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_ITERS = 2, 0.1, 0
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.CHECKPOINT_PERIOD = 6, (4,), 3
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path / "output"), 3
    return cfg
