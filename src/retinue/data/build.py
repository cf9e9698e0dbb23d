"""From the names of datasets to batches for training and inference.

Resuming: a training loader is an endless stream. To go on after ``k`` iterations, the engine
builds it with ``first_sample = k * total_batch_size``; order, batches and, if a seed is set, the
augmentation of each image are then those of a run that never stopped.

Reading order: ``dataset_dicts``; build_detection_train_loader and what its config
means; build_batch_data_loader; build_detection_test_loader.
"""

from __future__ import annotations

import functools
import logging
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from retinue.config import configurable
from retinue.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
    aspect_ratio_group,
)
from retinue.data.dataset_dicts import (  # noqa: F401 - detectron2 has them here
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from retinue.data.dataset_mapper import DatasetMapper
from retinue.data.resume import StreamStart, default_first_sample, stream_start
from retinue.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from retinue.data.transport import WholeBatchLoader
from retinue.utils.comm import get_world_size
from retinue.utils.env import seed_all_rng
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.logger import _log_api_usage

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)


def build_batch_data_loader(
    dataset: Dataset[Any],
    sampler: Sampler[int] | None,
    total_batch_size: int,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    first_sample: int = 0,
    group_of: Callable[[int], int] | None = None,
    **kwargs: Any,
) -> Any:
    """Make batches of a dataset. The order of samples doesn't depend on ``num_workers``.

    Args:
        dataset: with indices, or a stream.
        sampler: gives the indices; None for a stream.
        total_batch_size: samples in a batch, all processes together.
        aspect_ratio_grouping: keep wide and high images in batches of their own; samples are
            dicts with ``width`` and ``height``.
        num_workers: processes that read; 0 reads in this one.
        collate_fn: makes a batch from a list of samples; None keeps the list.
        drop_last: leave out a last batch that isn't full.
        single_gpu_batch_size: samples of this process in a batch, instead of the total.
        prefetch_factor: batches that each worker reads ahead; with grouping, samples, and always
            enough for a batch.
        persistent_workers: keep workers for the next pass.
        pin_memory: copy tensors into pinned memory.
        seed: make augmentation depend on this and the sample's position in the stream alone.
        first_sample: samples, of all processes together, that earlier batches took. The stream
            goes on behind them; no image is read for that.
        group_of: index -> group of the sample; what grouping needs to skip ``first_sample``.
        kwargs: for ``torch.utils.data.DataLoader``.

    Returns:
        An iterable of batches.

    Raises:
        ValueError: If both batch sizes are given.
        InputError: (an ``AssertionError``) If the batch can't be split between the processes, or
            other arguments don't go together.
    """
    batch_size = _own_batch_size(total_batch_size, single_gpu_batch_size)
    if aspect_ratio_grouping and not drop_last:
        raise InputError("build_batch_data_loader: aspect_ratio_grouping needs drop_last=True")
    num_batches = first_sample // (batch_size * get_world_size())
    if isinstance(dataset, IterableDataset):
        if sampler is not None:
            raise InputError("build_batch_data_loader: a stream takes no sampler; pass None")
        if num_batches:
            logger.warning("A stream can't be entered in the middle; it starts from its beginning")
    else:
        start = StreamStart()
        if num_batches:
            if aspect_ratio_grouping and group_of is None:
                logger.warning(
                    "The samples' width and height are unknown before they are read, so batches"
                    " after resuming may be composed otherwise"
                )
            groups = group_of if aspect_ratio_grouping else None
            indices = () if sampler is None else sampler
            start = stream_start(indices, batch_size, num_batches, groups)
            logger.info("Going on behind the first %d samples of the data", first_sample)
        dataset = ToIterableDataset(
            dataset,
            sampler,  # type: ignore[arg-type]
            shard_chunk_size=1 if aspect_ratio_grouping else batch_size,
            first=start.first,
            pending=start.pending,
            seed=seed,
        )

    logger.info("Making batched data loader with batch_size=%d", batch_size)
    if num_workers > 0 and aspect_ratio_grouping:  # workers send sample by sample
        prefetch_factor = max(prefetch_factor or 2, 1 + math.ceil(batch_size / num_workers))
    load = functools.partial(
        WholeBatchLoader,
        dataset,
        num_workers=num_workers,
        worker_init_fn=worker_init_reset_seed,
        prefetch_factor=prefetch_factor if num_workers > 0 else None,
        persistent_workers=persistent_workers and num_workers > 0,
        pin_memory=pin_memory,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
        **kwargs,
    )
    if not aspect_ratio_grouping:
        return load(
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=collate_fn or trivial_batch_collator,
        )
    singles = load(collate_fn=operator.itemgetter(0))
    batches = AspectRatioGroupedDataset(singles, batch_size)
    return batches if collate_fn is None else MapDataset(batches, collate_fn)


