"""Training and evaluating Mesh R-CNN on datasets in the form of Pix3D."""

import os
from collections.abc import Iterable
from typing import Any

from retinue.config import CfgNode
from retinue.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from retinue.engine.runs import Trainer as _Trainer
from retinue.projects.meshrcnn.data import MeshRCNNMapper
from retinue.projects.meshrcnn.data.datasets import register_all_pix3d
from retinue.projects.meshrcnn.evaluation import Pix3DEvaluator
from retinue.utils.errors import unknown_name

__all__ = ["Trainer"]


class Trainer(_Trainer):
    """Trains on pictures with meshes and voxels, and judges meshes."""

    def __init__(self, cfg: CfgNode) -> None:
        register_all_pix3d()
        super().__init__(cfg)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> Any:
        """Make the evaluator.

        Raises:
            UnknownNameError: (a ``KeyError``) If the dataset's form is another than Pix3D's.
        """
        kind = MetadataCatalog.get(dataset_name).evaluator_type
        if kind != "pix3d":
            raise unknown_name(f"evaluator_type of {dataset_name!r}", kind, ["pix3d"])
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        return Pix3DEvaluator(dataset_name, cfg, output_dir=folder)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader."""
        mapper: Any = MeshRCNNMapper  # configurable: takes a config, too
        build: Any = build_detection_train_loader
        return build(cfg, mapper=mapper(cfg, True, dataset_names=cfg.DATASETS.TRAIN))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Build the loader of a dataset to evaluate on."""
        mapper: Any = MeshRCNNMapper
        build: Any = build_detection_test_loader
        return build(cfg, dataset_name, mapper=mapper(cfg, False, dataset_names=(dataset_name,)))

    @classmethod
    def test(cls, cfg: CfgNode, model: Any, evaluators: Any = None) -> Any:
        """Evaluate on each dataset of ``DATASETS.TEST``."""
        register_all_pix3d()  # reached without an instance, too, when only evaluating
        return super().test(cfg, model, evaluators)
