"""Reading the symmetries of charts that belong to a dataset."""

from retinue.config import CfgNode
from retinue.data import MetadataCatalog
from retinue.projects.densepose.structures.transform_data import DensePoseTransformData
from retinue.utils.file_io import PathManager

__all__ = ["load_for_dataset", "load_from_cfg"]


def load_for_dataset(dataset_name: str) -> DensePoseTransformData:
    """Read what the metadata of a dataset names as ``densepose_transform_src``."""
    path = MetadataCatalog.get(dataset_name).densepose_transform_src
    return DensePoseTransformData.load(PathManager.get_local_path(path))


def load_from_cfg(cfg: CfgNode) -> DensePoseTransformData:
    """Read what belongs to the first of ``DATASETS.TEST``."""
    return load_for_dataset(cfg.DATASETS.TEST[0])
