import numpy as np
import pytest
import torch
from PIL import Image

from retinue.structures import Boxes, BoxMode, Instances, RotatedBoxes
from retinue.visualization.generic_mask import GenericMask
from retinue.visualization.visualizer import ColorMode, Visualizer


class Metadata(dict):
    """What the visualizer asks of a dataset's metadata."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


NAMES = Metadata(thing_classes=["cat", "dog", "owl"], stuff_classes=["sky", "sea", "sand"])
GREY = np.full((60, 80, 3), 120, dtype=np.uint8)


def predictions(num=3):
    found = Instances((60, 80))
    found.pred_boxes = Boxes(torch.tensor([[10.0 * i, 5, 10 * i + 20, 45] for i in range(num)]))
    found.scores = torch.linspace(0.5, 0.9, num)
    found.pred_classes = torch.arange(num) % 3
    masks = torch.zeros(num, 60, 80, dtype=torch.bool)
    for i in range(num):
        masks[i, 10:40, 10 * i + 2 : 10 * i + 18] = True
    found.pred_masks = masks
    return found


def changed(output):
    return (output.get_image() != GREY).any(axis=2)


@pytest.mark.parametrize("mode", list(ColorMode))
@pytest.mark.parametrize("num", [0, 1, 3])
@pytest.mark.parametrize("metadata", [None, NAMES])
def test_predictions_in_every_mode(mode, num, metadata):
    v = Visualizer(GREY, metadata or Metadata(), instance_mode=mode)
    image = v.draw_instance_predictions(predictions(num)).get_image()

    assert image.shape == GREY.shape
    assert image.dtype == np.uint8
    assert (image != GREY).any() == (num > 0)


def test_drawing_is_repeatable():
    images = [Visualizer(GREY, NAMES).draw_instance_predictions(predictions()) for _ in range(2)]

    np.testing.assert_array_equal(images[0].get_image(), images[1].get_image())


def test_boxes_may_be_plain_tensors_and_scores_may_be_missing():
    found = Instances((60, 80))
    found.pred_boxes = torch.tensor([[10.0, 10, 50, 50]])

    assert changed(Visualizer(GREY, NAMES).draw_instance_predictions(found)).any()


def test_run_lengths_are_drawn_like_bitmaps():
    from hotcoco import mask as coco_mask

    found = predictions(1)
    other = Instances((60, 80), pred_boxes=found.pred_boxes)
    other.pred_masks_rle = [
        coco_mask.encode(np.asfortranarray(found.pred_masks[0].numpy().astype(np.uint8)))
    ]
    found.remove("scores")
    found.remove("pred_classes")

    a, b = (
        Visualizer(GREY, NAMES).draw_instance_predictions(f).get_image() for f in (found, other)
    )
    np.testing.assert_array_equal(a, b)


def test_black_and_white_keeps_colors_inside_masks():
    picture = np.zeros((60, 80, 3), dtype=np.uint8)
    picture[..., 0] = 200
    found = predictions(1)
    v = Visualizer(picture, Metadata(), instance_mode=ColorMode.IMAGE_BW)
    image = v.draw_instance_predictions(found).get_image()

    assert len(set(image[55, 70])) == 1
    assert image[25, 10, 0] > 130


def test_a_class_keeps_its_color_without_jitter():
    v = Visualizer(
        GREY, Metadata(thing_colors=[(0, 0, 255)] * 3), instance_mode=ColorMode.SEGMENTATION
    )
    found = predictions(1)
    found.remove("pred_boxes")
    found.remove("scores")
    found.remove("pred_classes")
    found.pred_classes = torch.tensor([2])
    image = v.draw_instance_predictions(found, jittering=False).get_image()

    np.testing.assert_allclose(image[38, 8], [24, 24, 228], atol=40)


def test_a_dataset_dict_with_boxes_polygons_run_lengths_and_crowds():
    rle = GenericMask(np.eye(60, 80, dtype=np.uint8), 60, 80)
    annotations = [
        {
            "bbox": [10, 10, 30, 20],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 1,
            "segmentation": [[10, 10, 40, 10, 40, 30]],
        },
        {
            "bbox": [10, 10, 50, 50],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "iscrowd": 1,
            "segmentation": {"counts": [0, 60 * 80], "size": [60, 80]},
        },
    ]
    assert rle.area() == 60
    v = Visualizer(GREY, NAMES)
    assert changed(v.draw_dataset_dict({"annotations": annotations})).all()
    texts = [label.text for label in v.output._labels]
    assert texts == ["cat|crowd", "dog"], "large objects first"


def test_a_dataset_dict_with_files(tmp_path):
    sem_seg = np.zeros((60, 80), dtype=np.uint8)
    sem_seg[30:] = 1
    Image.fromarray(sem_seg).save(tmp_path / "sem.png")
    pan_seg = np.zeros((60, 80, 3), dtype=np.uint8)
    pan_seg[:20, :, 1] = 1  # id 256
    Image.fromarray(pan_seg).save(tmp_path / "pan.png")
    v = Visualizer(GREY, NAMES)
    v.draw_dataset_dict({"sem_seg_file_name": str(tmp_path / "sem.png")})
    assert [label.text for label in v.output._labels] == ["sky", "sea"]

    v = Visualizer(GREY, NAMES)
    info = [{"id": 256, "category_id": 2, "isthing": True}]
    output = v.draw_dataset_dict(
        {"pan_seg_file_name": str(tmp_path / "pan.png"), "segments_info": info}
    )
    assert [label.text for label in v.output._labels] == ["owl"]
    assert not changed(output)[45:].any()


def test_panoptic_ids_by_label_divisor():
    metadata = Metadata(
        NAMES,
        label_divisor=1000,
        thing_dataset_id_to_contiguous_id={7: 1},
        stuff_colors=[(0, 0, 255)],
    )
    ids = torch.full((60, 80), -1)
    ids[:20] = 2
    ids[20:40] = 1001
    v = Visualizer(GREY, metadata)
    output = v.draw_panoptic_seg_predictions(ids, None)

    assert sorted(label.text for label in v.output._labels) == ["dog", "sky"]
    assert (np.asarray(output.painter.image)[41:] == 120).all()


def test_rotated_boxes():
    v = Visualizer(GREY, NAMES)
    boxes = RotatedBoxes(torch.tensor([[40.0, 30, 40, 20, 30], [90, 90, 10, 10, 1800]]))
    output = v.overlay_instances(boxes=boxes, labels=["a", "b"])

    assert output.get_image().shape == GREY.shape
    assert changed(output)[15:45, 20:60].any()
    # By hand: unturned corner (-20, -10), turned 30 degrees counter-clockwise on the screen.
    assert v.output._labels[0].places_xy[0] == pytest.approx((40 - 22.3205, 30 + 1.33975), abs=1e-3)


def test_a_turned_label_is_turned():
    v = Visualizer(GREY)
    v.draw_text("turned", (40, 50), rotation=90, font_size=6, horizontal_alignment="left")
    ys, xs = np.nonzero(changed(v.output))

    assert np.ptp(ys) > 2 * np.ptp(xs)
    assert ys.max() <= 51


def test_keypoints_of_a_person_are_joined():
    names = ["nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
    metadata = Metadata(
        keypoint_names=names, keypoint_connection_rules=[("nose", "left_hip", (0, 0, 255))]
    )
    points = np.array([[[40, 5, 1], [30, 20, 1], [50, 20, 1], [30, 50, 1], [50, 50, 0.01]]])
    output = Visualizer(GREY, metadata).overlay_instances(keypoints=points)

    red = output.get_image()[..., 0].astype(int) - output.get_image()[..., 2]
    assert red[12, 40] > 100, "nose to the middle of the shoulders"
    assert (red[45:, 50] < 100).all(), "the right hip is not seen"
    assert red[28, 35] < -100, "nose to left hip, in blue"


def test_scale_enlarges_the_result():
    v = Visualizer(GREY, NAMES, scale=2.0)
    image = v.draw_instance_predictions(predictions()).get_image()

    assert image.shape == (120, 160, 3)


def test_parts_below_the_area_threshold_are_left_out():
    mask = np.zeros((60, 80), dtype=bool)
    mask[0, :9] = True
    mask[20:40, 20:40] = True
    image = changed(Visualizer(GREY).draw_binary_mask(mask, color="blue", area_threshold=10))

    assert not image[:5].any()
    assert image[25:35, 25:35].all()


def test_a_mask_with_a_hole_stays_open():
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[10:50, 10:50] = 1
    mask[20:40, 20:40] = 0
    picture = np.zeros((60, 80, 3), dtype=np.uint8)
    picture[..., 0] = 255
    image = Visualizer(picture, scale=3).draw_binary_mask(mask, color="blue").get_image()

    colors = {tuple(c) for c in image[90]}
    assert colors == {(255, 0, 0), (127, 0, 128)}, "two colours: sharp at pixel borders"
    assert tuple(image[90, 90]) == (255, 0, 0)


def test_soft_masks_blend_by_their_value():
    soft = np.zeros((60, 80), dtype=np.float32)
    soft[:, :40] = 0.5
    picture = np.zeros((60, 80, 3), dtype=np.uint8)
    image = (
        Visualizer(picture).draw_soft_mask(soft, color="red", text="half", alpha=0.5).get_image()
    )

    assert image[5, 5, 0] == pytest.approx(64, abs=1)
    assert image[5, 60, 0] == 0


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_saving_by_the_suffix(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    Visualizer(GREY, NAMES).draw_instance_predictions(predictions()).save(str(path))

    with Image.open(path) as saved:
        assert saved.size == (80, 60)
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "no file left behind"


def test_a_figure_only_when_asked_for(tmp_path):
    pytest.importorskip("matplotlib")
    v = Visualizer(GREY, NAMES, scale=2)
    assert not v.output._figure
    v.output.ax.plot([10, 70], [30, 30], color="blue", linewidth=5)
    v.draw_box((5, 5, 30, 20), edge_color="red", alpha=1)
    image = v.output.get_image()

    assert image.shape == (120, 160, 3)
    assert image[60, 80].tolist() == [0, 0, 255], "drawn with matplotlib"
    assert image[9:11, 40, 0].max() > 200, "drawn later with Pillow"  # matplotlib 3.10 rounds up
    v.output.save(tmp_path / "vector.svg")
    assert "<svg" in (tmp_path / "vector.svg").read_text()


def test_wrong_numbers_of_things_are_named():
    v = Visualizer(GREY)
    boxes = np.array([[1.0, 2, 3, 4]])
    with pytest.raises(AssertionError, match=r"got \{'boxes': 1, 'masks': 2\}"):
        v.overlay_instances(boxes=boxes, masks=np.zeros((2, 60, 80), dtype=np.uint8))
    with pytest.raises(AssertionError, match="1 objects, but 2 labels"):
        v.overlay_instances(boxes=boxes, labels=["a", "b"])


def test_masks_in_each_form():
    square = np.zeros((60, 80), dtype=np.uint8)
    square[10:30, 20:50] = 1
    by_polygon = GenericMask([np.array([20, 10, 50, 10, 50, 30, 20, 30])], 60, 80)
    by_bitmap = GenericMask(square, 60, 80)
    by_counts = GenericMask({"size": [60, 80], "counts": [0, 60, 60 * 79]}, 60, 80)

    np.testing.assert_array_equal(by_polygon.mask, square)
    assert by_bitmap.polygons[0].tolist() == [20, 10, 50, 10, 50, 30, 20, 30]
    assert by_polygon.bbox().tolist() == by_bitmap.bbox().tolist() == [20, 10, 50, 30]
    assert by_counts.mask[:, 0].all()
    assert by_counts.area() == 60
    assert not by_polygon.has_holes
    assert not by_bitmap.has_holes
    assert GenericMask(np.zeros((60, 80)), 60, 80).bbox().tolist() == [0, 0, 0, 0]
    assert GenericMask([], 60, 80).area() == 0


def test_wrong_masks_are_named():
    with pytest.raises(ValueError, match=r"picture's size \(60, 80\); got \(80, 60\)"):
        GenericMask(np.zeros((80, 60)), 60, 80)
    with pytest.raises(ValueError, match=r"needs 'counts' and 'size'; got \['x'\]"):
        GenericMask({"x": 1}, 60, 80)
    with pytest.raises(
        ValueError, match="bitmap, a list of polygons or a run-length dict; got str"
    ):
        GenericMask("mask", 60, 80)
