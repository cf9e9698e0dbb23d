"""What the classes and keypoints of a run are called, in a file of its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retinue.utils.file_io import atomic_write

__all__ = ["read_class_names", "write_class_names"]

_CLASSES_FILE = "classes.json"
_SAVED = ("thing_classes", "keypoint_names", "keypoint_flip_map", "keypoint_connection_rules")


def write_class_names(folder: str | Path, metadata: Any) -> None:
    """Write the names of classes and keypoints into the folder of a run.

    Args:
        folder: the folder.
        metadata: ``Metadata``, a dict like it, or just the list of class names.
    """
    if isinstance(metadata, Sequence):
        metadata = {"thing_classes": list(metadata)}
    known = {name: metadata.get(name) for name in _SAVED if metadata.get(name)}
    with atomic_write(Path(folder) / _CLASSES_FILE, "w") as f:
        json.dump(known, f, indent=1)


def read_class_names(folder: str | Path) -> dict[str, Any]:
    """Read what ``write_class_names`` wrote; empty if it wrote nothing."""
    path = Path(folder) / _CLASSES_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
