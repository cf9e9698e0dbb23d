"""Panoptic-DeepLab: votes, ids and targets by hand; data; the model on a tiny network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retinue.projects.panoptic_deeplab import PanopticDeepLab, PanopticDeeplabDatasetMapper
from retinue.projects.panoptic_deeplab.post_processing import (
    find_instance_center,
    get_panoptic_segmentation,
    group_pixels,
    merge_semantic_and_instance,
)
from retinue.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator


def test_centres_are_local_maxima_above_the_threshold():
    heat = torch.zeros(1, 6, 8)
    heat[0, 1, 1], heat[0, 1, 2], heat[0, 4, 6], heat[0, 0, 7] = 0.9, 0.8, 0.5, 0.05

    assert find_instance_center(heat, 0.1, 3).tolist() == [[1, 1], [4, 6]]
    assert find_instance_center(heat, 0.6, 3).tolist() == [[1, 1]]
    assert find_instance_center(heat, 0.1, 3, top_k=2).tolist() == [[1, 1]]  # above the second
    assert find_instance_center(heat, 0.95, 3, top_k=2).shape == (0, 2)
    with pytest.raises(ValueError, match=r"center_heatmap must have shape \(1, H, W\)"):
        find_instance_center(heat[0])


def test_pixels_go_to_the_centre_they_point_to():
    centers = torch.tensor([[0, 0], [0, 3]])
    offsets = torch.zeros(2, 1, 4)
    offsets[1] = torch.tensor([[0.0, 2.0, -2.0, 0.0]])

    assert group_pixels(centers, offsets).tolist() == [[[1, 2, 1, 2]]]


def test_instances_get_the_class_of_most_of_their_pixels():
    """Things 1 and 2, stuff 0 and 3; ids are class * 10 + number; stuff of 1 pixel is void."""
    sem_seg = torch.tensor([[[1, 1, 2, 2, 1, 0, 0, 3]]])
    instances = torch.tensor([[[1, 1, 1, 2, 3, 0, 0, 0]]])
    things = (instances > 0).long()
    ids = merge_semantic_and_instance(sem_seg, instances, things, 10, {1, 2}, 2, -1)

    assert ids.tolist() == [[[11, 11, 11, 21, 12, 0, 0, -1]]]


def test_an_image_without_centres_is_stuff_and_void():
    sem_seg = torch.tensor([[[1, 1, 0, 0]]])
    ids, centers = get_panoptic_segmentation(
        sem_seg, torch.zeros(1, 1, 4), torch.zeros(2, 1, 4), {1}, 10, 1, -1
    )
    assert ids.tolist() == [[[-1, -1, 0, 0]]]
    assert centers.shape == (1, 0, 2)


@pytest.mark.parametrize("foreground", [None, torch.tensor([[[1, 1, 0, 0]]])])
def test_a_panoptic_map_by_hand(foreground):
    sem_seg = torch.tensor([[[1, 1, 0, 0]]])
    heat = torch.tensor([[[0.9, 0.0, 0.0, 0.0]]])
    ids, _ = get_panoptic_segmentation(
        sem_seg, heat, torch.zeros(2, 1, 4), {1}, 10, 1, -1, foreground_mask=foreground
    )
    assert ids.tolist() == [[[11, 11, 0, 0]]]


def test_wrong_shapes_are_named():
    good = (torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2), torch.zeros(2, 2, 2))
    for i, name in enumerate(("sem_seg", "center_heatmap", "offsets")):
        maps = [m[0] if j == i else m for j, m in enumerate(good)]
        with pytest.raises(ValueError, match=f"get_panoptic_segmentation: {name} must have shape"):
            get_panoptic_segmentation(*maps, {1}, 10, 1, -1)
    with pytest.raises(ValueError, match="foreground_mask must have shape"):
        get_panoptic_segmentation(*good, {1}, 10, 1, -1, foreground_mask=good[0][0])


SEGMENTS = [
    {"id": 7, "category_id": 1, "iscrowd": 0},  # a thing of 2 x 3 pixels
    {"id": 8, "category_id": 5, "iscrowd": 0},  # stuff
    {"id": 9, "category_id": 1, "iscrowd": 1},  # a crowd of things
    {"id": 6, "category_id": 1, "iscrowd": 0},  # cut away
]


def panoptic_map():
    ids = np.full((6, 10), 8)
    ids[1:3, 2:5] = 7
    ids[5, 0] = 9
    ids[5, 9] = 0  # in no segment
    return ids


def test_targets_by_hand():
    make = PanopticDeepLabTargetGenerator(
        255,
        [1],
        sigma=1,
        ignore_stuff_in_offset=True,
        small_instance_area=7,
        small_instance_weight=3,
    )
    out = make(panoptic_map(), SEGMENTS)

    assert out["sem_seg"][1, 2] == 1
    assert out["sem_seg"][0, 0] == 5
    assert out["sem_seg"][5, 0] == 1
    assert out["sem_seg"][5, 9] == 255
    assert out["center_points"] == [[1.5, 3.0], [5.0, 0.0]]
    assert out["center"][2, 3] == 1  # 1.5 rounds to the even row
    assert out["center"][2, 4].item() == pytest.approx(np.exp(-0.5))
    assert out["center"][0, 8] == 0  # farther than 3 sigma + 1
    assert out["offset"][:, 1, 2].tolist() == [0.5, 1.0]
    assert out["offset"][:, 0, 0].tolist() == [0, 0]
    assert out["sem_seg_weights"][1, 2] == 3
    assert out["sem_seg_weights"][0, 0] == 1
    center_weights, offset_weights = out["center_weights"][0], out["offset_weights"][0]
    assert [center_weights[1, 2], center_weights[0, 0]] == [1, 1]
    assert [center_weights[5, 0], center_weights[5, 9]] == [0, 0]
    assert [offset_weights[1, 2], offset_weights[0, 0]] == [1, 0]


def test_crowds_can_be_left_out_of_the_labels():
    make = PanopticDeepLabTargetGenerator(255, [1], sigma=1, ignore_crowd_in_semantic=True)
    assert make(panoptic_map(), SEGMENTS)["sem_seg"][5, 0] == 255


def test_the_mapper_reads_ids_from_colours(tmp_path):
    ids = panoptic_map() + 256 * 3 + 256**2 * 2
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)
    Image.fromarray(colors).save(tmp_path / "panoptic.png")
    Image.new("RGB", (10, 6)).save(tmp_path / "image.png")
    segments = [s | {"id": s["id"] + 256 * 3 + 256**2 * 2} for s in SEGMENTS]
    mapper = PanopticDeeplabDatasetMapper(
        augmentations=[],
        image_format="RGB",
        panoptic_target_generator=PanopticDeepLabTargetGenerator(255, [1], sigma=1),
    )
    given = {
        "file_name": str(tmp_path / "image.png"),
        "pan_seg_file_name": str(tmp_path / "panoptic.png"),
        "segments_info": segments,
    }
    out = mapper(given)

    assert out["image"].shape == (3, 6, 10)
    assert (out["sem_seg"] == 1).sum() == 7
    assert "pan_seg_file_name" in given


class Backbone(nn.Module):
    """One feature map, the image itself."""

    size_divisibility = 0

    def forward(self, x):
        return {"image": x}


class SemSegHead(nn.Module):
    ignore_value = 255

    def forward(self, features, targets=None, weights=None):
        x = features["image"]
        if self.training:
            return None, {"loss_sem_seg": (x.mean() * targets.float().mean())}
        return torch.stack((x[:, 0], 1 - x[:, 0]), dim=1), {}  # class 0 where the image is 1


class InsEmbedHead(nn.Module):
    def forward(self, features, *targets):
        x = features["image"]
        if self.training:
            assert [t.shape[1] for t in targets] == [1, 1, 2, 1]
            return None, None, {"loss_center": x.sum()}, {"loss_offset": x.sum()}
        return x[:, 1:2], torch.zeros_like(x[:, :2]), {}, {}


def tiny_model(**changes):
    meta = SimpleNamespace(thing_dataset_id_to_contiguous_id={13: 0}, label_divisor=100)
    arguments = {
        "backbone": Backbone(),
        "sem_seg_head": SemSegHead(),
        "ins_embed_head": InsEmbedHead(),
        "pixel_mean": [0.0, 0.0, 0.0],
        "pixel_std": [1.0, 1.0, 1.0],
        "meta": meta,
        "stuff_area": 1,
        "nms_kernel": 3,
    }
    return PanopticDeepLab(**(arguments | changes))


def test_the_model_gives_ids_labels_and_instances():
    image = torch.zeros(3, 4, 6)
    image[0, :2, :3] = 1.0  # a thing
    image[1, 1, 1] = 0.8  # its centre
    (out,) = tiny_model().eval()([{"image": image}])
    ids, segments = out["panoptic_seg"]
    found = out["instances"]

    assert segments is None
    assert ids.unique().tolist() == [1, 100]  # class 0 number 1; class 1, stuff
    assert found.pred_classes.tolist() == [0]
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 3, 2]]
    # probability of the class 1 / (1 + exp(-1)), times the heat at row 0.5, column 1, cut to 0, 1
    assert found.scores.item() == 0
    assert "instances" not in tiny_model(predict_instances=False).eval()([{"image": image}])[0]
    assert tiny_model(benchmark_network_speed=True).eval()([{"image": image}]) == []


def test_the_model_trains():
    example = {
        "image": torch.ones(3, 4, 6),
        "sem_seg": torch.zeros(4, 6).long(),
        "center": torch.zeros(4, 6),
        "center_weights": torch.zeros(1, 4, 6),
        "offset": torch.zeros(2, 4, 6),
        "offset_weights": torch.zeros(1, 4, 6),
    }
    assert set(tiny_model()([example])) == {"loss_sem_seg", "loss_center", "loss_offset"}
    del example["offset"]
    with pytest.raises(KeyError, match="'offset' is missing"):
        tiny_model()([example])
