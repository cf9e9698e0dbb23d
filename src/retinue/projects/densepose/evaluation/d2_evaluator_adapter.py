"""COCO's metrics of boxes and masks for datasets whose categories are chosen or merged."""

from typing import Any

import hotcoco

from retinue.data.catalog import Metadata
from retinue.evaluation import COCOEvaluator
from retinue.projects.densepose.data.datasets.coco import (
    get_contiguous_id_to_category_id_map,
    maybe_filter_categories_cocoapi,
)
from retinue.projects.densepose.evaluation.annotations import Annotations

__all__ = ["Detectron2COCOEvaluatorAdapter"]


class Detectron2COCOEvaluatorAdapter(COCOEvaluator):
    """:class:`COCOEvaluator` that sees the categories as the model does.

    Args:
        dataset_name: a registered dataset, whose loader was built already.
        output_dir: where files go.
        distributed: gather the results of all processes.
    """

    _metadata: Metadata
    _coco_api: hotcoco.COCO

    def __init__(
        self, dataset_name: str, output_dir: str | None = None, distributed: bool = True
    ) -> None:
        super().__init__(dataset_name, output_dir=output_dir, distributed=distributed)
        if hasattr(self._metadata, "thing_dataset_id_to_contiguous_id"):
            annotations = Annotations(self._coco_api.dataset)
            maybe_filter_categories_cocoapi(dataset_name, annotations)
            rows = [{"iscrowd": 0, **row} for row in annotations.dataset["annotations"]]
            self._coco_api = hotcoco.COCO(annotations.dataset | {"annotations": rows})
            self._maybe_substitute_metadata()
            self.reset()

    def _maybe_substitute_metadata(self) -> None:
        """Let one category stand for all that were merged into a class."""
        back = get_contiguous_id_to_category_id_map(self._metadata)
        values: dict[str, Any] = self._metadata.as_dict()
        key = "thing_dataset_id_to_contiguous_id"
        values[key] = {category: number for number, category in back.items()}
        values.pop("name", None)
        self._metadata = Metadata(name=self._metadata.name).set(**values)