def _own_batch_size(total: int, single: int | None) -> int:
    """Return how many samples of a batch this process gets."""
    if single:
        if total:
            raise InputError(
                "build_batch_data_loader: give total_batch_size or single_gpu_batch_size;"
                f" got both, {total} and {single}"
            )
        return single
    world_size = get_world_size()
    if total <= 0 or total % world_size:
        raise InputError(
            f"Total batch size {total} must be a positive multiple of the {world_size} processes;"
            " set SOLVER.IMS_PER_BATCH"
        )
    return total // world_size


def _get_train_datasets_repeat_factors(cfg: Any) -> dict[str, float]:
    """Return dataset -> how often its images come in a round; 1 where the config says nothing."""
    pairs = cfg.DATASETS.TRAIN_REPEAT_FACTOR
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise InputError(
                f"DATASETS.TRAIN_REPEAT_FACTOR: needs pairs (dataset, factor); got {pair!r}"
            )
        if pair[0] not in cfg.DATASETS.TRAIN:
            names = cfg.DATASETS.TRAIN
            raise InputError(
                str(unknown_name("dataset in DATASETS.TRAIN_REPEAT_FACTOR", pair[0], names))
            )
    return dict.fromkeys(cfg.DATASETS.TRAIN, 1.0) | dict(pairs)


def _build_weighted_sampler(cfg: Any, enable_category_balance: bool = False) -> Any:
    """Make a sampler that repeats datasets as the config says and, if asked, rare classes."""
    factor_of = _get_train_datasets_repeat_factors(cfg)
    datasets = [_train_dicts(cfg, [name]) for name in cfg.DATASETS.TRAIN]
    factors = torch.cat(
        [
            torch.full((len(dicts),), float(factor_of[name]))
            for name, dicts in zip(cfg.DATASETS.TRAIN, datasets, strict=True)
        ]
    )
    if enable_category_balance:
        by_class = [
            RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
                dicts, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
            )
            for dicts in datasets
        ]
        factors = factors * torch.cat(by_class)
        factors = factors / factors.min()
    logger.info("Datasets are repeated: %s", factor_of)
    return RepeatFactorTrainingSampler(factors, seed=_seed_or_none(cfg))


def _seed_or_none(cfg: Any) -> int | None:
    return cfg.SEED if cfg.SEED >= 0 else None


def _train_dicts(cfg: Any, names: Sequence[str]) -> Any:
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    files = dict(zip(cfg.DATASETS.TRAIN, cfg.DATASETS.PROPOSAL_FILES_TRAIN, strict=False))
    return get_detection_dataset_dicts(
        names,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
        proposal_files=_proposal_files(files, names) if cfg.MODEL.LOAD_PROPOSALS else None,
    )


def _proposal_files(files: dict[str, str], names: Sequence[str]) -> list[str]:
    missing = [name for name in names if name not in files]
    if missing:
        raise InputError(
            f"MODEL.LOAD_PROPOSALS: no proposal file for dataset {missing[0]!r}; name one a dataset"
            " in DATASETS.PROPOSAL_FILES_TRAIN and DATASETS.PROPOSAL_FILES_TEST"
        )
    return [files[name] for name in names]


def _build_train_sampler(cfg: Any, dataset: Any) -> Any:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info("Using training sampler %s", name)
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO")
        if ratio is None:
            raise InputError(
                "RandomSubsetTrainingSampler needs DATALOADER.RANDOM_SUBSET_RATIO, the part of the"
                " data to use, in (0, 1]; no config has it by default: add the key in Python"
            )
        seed = _seed_or_none(cfg)
        return RandomSubsetTrainingSampler(len(dataset), ratio, seed_shuffle=seed, seed_subset=seed)
    if name == "WeightedTrainingSampler":
        return _build_weighted_sampler(cfg)
    if name == "WeightedCategoryTrainingSampler":
        return _build_weighted_sampler(cfg, enable_category_balance=True)
    known = ["TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"]
    known += ["WeightedTrainingSampler", "WeightedCategoryTrainingSampler"]
    raise unknown_name("value of DATALOADER.SAMPLER_TRAIN", name, known)


