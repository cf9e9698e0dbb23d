"""Videos of chimpanzees, without annotations, from https://www.chimpandsee.org."""

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.projects.densepose.data.datasets.dataset_type import DatasetType
from retinue.projects.densepose.data.utils import maybe_prepend_base_path

__all__ = ["CHIMPNSEE_DATASET_NAME", "register_dataset"]

CHIMPNSEE_DATASET_NAME = "chimpnsee"


def register_dataset(datasets_root: str | None = None) -> None:
    """Register the videos; the dataset itself is empty, its metadata says where they are.

    Args:
        datasets_root: folder of the datasets.
    """
    base = maybe_prepend_base_path(datasets_root, "chimpnsee/cdna.eva.mpg.de")
    DatasetCatalog.register(CHIMPNSEE_DATASET_NAME, list)
    MetadataCatalog.get(CHIMPNSEE_DATASET_NAME).set(
        dataset_type=DatasetType.VIDEO_LIST,
        video_list_fpath=f"{base}/video_list.txt",
        video_base_path=base,
        category="chimpanzee",
    )
