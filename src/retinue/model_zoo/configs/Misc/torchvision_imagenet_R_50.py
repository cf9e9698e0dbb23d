"""A classifier of torchvision, trained on ImageNet by this library's loop; needs torchvision.

An example of another task without a project: what the loop calls (a model that returns its loss,
an iterable of batches, an evaluator) is defined in the config itself.
Set ``dataloader.train.dataset.root`` to the folder of ImageNet.
"""

from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, Dataset

from retinue.config import LazyCall as L
from retinue.data.samplers import InferenceSampler, TrainingSampler
from retinue.evaluation import DatasetEvaluator
from retinue.solver import WarmupParamScheduler
from retinue.solver.build import get_default_optimizer_params
from retinue.solver.param_scheduler import MultiStepParamScheduler
from retinue.utils import comm

from ..common.train import train

try:
    from torchvision import datasets
    from torchvision.models import resnet
    from torchvision.transforms import transforms as T
except ImportError as error:
    raise ImportError("this config needs torchvision: pip install torchvision") from error

NUM_IMAGES, EPOCHS, BATCH, DEVICES = 1_281_167, 100, 256, 8


def build_data_loader(
    dataset: Dataset, batch_size: int, num_workers: int, training: bool = True
) -> DataLoader:
    """Return batches of (images, labels): without end for training, each image once for tests."""
    kind = TrainingSampler if training else InferenceSampler
    return DataLoader(
        dataset, batch_size, sampler=kind(len(dataset)), num_workers=num_workers, pin_memory=True
    )


class ClassificationNet(nn.Module):
    """Returns the loss in training, else ``(N, C)`` scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, labels = inputs
        scores = self.model(images.to(self.device))
        if not self.training:
            return scores
        return nn.functional.cross_entropy(scores, labels.to(self.device))


class ClassificationAcc(DatasetEvaluator):
    """The share of images whose best score is their label's."""

    def reset(self) -> None:
        self.num_right = self.num_images = 0

    def process(self, inputs: Any, outputs: torch.Tensor) -> None:
        labels = inputs[1]
        self.num_right += int((outputs.argmax(dim=1).cpu() == labels.cpu()).sum())
        self.num_images += len(labels)

    def evaluate(self) -> dict[str, float]:
        shards = comm.all_gather((self.num_right, self.num_images))
        num_right, num_images = map(sum, zip(*shards, strict=True))
        return {"accuracy": num_right / num_images}


def _images(root: str, split: str, *augmentations: Any) -> Any:
    steps = [
        *augmentations,
        T.ToTensor(),
        L(T.Normalize)(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]
    return L(datasets.ImageNet)(root=root, split=split, transform=L(T.Compose)(transforms=steps))


_loading = {"batch_size": BATCH // DEVICES, "num_workers": 4}

dataloader = OmegaConf.create()
dataloader.train = L(build_data_loader)(
    dataset=_images(
        "/path/to/imagenet",
        "train",
        L(T.RandomResizedCrop)(size=224),
        L(T.RandomHorizontalFlip)(),
    ),
    training=True,
    **_loading,
)
dataloader.test = L(build_data_loader)(
    dataset=_images(
        "${...train.dataset.root}", "val", L(T.Resize)(size=256), L(T.CenterCrop)(size=224)
    ),
    training=False,
    **_loading,
)
dataloader.evaluator = L(ClassificationAcc)()

model = L(ClassificationNet)(
    model=resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], zero_init_residual=True)
)
optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(), lr=0.1, momentum=0.9, weight_decay=1e-4
)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01, 0.001], milestones=[30, 60, 90, 100]
    ),
    warmup_length=0.01,
    warmup_factor=0.1,
)

train["init_checkpoint"] = None
train["max_iter"] = EPOCHS * NUM_IMAGES // BATCH
