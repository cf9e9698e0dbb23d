"""Examples that a model makes of images without annotations: its predictions are the truth.

Sanakoyeu et al., "Transferring Dense Pose to Proximal Animal Classes" (2020), section 4.3,
https://arxiv.org/abs/2003.00080.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["InferenceBasedLoader", "ModelOutput", "SampledData", "ScoreBasedFilter"]

SampledData = Any
ModelOutput = Any

logger = logging.getLogger(__name__)

MAX_FRUITLESS = 100  # images without an example at the beginning, then the log says so


class ScoreBasedFilter:
    """Keeps detections with a score of at least ``min_score``."""

    def __init__(self, min_score: float = 0.8) -> None:
        self.min_score = min_score

    def __call__(self, model_output: ModelOutput) -> ModelOutput:
        """Filter ``instances`` of each output, in place; those without scores stay."""
        for output in model_output:
            instances = output["instances"]
            if instances.has("scores"):
                output["instances"] = instances[instances.scores >= self.min_score]
        return model_output


class InferenceBasedLoader:
    """Batches of images with what a model found on them.

    Args:
        model: predicts; is put into evaluation mode.
        data_loader: gives lists of dicts with ``images`` ``(N, 3, H, W)`` and N ``categories``.
        data_sampler: makes ground truth out of the model's outputs.
        data_filter: chooses among them before.
        shuffle: mix the images of a list.
        batch_size: examples of a batch.
        inference_batch_size: images that the model sees at once.
        drop_last: leave out what does not fill a batch.
        category_to_class_mapping: class of each category; 0 for others.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        data_sampler: Callable[[ModelOutput], list[SampledData]] | None = None,
        data_filter: Callable[[ModelOutput], ModelOutput] | None = None,
        shuffle: bool = True,
        batch_size: int = 4,
        inference_batch_size: int = 4,
        drop_last: bool = False,
        category_to_class_mapping: Mapping[str, int] | None = None,
    ) -> None:
        self.model = model.eval()
        self.data_loader = data_loader
        self.data_sampler = data_sampler
        self.data_filter = data_filter
        self.shuffle = shuffle
        self.batch_size = batch_size
        self.inference_batch_size = inference_batch_size
        self.drop_last = drop_last
        self.category_to_class_mapping = category_to_class_mapping or {}

    def __iter__(self) -> Iterator[list[SampledData]]:
        num_images = num_batches = 0
        for elements in self.data_loader:
            images = [
                {"image": image, "category": category}
                for element in elements
                for image, category in _pairs(element)
            ]
            if self.shuffle:
                random.shuffle(images)
            for batch in self._produce_data(images):
                num_batches += 1
                yield batch
            before, num_images = num_images, num_images + len(images)
            if not num_batches and before < MAX_FRUITLESS <= num_images:
                logger.warning(
                    "The bootstrap model found nothing to learn from on the first %d images, so"
                    " training waits: are BOOTSTRAP_MODEL.WEIGHTS those of a trained model, and"
                    " FILTER.MIN_VALUE of BOOTSTRAP_DATASETS below its scores?",
                    num_images,
                )

    def _produce_data(
        self, images_and_categories: Sequence[dict[str, Any]]
    ) -> Iterator[list[SampledData]]:
        """Make batches out of images; those on which nothing is found give no example."""
        waiting: list[SampledData] = []
        for start in range(0, len(images_and_categories), self.inference_batch_size):
            images = images_and_categories[start : start + self.inference_batch_size]
            found = self._predict(images)
            found = self.data_filter(found) if self.data_filter else found
            found = self.data_sampler(found) if self.data_sampler else found
            waiting += [example for example in found if len(example["instances"])]
            while len(waiting) >= self.batch_size:
                yield waiting[: self.batch_size]
                waiting = waiting[self.batch_size :]
        if waiting and not self.drop_last:
            yield waiting

    @torch.no_grad()
    def _predict(self, images: Sequence[dict[str, Any]]) -> ModelOutput:
        device: Any = self.model.device
        inputs = [item | {"image": item["image"].to(device)} for item in images]
        outputs = self.model(inputs)
        for item, output in zip(inputs, outputs, strict=True):
            output["image"] = item["image"]
            number = self.category_to_class_mapping.get(item["category"], 0)
            instances = output["instances"]
            instances.dataset_classes = torch.full((len(instances),), number)
        return outputs


def _pairs(element: dict[str, Any]) -> Iterator[tuple[torch.Tensor, Any]]:
    """Pair images with categories; a single one is that of all images, as of a video's frames."""
    images, categories = element["images"], element["categories"]
    if len(categories) == 1:
        categories = list(categories) * len(images)
    yield from zip(images, categories, strict=True)