def _train_loader_from_config(
    cfg: Any, mapper: Any = None, *, dataset: Any = None, sampler: Any = None
) -> dict[str, Any]:
    if dataset is None:
        names = expect_dataset_names(cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
        dataset = _train_dicts(cfg, names)
        _log_api_usage("dataset." + names[0])
    if mapper is None:
        mapper = DatasetMapper(cfg, True)  # type: ignore[arg-type,call-arg]
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = _build_train_sampler(cfg, dataset)
    seed = _seed_or_none(cfg)
    return {
        "dataset": dataset,
        "mapper": mapper,
        "sampler": sampler,
        **({} if seed is None else {"seed": seed}),  # others' loaders, built so, don't know it
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    }


def expect_dataset_names(names: Any, key: str) -> list[str]:
    """Return the names that config key ``key`` holds, as a list.

    Raises:
        InputError: If it holds a string, which is what ``("name")`` without a comma is.
    """
    if isinstance(names, str):
        raise InputError(f"{key} must be a tuple of names; got {names!r}; write ({names!r},)")
    return list(names)


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict[str, Any]], Any] | None,
    sampler: Sampler[int] | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    first_sample: int = 0,
    **kwargs: Any,
) -> Any:
    """Make an endless stream of training batches.

    From a config: ``build_detection_train_loader(cfg)``, where any argument may be given, too.

    Args:
        dataset: a list of dataset dicts, or a dataset of them.
        mapper: sample -> model input, or None to drop the sample; such as a ``DatasetMapper``.
        sampler: order of the samples; a ``TrainingSampler`` if None; none for a stream.
        total_batch_size: see ``build_batch_data_loader``, for the following ones, too.
        aspect_ratio_grouping: keep wide and high images in batches of their own.
        num_workers: processes that read.
        collate_fn: makes a batch from a list of samples.
        first_sample: how many samples earlier iterations took: ``iteration * total_batch_size``.
        kwargs: for ``build_batch_data_loader``, such as ``seed``.

    Returns:
        An iterable of batches: lists of mapped samples, this process's share of the total.

    Raises:
        InputError: (an ``AssertionError``) If ``sampler`` is none, or is given for a stream.
    """
    first_sample = first_sample or default_first_sample()
    group_of = _aspect_ratio_groups(dataset) if aspect_ratio_grouping and first_sample else None
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if not isinstance(dataset, IterableDataset):
        sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        if not isinstance(sampler, Sampler):
            raise InputError(
                "build_detection_train_loader: sampler must be a torch.utils.data.Sampler;"
                f" got {type(sampler).__name__}"
            )
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        first_sample=first_sample,
        group_of=group_of,
        **kwargs,
    )


def _aspect_ratio_groups(dataset: Any) -> Callable[[int], int] | None:
    """Return index -> group from the dataset's own dicts; None if they don't have the size."""
    if isinstance(dataset, IterableDataset) or not len(dataset):
        return None
    first = dataset[0]
    if not isinstance(first, dict) or not {"width", "height"} <= first.keys():
        return None
    return functools.cache(lambda index: aspect_ratio_group(dataset[index]))


def _test_loader_from_config(
    cfg: Any, dataset_name: str | Sequence[str], mapper: Any = None
) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        pairs = zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=False)
        files = _proposal_files(dict(pairs), names)
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=files)
    return {
        "dataset": dataset,
        "mapper": mapper or DatasetMapper(cfg, False),  # type: ignore[arg-type,call-arg]
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if isinstance(dataset, IterableDataset) else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Callable[[dict[str, Any]], Any] | None,
    sampler: Sampler[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Make batches of a dataset, every sample once, in order.

    From a config: ``build_detection_test_loader(cfg, "my_dataset")``.

    Args:
        dataset: a list of dataset dicts, or a dataset of them.
        mapper: sample -> model input; such as ``DatasetMapper(cfg, is_train=False)``.
        sampler: order of the samples; an ``InferenceSampler`` if None, which splits them between
            the processes; none for a stream.
        batch_size: samples in a batch of this process.
        num_workers: processes that read.
        collate_fn: makes a batch from a list of samples; None keeps the list.

    Raises:
        InputError: (an ``AssertionError``) If a sampler is given for a stream.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, IterableDataset):
        if sampler is not None:
            raise InputError("build_detection_test_loader: a stream takes no sampler; pass None")
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    return WholeBatchLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """Return the samples as they are, in a list."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed a worker's generators apart from the other workers'."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
