"""Annotations and results in COCO's format, looked up by image and category."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Annotations"]


class Annotations:
    """What an evaluation needs of a COCO dataset; results may hold tensors and such.

    Args:
        dataset: with ``images``, ``annotations`` and ``categories``, kept as it is.
    """

    def __init__(self, dataset: dict[str, Any]) -> None:
        self.dataset = dataset
        self.createIndex()

    def createIndex(self) -> None:
        """Read ``dataset`` anew, after it was changed."""
        self.imgs = {image["id"]: image for image in self.dataset["images"]}
        self.cats = {cat["id"]: cat for cat in self.dataset.get("categories", ())}
        self.of: dict[tuple[Any, Any], list[dict[str, Any]]] = defaultdict(list)
        for row in self.dataset.get("annotations", ()):
            self.of[row["image_id"], row["category_id"]].append(row)

    def getImgIds(self) -> list[Any]:
        """Return the ids of all images."""
        return list(self.imgs)

    def getCatIds(self) -> list[Any]:
        """Return the ids of all categories."""
        return list(self.cats)

    def loadRes(self, results: Iterable[dict[str, Any]]) -> "Annotations":
        """Make results, with ``bbox``, comparable: they get numbers and the area of their box."""
        rows = [
            row | {"id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(results, start=1)
        ]
        return Annotations(self.dataset | {"annotations": rows})

    @staticmethod
    def wrap(coco: Any) -> "Annotations":
        """Take another program's COCO object by its ``dataset``."""
        return coco if isinstance(coco, Annotations) else Annotations(coco.dataset)

    def rows(self, image: Any, categories: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the annotations of an image in these categories."""
        return [row for category in categories for row in self.of.get((image, category), ())]
