"""The published datasets by their names; ``register_all`` makes them known."""

from retinue.data import DatasetCatalog
from retinue.projects.densepose.data.datasets import chimpnsee, coco, lvis

__all__ = ["DEFAULT_DATASETS_ROOT", "register_all"]

DEFAULT_DATASETS_ROOT = "datasets"


def register_all(datasets_root: str = DEFAULT_DATASETS_ROOT) -> None:
    """Register the datasets that are not registered yet.

    Args:
        datasets_root: folder of the datasets.
    """
    known = set(DatasetCatalog.list())
    coco_like = [*coco.DATASETS, *coco.BASE_DATASETS]
    coco.register_datasets([d for d in coco_like if d.name not in known], datasets_root)
    lvis.register_datasets([d for d in lvis.DATASETS if d.name not in known], datasets_root)
    if chimpnsee.CHIMPNSEE_DATASET_NAME not in known:
        chimpnsee.register_dataset(datasets_root)
