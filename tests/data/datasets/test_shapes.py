import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from retinue.data.datasets.shapes import SHAPE_CLASSES, draw_scene, write_sample, write_shapes


def test_pictures_never_change():
    """Recorded from this generator: a change means that published demo numbers change, too."""
    scene = draw_scene(0, 3)

    digest = hashlib.sha256(scene.image.tobytes() + scene.masks.tobytes()).hexdigest()
    assert digest[:16] == "2ca408239bc550bf"


def test_masks_are_what_is_visible():
    for index in range(20):
        scene = draw_scene(5, index, height=96, width=64)
        assert scene.image.shape == (96, 64, 3)
        assert scene.masks.sum(axis=0).max() == 1, "a pixel belongs to one object at most"
        assert (scene.masks.sum(axis=(1, 2)) > 0).all()
        assert len(scene.labels) == len(scene.masks) >= 1


def test_every_shape_comes_up_about_as_often():
    labels = np.concatenate([draw_scene(1, i, height=32, width=32).labels for i in range(100)])

    counts = np.bincount(labels, minlength=len(SHAPE_CLASSES))
    assert counts.min() > 0.5 * counts.mean()


def test_a_tiny_picture_is_refused():
    with pytest.raises(ValueError, match="at least 32 pixels; got 16 x 160"):
        draw_scene(0, 0, height=16)


def test_the_json_agrees_with_the_pictures(tmp_path):
    from hotcoco import mask as coco_mask

    dataset = write_shapes(tmp_path, num_train=3, num_val=2, seed=4)
    data = json.loads(dataset.train_json.read_text())

    assert [c["name"] for c in data["categories"]] == list(SHAPE_CLASSES)
    assert len(data["images"]) == 3
    assert len(json.loads(dataset.val_json.read_text())["images"]) == 2
    for image in data["images"]:
        index = image["id"] - 1
        scene = draw_scene(8, index, height=image["height"], width=image["width"])
        drawn = np.asarray(Image.open(dataset.train_images / image["file_name"]))
        np.testing.assert_array_equal(drawn, scene.image)
        rows = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        for row, mask in zip(rows, scene.masks, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(row["segmentation"]), mask)
            x, y, w, h = row["bbox"]
            assert mask[y : y + h, x : x + w].sum() == mask.sum() == row["area"]
            assert mask[y, x : x + w].any()
            assert mask[y : y + h, x + w - 1].any()


def test_a_whole_split_is_kept_and_another_one_replaces_it(tmp_path):
    first = write_shapes(tmp_path, num_train=1, num_val=1)
    before = first.train_json.stat().st_mtime_ns
    write_shapes(tmp_path, num_train=1, num_val=1)
    assert first.train_json.stat().st_mtime_ns == before

    write_shapes(tmp_path, num_train=2, num_val=1)
    assert len(json.loads(first.train_json.read_text())["images"]) == 2


@pytest.mark.parametrize("name", ["sample.jpg", "sample.png"])
def test_the_sample_is_a_picture(tmp_path, name):
    path = write_sample(tmp_path / "new" / name)

    with Image.open(path) as sample:
        assert sample.size == (480, 384)
