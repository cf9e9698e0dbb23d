"""One view of the forms that panoptic segmentations come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retinue.utils.errors import InputError

__all__ = ["PanopticView"]


class PanopticView:
    """The segments of a panoptic picture, largest first.

    Args:
        panoptic_seg: ``(H, W)`` ids, a tensor or an array.
        segments_info: for each segment ``id``, ``category_id`` and ``isthing``; or None, where an
            id is ``category_id * metadata.label_divisor + instance`` and -1 is nothing.
        metadata: of the dataset; needed without ``segments_info``.

    Raises:
        InputError: If both ``segments_info`` and ``metadata`` are missing.
    """

    def __init__(self, panoptic_seg: Any, segments_info: Any, metadata: Any = None) -> None:
        self._ids = np.asarray(panoptic_seg)
        present, areas = np.unique(self._ids, return_counts=True)
        order = np.argsort(-areas, kind="stable")
        self._present = present[order].tolist()
        if segments_info is None:
            segments_info = self._read_ids(metadata)
        self._info = {s["id"]: dict(s) for s in segments_info}
        for segment_id, area in zip(self._present, areas[order].tolist(), strict=True):
            if segment_id in self._info:
                self._info[segment_id]["area"] = float(area)

    def _read_ids(self, metadata: Any) -> list[dict[str, Any]]:
        if metadata is None:
            raise InputError("a panoptic picture without segments_info needs metadata")
        things = set(metadata.thing_dataset_id_to_contiguous_id.values())
        classes = {i: i // metadata.label_divisor for i in self._present if i != -1}
        return [{"id": i, "category_id": c, "isthing": c in things} for i, c in classes.items()]

    def non_empty_mask(self) -> np.ndarray:
        """Return which pixels belong to a segment, ``(H, W)`` bool."""
        return np.isin(self._ids, list(self._info))

    def semantic_masks(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield mask ``(H, W)`` bool and description of each segment of stuff."""
        return self._segments(isthing=False)

    def instance_masks(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield mask ``(H, W)`` bool and description of each thing."""
        return self._segments(isthing=True)

    def _segments(self, *, isthing: bool) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        for segment_id in self._present:
            info = self._info.get(segment_id)
            if info is not None and bool(info["isthing"]) == isthing:
                yield self._ids == segment_id, info
