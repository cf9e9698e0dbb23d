"""Training and evaluating DensePose.

Reading order: Trainer; SampleCountingLoader says where the examples of a batch come from.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.config import CfgNode
from retinue.engine import DefaultTrainer
from retinue.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from retinue.modeling.meta_arch.build import usable_device
from retinue.projects.densepose.data.build import (
    build_combined_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    build_inference_based_loaders,
    has_inference_based_loaders,
)
from retinue.projects.densepose.data.dataset_mapper import DatasetMapper
from retinue.projects.densepose.data.datasets.builtin import register_all
from retinue.projects.densepose.evaluation.d2_evaluator_adapter import (
    Detectron2COCOEvaluatorAdapter,
)
from retinue.projects.densepose.evaluation.evaluator import (
    DensePoseCOCOEvaluator,
    build_densepose_evaluator_storage,
)
from retinue.projects.densepose.modeling.cse.embedder import Embedder
from retinue.projects.densepose.modeling.test_time_augmentation import (
    DensePoseDatasetMapperTTA,
    DensePoseGeneralizedRCNNWithTTA,
)
from retinue.projects.densepose.utils.transform import load_from_cfg
from retinue.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from retinue.utils import comm
from retinue.utils.env import datasets_root
from retinue.utils.errors import InputError
from retinue.utils.events import EventWriter, get_event_storage, log_scalars

__all__ = ["SampleCountMetricPrinter", "SampleCountingLoader", "Trainer"]

logger = logging.getLogger(__name__)


class SampleCountingLoader:
    """Reports how many instances of a batch come from which dataset, as ``batch/<dataset>``.

    Args:
        loader: gives batches of dicts with ``dataset`` and ``instances``.
    """

    def __init__(self, loader: Iterable[list[dict[str, Any]]]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self.loader:
            counts: Counter[str] = Counter()
            for example in batch:
                counts[f"batch/{example['dataset']}"] += len(example["instances"])
            log_scalars({name: float(count) for name, count in counts.items()})
            yield batch


class SampleCountMetricPrinter(EventWriter):
    """Writes to the log what :class:`SampleCountingLoader` reports."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(__name__)

    def write(self) -> None:
        """Write the mean of the last 20 batches."""
        histories = get_event_storage().histories()
        parts = [
            f"{name} {values.avg(20)}"
            for name, values in histories.items()
            if name.startswith("batch/")
        ]
        if parts:
            self.logger.info(", ".join(parts))


class Trainer(DefaultTrainer):
    """Trains on annotated and bootstrapped data; evaluates boxes, masks and correspondences.

    Args:
        cfg: the model's, with DensePose's keys.
    """

    def __init__(self, cfg: CfgNode) -> None:
        register_all(datasets_root())
        super().__init__(cfg)

    @classmethod
    def extract_embedder_from_model(cls, model: nn.Module) -> Embedder | None:
        """Return the embedder of a model; None if it has none."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        return getattr(getattr(model, "roi_heads", None), "embedder", None)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on ``cfg.DATASETS.TEST``; see :meth:`DefaultTrainer.test`."""
        register_all(datasets_root())
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        names = list(cfg.DATASETS.TEST)
        if evaluators is not None and len(evaluators) != len(names):
            raise InputError(
                f"Trainer.test: expected an evaluator for each of DATASETS.TEST, {names}; got"
                f" {len(evaluators)}"
            )
        results: dict[str, Any] = {}
        takes_part = cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE or comm.is_main_process()
        for number, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            if evaluators is None:
                embedder = cls.extract_embedder_from_model(model)
                evaluator: Any = cls.build_evaluator(cfg, name, embedder=embedder)
            else:
                evaluator = evaluators[number]
            results[name] = inference_on_dataset(model, loader, evaluator) if takes_part else {}
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @classmethod
    def build_evaluator(
        cls,
        cfg: CfgNode,
        dataset_name: str,
        output_folder: str | None = None,
        embedder: Embedder | None = None,
    ) -> DatasetEvaluators:
        """Build the evaluators of a dataset; its test loader has to be built before.

        Args:
            cfg: the model's.
            dataset_name: a registered dataset.
            output_folder: where files go.
            embedder: embeds the vertices of meshes.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        keys = cfg.DENSEPOSE_EVALUATION
        evaluators: list[DatasetEvaluator] = [
            Detectron2COCOEvaluatorAdapter(
                dataset_name, output_dir=folder, distributed=keys.DISTRIBUTED_INFERENCE
            )
        ]
        if cfg.MODEL.DENSEPOSE_ON:
            evaluators.append(
                DensePoseCOCOEvaluator(
                    dataset_name,
                    keys.DISTRIBUTED_INFERENCE,
                    folder,
                    evaluator_type=keys.TYPE,
                    min_iou_threshold=keys.MIN_IOU_THRESHOLD,
                    storage=build_densepose_evaluator_storage(cfg, folder),
                    embedder=embedder,
                    should_evaluate_mesh_alignment=keys.EVALUATE_MESH_ALIGNMENT,
                    mesh_alignment_mesh_names=keys.MESH_ALIGNMENT_MESH_NAMES,
                )
            )
        return DatasetEvaluators(evaluators)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build SGD; features and embeddings of meshes have learning rates of their own."""
        solver, cse = cfg.SOLVER, cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
            overrides={
                "features": {"lr": solver.BASE_LR * cse.FEATURES_LR_FACTOR},
                "embeddings": {"lr": solver.BASE_LR * cse.EMBEDDING_LR_FACTOR},
            },
        )
        sgd = torch.optim.SGD(
            groups,
            solver.BASE_LR,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
            weight_decay=solver.WEIGHT_DECAY,
        )
        return maybe_add_gradient_clipping(cfg, sgd)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """Build the loader of a dataset to evaluate on."""
        loader: Iterable[Any] = build_detection_test_loader(cfg, dataset_name)
        return loader

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the training loader; with ``BOOTSTRAP_DATASETS``, of examples made by a model."""
        loader: Iterable[Any] = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, True))
        if not has_inference_based_loaders(cfg):
            return loader
        model = cls.build_model(cfg).to(usable_device(cfg.BOOTSTRAP_MODEL.DEVICE))
        DetectionCheckpointer(model).resume_or_load(cfg.BOOTSTRAP_MODEL.WEIGHTS, resume=False)
        made, ratios = build_inference_based_loaders(cfg, model)
        return SampleCountingLoader(build_combined_loader(cfg, [loader, *made], [1.0, *ratios]))

    def build_writers(self) -> list[EventWriter]:
        """Build the usual writers, and one for the sources of batches."""
        return [*super().build_writers(), SampleCountMetricPrinter()]

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate a model with test-time augmentation; names of results end in ``_TTA``."""
        wrapped = DensePoseGeneralizedRCNNWithTTA(
            cfg, model, load_from_cfg(cfg), DensePoseDatasetMapperTTA(cfg)
        )
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        for name in cfg.DATASETS.TEST:
            cls.build_test_loader(cfg, name)  # numbers the categories, which evaluators want
        evaluators = [cls.build_evaluator(cfg, n, output_folder=folder) for n in cfg.DATASETS.TEST]
        results = cls.test(cfg, wrapped, evaluators)
        return {f"{name}_TTA": values for name, values in results.items()}
