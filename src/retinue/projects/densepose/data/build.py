"""Loaders: annotated datasets whose categories are chosen and merged, and bootstrapped ones.

Reading order: build_detection_train_loader; categories.py, which merges; then
build_inference_based_loaders.
"""

import logging
from collections import UserDict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import SequentialSampler

from retinue.config import CfgNode
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.build import build_detection_test_loader as base_build_detection_test_loader
from retinue.data.build import build_detection_train_loader as base_build_detection_train_loader
from retinue.data.build import trivial_batch_collator, worker_init_reset_seed
from retinue.data.dataset_dicts import (
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from retinue.data.samplers import TrainingSampler
from retinue.data.transport import WholeBatchLoader
from retinue.projects.densepose.config import get_bootstrap_dataset_config
from retinue.projects.densepose.data.categories import (
    merge_categories,
    set_category_metadata,
    write_merged_categories,
)
from retinue.projects.densepose.data.combined_loader import CombinedDataLoader, Loader
from retinue.projects.densepose.data.dataset_mapper import DatasetMapper
from retinue.projects.densepose.data.datasets.builtin import register_all
from retinue.projects.densepose.data.datasets.coco import (
    DENSEPOSE_CSE_KEYS_WITHOUT_MASK,
    DENSEPOSE_IUV_KEYS_WITHOUT_MASK,
)
from retinue.projects.densepose.data.datasets.dataset_type import DatasetType
from retinue.projects.densepose.data.inference_based_loader import (
    InferenceBasedLoader,
    ScoreBasedFilter,
)
from retinue.projects.densepose.data.samplers.densepose_confidence_based import (
    DensePoseConfidenceBasedSampler,
)
from retinue.projects.densepose.data.samplers.densepose_cse_confidence_based import (
    DensePoseCSEConfidenceBasedSampler,
)
from retinue.projects.densepose.data.samplers.densepose_cse_uniform import (
    DensePoseCSEUniformSampler,
)
from retinue.projects.densepose.data.samplers.densepose_uniform import DensePoseUniformSampler
from retinue.projects.densepose.data.samplers.mask_from_densepose import MaskFromDensePoseSampler
from retinue.projects.densepose.data.samplers.prediction_to_gt import (
    PredictionToGroundTruthSampler,
)
from retinue.projects.densepose.data.transform.image import ImageResizeTransform
from retinue.projects.densepose.data.utils import get_category_to_class_mapping
from retinue.projects.densepose.data.video.frame_selector import (
    FirstKFramesSelector,
    FrameSelectionStrategy,
    FrameSelector,
    LastKFramesSelector,
    RandomKFramesSelector,
)
from retinue.projects.densepose.data.video.video_keyframe_dataset import (
    VideoKeyframeDataset,
    video_list_from_file,
)
from retinue.projects.densepose.modeling.build import build_densepose_embedder
from retinue.utils import comm
from retinue.utils.env import datasets_root
from retinue.utils.errors import InputError, unknown_name

__all__ = [
    "BootstrapDatasetFactoryCatalog",
    "build_bootstrap_dataset",
    "build_combined_loader",
    "build_data_filter",
    "build_data_sampler",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_frame_selector",
    "build_inference_based_loader",
    "build_inference_based_loaders",
    "build_transform",
    "build_video_list_dataset",
    "combine_detection_dataset_dicts",
    "has_inference_based_loaders",
]

logger = logging.getLogger(__name__)
Instance = dict[str, Any]
InstancePredicate = Callable[[Instance], bool]

# -------------------------------------------------------------------------- annotated datasets


def build_detection_train_loader(cfg: CfgNode, mapper: Any = None) -> Any:
    """Build the endless loader of ``DATASETS.TRAIN``.

    Args:
        cfg: the model's.
        mapper: makes an example of a dataset dict; :class:`.DatasetMapper` by default.
    """
    register_all(datasets_root())
    set_category_metadata(cfg, cfg.DATASETS.TRAIN)
    records = combine_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        _keep_in_training(cfg),
        cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )
    build: Any = base_build_detection_train_loader
    return build(cfg, dataset=records, mapper=mapper or DatasetMapper(cfg, True))


