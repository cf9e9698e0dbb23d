import numpy as np
import pytest
import torch

from retinue.structures import Boxes, Instances
from retinue.visualization.video_visualizer import VideoVisualizer
from retinue.visualization.visualizer import ColorMode

FRAME = np.full((60, 80, 3), 120, dtype=np.uint8)


class Metadata(dict):
    def __getattr__(self, name):
        return self[name]


NAMES = Metadata(thing_classes=["cat", "dog"], stuff_classes=["sky", "sea"])


def objects(boxes, classes, **fields):
    found = Instances((60, 80), pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
    found.pred_classes = torch.tensor(classes)
    found.scores = torch.ones(len(boxes))
    for name, value in fields.items():
        found.set(name, value)
    return found


def test_an_object_keeps_its_color_while_it_moves_and_after_it_was_missed():
    video = VideoVisualizer(NAMES)
    video.draw_instance_predictions(FRAME, objects([[0, 0, 30, 30], [40, 0, 70, 30]], [0, 1]))
    first, second = (old.color for old in video._old_instances)

    video.draw_instance_predictions(FRAME, objects([[41, 0, 71, 30]], [1]))
    video.draw_instance_predictions(FRAME, objects([[0, 0, 30, 30], [40, 40, 70, 60]], [0, 0]))

    colors = [old.color for old in video._old_instances]
    assert colors[0] == first
    assert colors[1] not in (first, second)


def test_ids_keep_their_colors_and_free_them_when_gone():
    video = VideoVisualizer(Metadata(NAMES, max_num_instances=2))
    two = objects([[0, 0, 9, 9], [20, 0, 29, 9]], [0, 0])
    for ids in ([5, 6], [6, 7]):
        two.ID = ids
        video.draw_instance_predictions(FRAME, two)
    assert set(video._assigned_colors) == {6, 7}

    with pytest.raises(AssertionError, match="3 ids in one frame, but max_num_instances is 2"):
        video.draw_instance_predictions(FRAME, objects([[0, 0, 9, 9]] * 3, [0] * 3, ID=[1, 2, 3]))


def test_short_lived_objects_are_not_drawn():
    video = VideoVisualizer(Metadata(NAMES, period_threshold=2))
    found = objects([[10, 10, 30, 30]], [0], ID_period=[1])

    np.testing.assert_array_equal(video.draw_instance_predictions(FRAME, found).get_image(), FRAME)


@pytest.mark.parametrize("mode", [ColorMode.IMAGE, ColorMode.IMAGE_BW])
def test_panoptic_frames(mode):
    video = VideoVisualizer(NAMES, mode)
    ids = torch.zeros(60, 80, dtype=torch.int32)
    ids[:, 40:] = 1
    info = [
        {"id": 0, "category_id": 0, "isthing": False},
        {"id": 1, "category_id": 1, "isthing": True},
    ]
    images = [video.draw_panoptic_seg_predictions(FRAME, ids, info).get_image() for _ in range(2)]

    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != FRAME).any(axis=2).all()


def test_an_empty_frame_and_a_semantic_one():
    video = VideoVisualizer(NAMES)
    empty = objects(np.zeros((0, 4)).tolist() or [], [])
    np.testing.assert_array_equal(video.draw_instance_predictions(FRAME, empty).get_image(), FRAME)
    assert (video.draw_sem_seg(FRAME, np.ones((60, 80), dtype=int)).get_image() != FRAME).any()


def test_other_modes_are_refused():
    with pytest.raises(
        AssertionError, match=r"draws in IMAGE or IMAGE_BW; got ColorMode\.SEGMENTATION"
    ):
        VideoVisualizer(NAMES, ColorMode.SEGMENTATION)
