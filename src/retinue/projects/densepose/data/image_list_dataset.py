"""Images from a list of files."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from retinue.data.detection_utils import read_image
from retinue.utils.errors import InputError

__all__ = ["ImageListDataset", "ImageTransform", "one_category_each"]

ImageTransform = Callable[[torch.Tensor], torch.Tensor]
logger = logging.getLogger(__name__)


def one_category_each(files: Sequence[str], categories: str | list[str] | None) -> list[str | None]:
    """Return a category for each file, given one for all or a list.

    Raises:
        InputError: If a list has another length.
    """
    found = categories if isinstance(categories, list) else [categories] * len(files)
    if len(found) != len(files):
        raise InputError(f"expected a category for each of {len(files)} files; got {len(found)}")
    return list(found)


class ImageListDataset(Dataset[dict[str, Any]]):
    """A batch of one image for each file.

    Args:
        image_list: paths.
        category_list: what each image shows, or all of them.
        transform: of ``(1, 3, H, W)`` BGR.

    Raises:
        InputError: If there are not as many categories as images.
    """

    def __init__(
        self,
        image_list: list[str],
        category_list: str | list[str] | None = None,
        transform: ImageTransform | None = None,
    ) -> None:
        self.category_list = one_category_each(image_list, category_list)
        self.image_list = image_list
        self.transform = transform

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Return ``images`` ``(1, 3, H, W)`` float32 BGR, and ``categories``, one.

        A file that can't be read is logged, and gives no image and no category.
        """
        path = self.image_list[idx]
        try:
            pixels = np.ascontiguousarray(read_image(path, format="BGR"))
        except (OSError, RuntimeError) as error:
            logger.warning("%s is left out: %s", path, error)
            return {"images": torch.zeros(0, 3, 1, 1), "categories": []}
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        if self.transform is not None:
            images = self.transform(images)
        return {"images": images, "categories": [self.category_list[idx]]}

    def __len__(self) -> int:
        return len(self.image_list)