def build_detection_test_loader(cfg: CfgNode, dataset_name: str, mapper: Any = None) -> Any:
    """Build the loader of a dataset to evaluate on, one image a batch.

    Args:
        cfg: the model's.
        dataset_name: a registered dataset.
        mapper: makes an example of a dataset dict; :class:`.DatasetMapper` by default.
    """
    register_all(datasets_root())
    set_category_metadata(cfg, [dataset_name])
    files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        number = list(cfg.DATASETS.TEST).index(dataset_name)
        files = [cfg.DATASETS.PROPOSAL_FILES_TEST[number]]
    keep = _has_objects if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else None
    records = combine_detection_dataset_dicts([dataset_name], keep, files)
    in_one_process = not cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE
    return base_build_detection_test_loader(
        records,
        mapper=mapper or DatasetMapper(cfg, False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        sampler=SequentialSampler(records) if in_one_process else None,
    )


def combine_detection_dataset_dicts(
    dataset_names: Collection[str],
    keep_instance_predicate: InstancePredicate | None = None,
    proposal_files: Collection[str] | None = None,
) -> list[Instance]:
    """Read datasets, number their categories together, and keep what is wanted.

    Args:
        dataset_names: registered datasets; the metadata says which categories are kept and merged.
        keep_instance_predicate: tells whether to keep a dataset dict.
        proposal_files: one for each dataset.

    Raises:
        InputError: If no dataset is named, one is empty, or there is not a file for each.
    """
    files = list(proposal_files) if proposal_files is not None else [None] * len(dataset_names)
    if not dataset_names or len(files) != len(dataset_names):
        raise InputError(
            "expected the names of datasets, and a proposal file for each or none; got"
            f" {list(dataset_names)} and {proposal_files}"
        )
    loaded = {name: DatasetCatalog.get(name) for name in dataset_names}
    for name, records in loaded.items():
        if not records:
            raise InputError(f"dataset {name!r} has no images")
    merged = merge_categories(dataset_names)
    write_merged_categories(merged)
    classes = [merged[category][0].mapped_name for category in sorted(merged)]
    combined: list[Instance] = []
    for (name, records), file in zip(loaded.items(), files, strict=True):
        records = load_proposals_into_dataset(records, file) if file is not None else records
        numbers = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
        for record in records:
            record["annotations"] = [
                row | {"category_id": numbers[row["category_id"]]}
                for row in record["annotations"]
                if row["category_id"] in numbers
            ]
        print_instances_class_histogram(records, classes)
        combined += records
    return [r for r in combined if keep_instance_predicate is None or keep_instance_predicate(r)]


def _has_objects(record: Instance) -> bool:
    return any(not row.get("iscrowd", 0) for row in record.get("annotations", ()))


def _keep_in_training(cfg: CfgNode) -> InstancePredicate:
    """Keep images with an object that one of the heads learns from."""
    wanted: list[InstancePredicate] = []
    num_keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    if cfg.MODEL.KEYPOINT_ON and num_keypoints:
        wanted.append(partial(_has_keypoints, num_keypoints))
    if cfg.MODEL.MASK_ON:
        wanted.append(partial(_has_all_keys, [["segmentation"]]))
    if cfg.MODEL.DENSEPOSE_ON:
        keys = [DENSEPOSE_IUV_KEYS_WITHOUT_MASK, DENSEPOSE_CSE_KEYS_WITHOUT_MASK]
        if cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS:
            keys.append(["segmentation"])
        wanted.append(partial(_has_all_keys, keys))
    drop_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS

    def keep(record: Instance) -> bool:
        if drop_empty and not _has_objects(record):
            return False
        return not wanted or any(test(record) for test in wanted)

    return keep


def _has_keypoints(count: int, record: Instance) -> bool:
    visible = [
        np.array(row["keypoints"][2::3]) > 0 for row in record["annotations"] if "keypoints" in row
    ]
    return sum(int(v.sum()) for v in visible) >= count


def _has_all_keys(kinds: Sequence[Sequence[str]], record: Instance) -> bool:
    """Tell whether an object has all keys of one kind of annotation."""
    rows = record["annotations"]
    return any(all(key in row for key in keys) for row in rows for keys in kinds)


# ------------------------------------------------------------------------ bootstrapped datasets


def has_inference_based_loaders(cfg: CfgNode) -> bool:
    """Tell whether the model is trained on another's predictions, too."""
    return len(cfg.BOOTSTRAP_DATASETS) > 0


def build_inference_based_loaders(
    cfg: CfgNode, model: nn.Module
) -> tuple[list[InferenceBasedLoader], list[float]]:
    """Build a loader for each of ``BOOTSTRAP_DATASETS``, and return their shares.

    Args:
        cfg: of the model that is trained.
        model: the one that predicts.
    """
    register_all(datasets_root())
    embedder = build_densepose_embedder(cfg)
    if embedder is not None:
        device: Any = model.device
        embedder = embedder.to(device)
    loaders, ratios = [], []
    for spec in cfg.BOOTSTRAP_DATASETS:
        dataset_cfg = get_bootstrap_dataset_config()
        dataset_cfg.merge_from_other_cfg(CfgNode(spec))
        loaders.append(build_inference_based_loader(cfg, dataset_cfg, model, embedder))
        ratios.append(dataset_cfg.RATIO)
    return loaders, ratios


def build_inference_based_loader(
    cfg: CfgNode, dataset_cfg: CfgNode, model: nn.Module, embedder: nn.Module | None = None
) -> InferenceBasedLoader:
    """Build the loader of one entry of ``BOOTSTRAP_DATASETS``.

    Args:
        cfg: of the model that is trained.
        dataset_cfg: the entry.
        model: the one that predicts.
        embedder: embeds the vertices of meshes, where that is wanted.
    """
    dataset = build_bootstrap_dataset(dataset_cfg.DATASET, dataset_cfg.IMAGE_LOADER)
    reading, inference = dataset_cfg.IMAGE_LOADER, dataset_cfg.INFERENCE
    images = WholeBatchLoader(
        dataset,
        batch_size=reading.BATCH_SIZE,
        sampler=TrainingSampler(len(dataset)),
        num_workers=reading.NUM_WORKERS,
        worker_init_fn=worker_init_reset_seed,
        collate_fn=trivial_batch_collator,
    )
    return InferenceBasedLoader(
        model,
        images,
        build_data_sampler(cfg, dataset_cfg.DATA_SAMPLER, embedder),
        build_data_filter(dataset_cfg.FILTER),
        batch_size=inference.OUTPUT_BATCH_SIZE,
        inference_batch_size=inference.INPUT_BATCH_SIZE,
        category_to_class_mapping=get_category_to_class_mapping(reading),
    )


def build_combined_loader(
    cfg: CfgNode, loaders: Collection[Loader], ratios: Sequence[float]
) -> CombinedDataLoader:
    """Build batches of this process's share of ``SOLVER.IMS_PER_BATCH``, drawn from loaders.

    Raises:
        InputError: If the processes can't share that number.
    """
    total, num_processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if total < num_processes or total % num_processes:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH must be a multiple of the {num_processes} processes; got {total}"
        )
    return CombinedDataLoader(loaders, total // num_processes, ratios)


def build_bootstrap_dataset(dataset_name: str, cfg: CfgNode) -> Any:
    """Build a dataset of images without annotations.

    Args:
        dataset_name: a registered dataset; its metadata says of which type it is.
        cfg: ``IMAGE_LOADER`` of an entry of ``BOOTSTRAP_DATASETS``.

    Raises:
        InputError: If there is nothing that builds its type, by this config.
    """
    metadata = MetadataCatalog.get(dataset_name)
    vars(metadata).update(
        category_to_class_mapping=get_category_to_class_mapping(cfg),
        categories=cfg.CATEGORIES,
        max_count_per_category=cfg.MAX_COUNT_PER_CATEGORY,
    )
    factory = BootstrapDatasetFactoryCatalog.get(metadata.dataset_type)
    dataset = factory(metadata, cfg) if factory is not None else None
    if dataset is None:
        raise InputError(
            f"BOOTSTRAP_DATASETS: nothing builds {dataset_name!r}, of type"
            f" {metadata.dataset_type}, with IMAGE_LOADER.TYPE {cfg.TYPE!r}; add it by"
            " BootstrapDatasetFactoryCatalog.register"
        )
    return dataset


def build_video_list_dataset(meta: Any, cfg: CfgNode) -> VideoKeyframeDataset | None:
    """Build the key frames of videos; None if ``cfg.TYPE`` is not ``"video_keyframe"``."""
    if cfg.TYPE != "video_keyframe":
        return None
    return VideoKeyframeDataset(
        video_list_from_file(meta.video_list_fpath, meta.video_base_path),
        meta.category,
        build_frame_selector(cfg.SELECT),
        build_transform(cfg.TRANSFORM, data_type="image"),
        cfg.get("KEYFRAME_HELPER", None),
    )


def build_frame_selector(cfg: CfgNode) -> FrameSelector | None:
    """Build what ``cfg.STRATEGY`` names; None for all frames.

    Raises:
        ValueError: If it is none of :class:`.FrameSelectionStrategy`.
    """
    kinds: dict[FrameSelectionStrategy, Callable[[int], FrameSelector]] = {
        FrameSelectionStrategy.RANDOM_K: RandomKFramesSelector,
        FrameSelectionStrategy.FIRST_K: FirstKFramesSelector,
        FrameSelectionStrategy.LAST_K: LastKFramesSelector,
    }
    strategy = FrameSelectionStrategy(cfg.STRATEGY)
    return kinds[strategy](cfg.NUM_IMAGES) if strategy in kinds else None


def build_transform(cfg: CfgNode, data_type: str) -> ImageResizeTransform:
    """Build what ``cfg.TYPE`` names; only ``"resize"`` of ``"image"`` is known.

    Raises:
        UnknownNameError: If it is another.
    """
    if (cfg.TYPE, data_type) != ("resize", "image"):
        raise unknown_name("transform", f"{cfg.TYPE} of {data_type}", ["resize of image"])
    return ImageResizeTransform(cfg.MIN_SIZE, cfg.MAX_SIZE)


def build_data_sampler(
    cfg: CfgNode, sampler_cfg: CfgNode, embedder: nn.Module | None
) -> PredictionToGroundTruthSampler:
    """Build what makes ground truth of predictions.

    Args:
        cfg: the model's.
        sampler_cfg: ``DATA_SAMPLER`` of an entry of ``BOOTSTRAP_DATASETS``.
        embedder: needed where TYPE begins with ``densepose_cse``.

    Raises:
        UnknownNameError: If its TYPE is not known.
    """
    count = sampler_cfg.COUNT_PER_CLASS
    cse = {
        "cfg": cfg,
        "use_gt_categories": sampler_cfg.USE_GROUND_TRUTH_CATEGORIES,
        "embedder": embedder,
        "count_per_class": count,
    }
    by_confidence = partial(
        DensePoseConfidenceBasedSampler, count_per_class=count, search_proportion=0.5
    )
    kinds: dict[str, Callable[[], Any]] = {
        "densepose_uniform": partial(DensePoseUniformSampler, count),
        "densepose_UV_confidence": partial(by_confidence, "sigma_2"),
        "densepose_fine_segm_confidence": partial(by_confidence, "fine_segm_confidence"),
        "densepose_coarse_segm_confidence": partial(by_confidence, "coarse_segm_confidence"),
        "densepose_cse_uniform": partial(DensePoseCSEUniformSampler, **cse),
        "densepose_cse_coarse_segm_confidence": partial(
            DensePoseCSEConfidenceBasedSampler,
            **cse,
            confidence_channel="coarse_segm_confidence",
            search_proportion=0.5,
        ),
    }
    if sampler_cfg.TYPE not in kinds:
        raise unknown_name("DATA_SAMPLER.TYPE", sampler_cfg.TYPE, kinds)
    sampler = PredictionToGroundTruthSampler()
    sampler.register_sampler("pred_densepose", "gt_densepose", kinds[sampler_cfg.TYPE]())
    sampler.register_sampler("pred_densepose", "gt_masks", MaskFromDensePoseSampler())
    return sampler


def build_data_filter(cfg: CfgNode) -> ScoreBasedFilter:
    """Build what chooses among predictions; only ``"detection_score"`` is known.

    Raises:
        UnknownNameError: If ``cfg.TYPE`` is another.
    """
    if cfg.TYPE != "detection_score":
        raise unknown_name("FILTER.TYPE", cfg.TYPE, ["detection_score"])
    return ScoreBasedFilter(cfg.MIN_VALUE)


class _BootstrapDatasetFactoryCatalog(UserDict[DatasetType, Callable[[Any, CfgNode], Any]]):
    """Functions that build a dataset of a type from its metadata and ``IMAGE_LOADER``."""

    def register(self, dataset_type: DatasetType, factory: Callable[[Any, CfgNode], Any]) -> None:
        """Add a function for a type.

        Raises:
            InputError: If the type has one.
        """
        if dataset_type in self:
            raise InputError(f"bootstrap datasets: {dataset_type} is registered already")
        self[dataset_type] = factory


BootstrapDatasetFactoryCatalog = _BootstrapDatasetFactoryCatalog(
    {DatasetType.VIDEO_LIST: build_video_list_dataset}
)
