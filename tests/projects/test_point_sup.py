"""PointSup: points in boxes, points through transforms, losses at points."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import retinue.data.transforms as T
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.layers import ShapeSpec
from retinue.projects import get_config
from retinue.projects.point_sup import (
    MaskRCNNConvUpsamplePointSupHead,
    PointSupDatasetMapper,
    get_point_coords_from_point_annotation,
)
from retinue.projects.point_sup.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from retinue.projects.point_sup.register_point_annotations import (
    register_all_coco_train_points,
    register_coco_instances_with_points,
)
from retinue.structures import Boxes, BoxMode, Instances


def proposals(n):
    return Instances(
        (20, 20),
        proposal_boxes=Boxes(torch.tensor([[2.0, 4.0, 12.0, 14.0]]).expand(n, 4)),
        gt_classes=torch.ones(n, dtype=torch.long),
        gt_point_coords=torch.tensor([[[7.0, 9.0], [2.0, 14.0], [1.0, 9.0]]]).expand(n, 3, 2),
        gt_point_labels=torch.tensor([[1, 0, 1]]).expand(n, 3),
    )


def test_points_outside_the_proposal_are_ignored():
    points, labels = get_point_coords_from_point_annotation([proposals(0), proposals(1)])

    torch.testing.assert_close(points, torch.tensor([[[0.5, 0.5], [0.0, 1.0], [-0.1, 0.5]]]))
    assert labels.tolist() == [[1, 0, -1]]


@pytest.mark.parametrize("n", [0, 2])
def test_a_mask_head_learns_at_points(n):
    """Masks of 0 cost log 2 at each of the two points that count, of three."""
    head = MaskRCNNConvUpsamplePointSupHead(
        ShapeSpec(channels=2, height=4, width=4), num_classes=3, conv_dims=[2]
    )
    torch.nn.init.zeros_(head.predictor.weight)
    losses = head(torch.randn(n, 2, 4, 4), [proposals(n)])
    losses["loss_mask"].backward()

    want = math.log(2) * 2 / 3 if n else 0.0
    assert losses["loss_mask"].item() == pytest.approx(want)
    detections = Instances((20, 20), pred_classes=torch.ones(n, dtype=torch.long))
    (out,) = head.eval()(torch.randn(n, 2, 4, 4), [detections])
    assert out.pred_masks.shape == (n, 1, 8, 8)


def annotation(**changes):
    return {
        "bbox": [2.0, 4.0, 10.0, 10.0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "point_coords": [[3.0, 5.0], [9.0, 5.0]],
        "point_labels": [1, 0],
    } | changes


def test_points_go_through_transforms():
    transforms = T.TransformList([T.HFlipTransform(20), T.CropTransform(9, 0, 11, 20)])
    out = transform_instance_annotations(annotation(), transforms, (20, 11))

    assert out["point_coords"].tolist() == [[8, 5], [2, 5]]
    assert out["point_labels"].tolist() == [1, 0]
    outside = transform_instance_annotations(annotation(), [T.CropTransform(5, 0, 9, 9)], (9, 9))
    assert outside["point_labels"].tolist() == [-1, 0]


def test_points_become_ground_truth():
    both = [annotation(bbox_mode=BoxMode.XYXY_ABS)] * 2
    target = annotations_to_instances(both, (20, 20))
    assert target.gt_point_coords.shape == (2, 2, 2)
    assert target.gt_point_labels.shape == (2, 2)
    assert annotations_to_instances(both, (20, 20), 1).gt_point_labels.shape == (2, 1)
    assert annotations_to_instances(both, (20, 20), 5).gt_point_labels.shape == (2, 5)
    assert not annotations_to_instances([], (20, 20)).has("gt_point_coords")


def test_wrong_annotations_are_named():
    alone = annotation(bbox_mode=BoxMode.XYXY_ABS)
    del alone["point_labels"]
    with pytest.raises(AssertionError, match="belong together; got only point_coords"):
        annotations_to_instances([alone], (20, 20))
    fewer = annotation(bbox_mode=BoxMode.XYXY_ABS, point_coords=[[1.0, 1]], point_labels=[1])
    both = [annotation(bbox_mode=BoxMode.XYXY_ABS), fewer]
    with pytest.raises(ValueError, match=r"equally many points; got \[1, 2\]"):
        annotations_to_instances(both, (20, 20))


def test_the_mapper_moves_pixels_to_their_centres(tmp_path):
    Image.new("RGB", (20, 16)).save(tmp_path / "image.png")
    given = {
        "file_name": str(tmp_path / "image.png"),
        "annotations": [annotation(), annotation(iscrowd=1)],
    }
    mapper = PointSupDatasetMapper(
        True, augmentations=[T.ResizeTransform(16, 20, 32, 40)], image_format="BGR"
    )
    out = mapper(given)

    assert out["image"].shape == (3, 32, 40)
    assert out["instances"].gt_point_coords.tolist() == [[[7, 11], [19, 11]]]
    assert given["annotations"][0]["point_coords"] == [[3.0, 5.0], [9.0, 5.0]]
    tester = PointSupDatasetMapper(False, augmentations=[], image_format="BGR")
    assert "annotations" not in tester(given)


def test_crops_are_refused():
    cfg = get_config("projects/PointSup/configs/mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml")
    assert PointSupDatasetMapper(cfg).sample_points == 0
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match=r"INPUT\.CROP\.ENABLED to False"):
        PointSupDatasetMapper(cfg)


def test_datasets_with_points(tmp_path):
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 16}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100.0}
            | {k: v for k, v in annotation().items() if k.startswith(("bbox", "point"))}
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    del coco["annotations"][0]["bbox_mode"]
    (tmp_path / "points.json").write_text(json.dumps(coco))
    register_coco_instances_with_points(
        "point_sup_test", {}, str(tmp_path / "points.json"), str(tmp_path)
    )
    try:
        (record,) = DatasetCatalog.get("point_sup_test")
        assert record["annotations"][0]["point_labels"] == [1, 0]
        np.testing.assert_array_equal(record["annotations"][0]["point_coords"][1], [9, 5])
    finally:
        DatasetCatalog.remove("point_sup_test")
        MetadataCatalog.remove("point_sup_test")

    name = "coco_2017_train_points_n10_v1_without_masks"
    register_all_coco_train_points("somewhere")
    register_all_coco_train_points("somewhere")  # once is enough
    assert MetadataCatalog.get(name).image_root.startswith("somewhere")
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
