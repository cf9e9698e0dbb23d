"""Draws a dataset's annotations into a folder, to see whether they were read as they are meant."""

import os
from collections.abc import Sequence
from typing import Any

from retinue.data.detection_utils import read_image

__all__ = ["draw_dataset"]


def draw_dataset(dicts: Sequence[dict[str, Any]], metadata: Any, folder: str) -> None:
    """Write a picture of each image with its annotations into ``folder``."""
    from retinue.utils.visualizer import Visualizer

    os.makedirs(folder, exist_ok=True)
    for record in dicts:
        visualizer = Visualizer(read_image(record["file_name"], "RGB"), metadata=metadata)
        drawn = visualizer.draw_dataset_dict(record)
        drawn.save(os.path.join(folder, os.path.basename(record["file_name"])))
