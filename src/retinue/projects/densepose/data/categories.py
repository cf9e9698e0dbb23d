"""Categories of several datasets, chosen, merged and numbered together.

``DATASETS.WHITELISTED_CATEGORIES`` says which categories of a dataset are kept, by the ids of its
file; ``DATASETS.CATEGORY_MAPS`` says that a category counts as another. What has the same id in the
end is one class of the model, and classes are numbered by these ids.

Reading order: set_category_metadata, merge_categories, write_merged_categories.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from retinue.config import CfgNode
from retinue.data import MetadataCatalog
from retinue.projects.densepose.data.utils import get_class_to_mesh_name_mapping
from retinue.utils.errors import InputError

__all__ = [
    "DatasetCategory",
    "merge_categories",
    "set_category_metadata",
    "write_merged_categories",
]

logger = logging.getLogger(__name__)


@dataclass
class DatasetCategory:
    """A category of a dataset: its id and name in the file, and what it counts as."""

    id: int
    name: str
    mapped_id: int
    mapped_name: str
    dataset_name: str


def set_category_metadata(cfg: CfgNode, names: Sequence[str]) -> None:
    """Write into the metadata what a config says of categories, and of the classes' meshes.

    What an earlier config said of categories is replaced.

    Args:
        cfg: with ``DATASETS``.
        names: datasets that get ``class_to_mesh_name``.
    """
    for name, kept in cfg.DATASETS.WHITELISTED_CATEGORIES.items():
        vars(MetadataCatalog.get(name))["whitelisted_categories"] = list(kept)
    for name, moves in cfg.DATASETS.CATEGORY_MAPS.items():
        vars(MetadataCatalog.get(name))["category_map"] = {
            int(source): int(target) for source, target in moves.items()
        }
    for name in names:
        metadata = MetadataCatalog.get(name)
        if metadata.get("class_to_mesh_name") is None:
            metadata.class_to_mesh_name = get_class_to_mesh_name_mapping(cfg)


def merge_categories(dataset_names: Collection[str]) -> dict[int, list[DatasetCategory]]:
    """Return the categories that count as each id.

    Raises:
        InputError: If a category that is named by the config is not in the file.
    """
    merged: dict[int, list[DatasetCategory]] = defaultdict(list)
    names: dict[int, str] = {}
    for dataset in dataset_names:
        metadata = MetadataCatalog.get(dataset)
        known: Mapping[int, str] = metadata.categories
        moves: Mapping[int, int] = metadata.get("category_map", {})
        kept = metadata.get("whitelisted_categories")
        for number in list(known) if kept is None else kept:
            target = moves.get(number, number)
            for wanted in (number, target):
                if wanted not in known:
                    raise InputError(
                        f"DATASETS: category {wanted} is not in the file of {dataset!r}; it has"
                        f" {sorted(known)}"
                    )
            if target == number:
                names[number] = known[number]
            merged[target].append(
                DatasetCategory(number, known[number], target, known[target], dataset)
            )
    for target, categories in merged.items():
        for category in categories:
            category.mapped_name = names.get(target, category.mapped_name)
        if len({category.name for category in categories}) > 1:
            parts = ", ".join(f"{c.id} ({c.name}) of {c.dataset_name}" for c in categories)
            logger.warning("One class is made of: %s", parts)
    return dict(merged)


def write_merged_categories(merged: Mapping[int, Sequence[DatasetCategory]]) -> None:
    """Write into each dataset's metadata how its categories are numbered.

    ``thing_classes`` are the names of its classes; ``thing_dataset_id_to_contiguous_id`` and
    ``thing_dataset_id_to_merged_id`` say which class, and which id, each category counts as.
    """
    values: dict[str, tuple[list[str], dict[int, int], dict[int, int]]] = {}
    for number, target in enumerate(sorted(merged)):
        for category in merged[target]:
            row = values.setdefault(category.dataset_name, ([], {}, {}))
            classes, contiguous, ids = row
            if target not in ids.values():
                classes.append(category.mapped_name)
            contiguous[category.id] = number
            ids[category.id] = target
    for dataset, (classes, contiguous, ids) in values.items():
        metadata = MetadataCatalog.get(dataset)
        # Loaders may be built anew, by another config, so these may change.
        vars(metadata).update(
            thing_classes=classes,
            thing_dataset_id_to_contiguous_id=contiguous,
            thing_dataset_id_to_merged_id=ids,
        )
