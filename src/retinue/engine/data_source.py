"""From what a user calls data to datasets with names.

``find_data`` finds COCO files or registered names, ``DataSource.register`` puts files into the
catalogs. Whoever asks these for the dataset reads its file, and nothing of it is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retinue.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from retinue.utils.errors import InputError, unknown_name
from retinue.utils.file_io import PathManager

__all__ = ["DataSource", "find_data", "tell_apart"]


@dataclass(frozen=True)
class DataSource:
    """A dataset.

    Attributes:
        name: in the catalogs.
        json_file: COCO annotations; empty if the name is registered already.
        image_root: folder of the images.
    """

    name: str
    json_file: str = ""
    image_root: str = ""

    def register(self) -> Metadata:
        """Put it into the catalogs, once; return its metadata, which loading it completes."""
        metadata = MetadataCatalog.get(self.name)
        if self.json_file and self.name not in DatasetCatalog:
            DatasetCatalog.register(self.name, self._load)
            files = {"json_file": self.json_file, "image_root": self.image_root}
            metadata.set(**files, evaluator_type="coco")
        return metadata

    def _load(self) -> list[dict[str, Any]]:
        from retinue.data.datasets.coco import convert_coco
        from retinue.data.datasets.coco_file import read_annotation_file

        content = read_annotation_file(self.json_file)
        MetadataCatalog.get(self.name).set(**_keypoint_metadata(content.get("categories", [])))
        return convert_coco(content, self.json_file, self.image_root, self.name)


def _keypoint_metadata(categories: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Read names, skeleton and mirror pairs of keypoints from a file's categories, if any has."""
    from retinue.visualization.colors import PALETTE, to_bytes

    for category in categories:
        names = category.get("keypoints")
        if names:
            pairs = [(n, n.replace("left", "right")) for n in names if "left" in n]
            bones = [(names[a - 1], names[b - 1]) for a, b in category.get("skeleton", [])]
            return {
                "keypoint_names": list(names),
                "keypoint_flip_map": [p for p in pairs if p[1] in names],
                "keypoint_connection_rules": [
                    (a, b, to_bytes(PALETTE[i % len(PALETTE)])) for i, (a, b) in enumerate(bones)
                ],
            }
    return {}


def find_data(data: Any) -> list[DataSource]:
    """Find what a user calls data.

    Args:
        data: a COCO file and the folder of its images, as a pair; the file alone, if the images lie
            beside it; the name of a registered dataset; or a list of these.

    Raises:
        InputError: If a file or folder does not exist.
        UnknownNameError: (a ``KeyError``) for a name that is not registered.
    """
    if isinstance(data, str | os.PathLike):
        return [_one_source(os.fspath(data))]
    if not isinstance(data, Sequence) or len(data) == 0:
        raise InputError(
            "data: expected (annotations.json, image folder), the json alone, or the name of a"
            f" registered dataset; got {data!r}"
        )
    is_pair = len(data) == 2 and all(isinstance(d, str | os.PathLike) for d in data)
    if is_pair and os.path.isdir(data[0]) and _is_file(data[1], ".json"):
        raise InputError(
            f"data: the annotations come first, then the folder of their images; got {data!r}"
        )
    if is_pair and os.fspath(data[0]).endswith(".json") and not _is_file(data[1], ".json"):
        return [_coco_source(os.fspath(data[0]), os.fspath(data[1]))]
    return [source for one in data for source in find_data(one)]


def _is_file(path: Any, suffix: str) -> bool:
    return os.fspath(path).endswith(suffix)


def _one_source(name: str) -> DataSource:
    if not name.endswith(".json"):
        if name not in DatasetCatalog:
            hint = "or give a COCO .json and the folder of its images"
            raise unknown_name("dataset", name, DatasetCatalog.list(), hint, max_listed=0)
        return DataSource(name)
    if not PathManager.isfile(name):
        raise InputError(f"annotation file {name!r} does not exist")
    return _coco_source(name, _image_folder(Path(name)))


def tell_apart(sources: Sequence[DataSource], others: Sequence[DataSource]) -> list[DataSource]:
    """Give ``sources`` other names where ``others`` have the same file with other images."""
    roots = {other.name: other.image_root for other in others}
    return [
        replace(one, name=f"{one.name} ({one.image_root})")
        if roots.get(one.name, one.image_root) != one.image_root
        else one
        for one in sources
    ]


def _image_folder(json_file: Path) -> str:
    """Guess where a COCO file's images are: the first of them decides."""
    from retinue.data.datasets.coco_file import read_annotation_file

    images = read_annotation_file(json_file)["images"]
    first = images[0]["file_name"] if images else ""
    folder = json_file.parent
    stem = json_file.stem.removeprefix("instances_").removeprefix("person_keypoints_")
    guesses = [
        folder / stem,
        folder / "images",
        folder,
        folder.parent / stem,
        folder.parent / "images",
    ]
    for guess in guesses:
        if first and (guess / first).is_file():
            return str(guess)
    looked = ", ".join(map(str, guesses))
    raise InputError(
        f"{json_file}: cannot find its images ({first!r}) in {looked}; name the folder"
    )


def _coco_source(json_file: str, image_root: str) -> DataSource:
    if not PathManager.isfile(json_file):
        raise InputError(f"annotation file {json_file!r} does not exist")
    if PathManager.isfile(image_root):
        raise InputError(f"image folder {image_root!r} is a file; give the folder that has them")
    if not PathManager.isdir(image_root):
        raise InputError(f"image folder {image_root!r} does not exist")
    return DataSource(_name_of(json_file, image_root), json_file, image_root)


def _name_of(json_file: str, image_root: str) -> str:
    """Name a dataset after its file, so that the same files keep the same name."""
    path = json_file if "://" in json_file else os.path.abspath(json_file)
    root = image_root if "://" in image_root else os.path.abspath(image_root)
    taken = MetadataCatalog.get(path)
    if path in DatasetCatalog and os.path.abspath(taken.get("image_root", root)) != root:
        return f"{path} ({root})"
    return path
