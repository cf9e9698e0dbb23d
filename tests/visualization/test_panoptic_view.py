"""Both forms of panoptic segmentations: with segments, and as labels that say their class."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retinue.visualization.panoptic import PanopticView

IDS = np.array([[0, 7, 7], [9, 9, 7], [9, 5, 5]])
METADATA = SimpleNamespace(thing_dataset_id_to_contiguous_id={1: 0}, label_divisor=1000)


def areas(segments):
    return {info["category_id"]: int(mask.sum()) for mask, info in segments}


def test_ids_without_a_segment_are_void():
    """0 and 5 have no segment, so neither is drawn."""
    view = PanopticView(
        IDS,
        [
            {"id": 7, "category_id": 0, "isthing": True},
            {"id": 9, "category_id": 3, "isthing": False},
        ],
    )
    assert np.array_equal(view.non_empty_mask(), (IDS == 7) | (IDS == 9))
    assert areas(view.instance_masks()) == {0: 3}
    assert areas(view.semantic_masks()) == {3: 3}


def test_labels_say_their_class_and_minus_one_is_void():
    labels = torch.tensor([[-1, 2, 2], [3000, 3000, 2], [3000, 1, -1]])
    view = PanopticView(labels, None, METADATA)
    assert np.array_equal(view.non_empty_mask(), labels.numpy() >= 0)
    assert areas(view.semantic_masks()) == {3: 3}
    assert sorted(int(mask.sum()) for mask, _ in view.instance_masks()) == [1, 3]
    with pytest.raises(ValueError, match="without segments_info needs metadata"):
        PanopticView(labels, None)
