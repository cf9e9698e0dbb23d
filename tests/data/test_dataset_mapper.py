import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from retinue.config import get_cfg
from retinue.data import DatasetMapper, MetadataCatalog
from retinue.data import transforms as T
from retinue.data.datasets import load_coco_json
from retinue.structures import BitMasks, BoxMode


def mapper(is_train=True, augmentations=(), **more):
    return DatasetMapper(is_train, augmentations=augmentations, image_format="BGR", **more)


@pytest.fixture
def records(coco_folder):
    return load_coco_json(coco_folder / "ann.json", coco_folder, "things")


def test_training_input(records):
    before = copy.deepcopy(records[0])
    got = mapper(augmentations=[T.RandomFlip(1.0)], use_instance_mask=True)(records[0])

    assert records[0] == before
    assert sorted(got) == ["file_name", "height", "image", "image_id", "instances", "width"]
    pixels = np.asarray(Image.open(records[0]["file_name"]))
    assert got["image"].dtype == torch.uint8
    assert (got["image"].numpy() == pixels[:, ::-1, ::-1].transpose(2, 0, 1)).all()
    instances = got["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[26, 4, 36, 12]]  # 40 - 14, 40 - 4
    assert instances.gt_masks.area().tolist() == [40]


def test_crowds_are_left_out_and_nothing_is_fine(records):
    for record in records[4:]:
        instances = mapper(use_instance_mask=True)(record)["instances"]
        assert len(instances) == 0
        assert instances.gt_boxes.tensor.shape == (0, 4)


def test_inference_input(records):
    got = mapper(is_train=False, augmentations=[T.Resize((60, 80))])(records[0])
    assert sorted(got) == ["file_name", "height", "image", "image_id", "width"]
    assert got["image"].shape == (3, 60, 80)
    assert (got["height"], got["width"]) == (30, 40)


def test_masks_and_keypoints_only_where_wanted(records):
    records[0]["annotations"][0]["keypoints"] = [5.0, 5.0, 2]
    plain = mapper()(records[0])["instances"]
    assert not plain.has("gt_masks")
    assert not plain.has("gt_keypoints")
    both = mapper(use_instance_mask=True, use_keypoint=True, instance_mask_format="bitmask")
    instances = both(records[0])["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    assert instances.gt_keypoints.tensor.tolist() == [[[5, 5, 2]]]


def test_boxes_fit_cropped_masks(records):
    """Triangle (4, 4), (14, 4), (4, 12) cut at x = 9: its lower edge there is at y = 8."""
    crop = T.CropTransform(9, 0, 31, 30)
    loose = mapper(augmentations=[crop], use_instance_mask=True)(records[0])["instances"]
    assert loose.gt_boxes.tensor.tolist() == [[0, 4, 5, 12]]
    fitting = mapper(augmentations=[crop], use_instance_mask=True, recompute_boxes=True)
    assert fitting(records[0])["instances"].gt_boxes.tensor.tolist() == [[0, 4, 5, 8]]
    with pytest.raises(AssertionError, match="recompute_boxes needs use_instance_mask"):
        mapper(recompute_boxes=True)


def test_what_is_cropped_away_is_gone(records):
    crop = T.CropTransform(20, 0, 20, 30)
    got = mapper(augmentations=[crop], use_instance_mask=True, recompute_boxes=True)(records[0])
    assert len(got["instances"]) == 0


def test_grey_images_and_label_maps(coco_folder):
    path = str(coco_folder / "labels.png")
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    record = {"file_name": path, "sem_seg_file_name": path}
    got = DatasetMapper(True, augmentations=[T.RandomFlip(1.0)], image_format="L")(record)
    assert got["image"].shape == (1, 3, 4)
    assert got["sem_seg"].dtype == torch.int64
    assert (got["sem_seg"] == got["image"][0]).all()
    assert (got["width"], got["height"]) == (4, 3)
    assert DatasetMapper(False, augmentations=[], image_format="L")(record)["image"][0, 0, 1] == 1


def test_proposals(records):
    records[0].update(
        proposal_boxes=np.array([[0.0, 0, 4, 4], [5, 5, 9, 9]]),
        proposal_bbox_mode=BoxMode.XYXY_ABS,
        proposal_objectness_logits=np.array([3.0, 2.0]),
    )
    got = mapper(precomputed_proposal_topk=1)(records[0])
    assert got["proposals"].proposal_boxes.tensor.tolist() == [[0, 0, 4, 4]]


def test_errors_name_image_and_annotation(records):
    records[0]["annotations"][0]["segmentation"] = {"size": [3, 3], "counts": [9]}
    with pytest.raises(
        ValueError, match=r"0.png, annotation number 0 \(id 1\): a mask of \(3, 3\) pixels"
    ):
        mapper(use_instance_mask=True)(records[0])
    records[1]["annotations"][0]["segmentation"] = [[1.0, 2.0, 3.0, 4.0]]
    with pytest.raises(ValueError, match=r"image .*1.png: "):
        mapper(use_instance_mask=True)(records[1])


def test_unreadable_images(records, coco_folder, caplog):
    (coco_folder / "0.png").write_bytes(b"nonsense")
    (coco_folder / "1.png").unlink()
    for record in records[:2]:
        with pytest.raises(OSError, match=record["file_name"]):
            mapper()(record)
        assert mapper(skip_unreadable=True)(record) is None
    assert caplog.text.count("Skipping an image") == 2
    assert "SKIP_UNREADABLE" not in caplog.text, "advice that was taken already"


def test_from_a_config(records):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (60,)
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.CROP.ENABLED = True
    cfg.RETINUE.SKIP_UNREADABLE = True
    train = DatasetMapper(cfg, is_train=True)
    assert train.recompute_boxes
    assert train.skip_unreadable
    assert len(train.augmentations.augs) == 3
    assert train(records[0])["image"].shape[0] == 3
    test = DatasetMapper(cfg, is_train=False)
    assert not test.recompute_boxes
    assert len(test.augmentations.augs) == 1


def test_from_a_config_with_keypoints_and_proposals():
    cfg = get_cfg()
    cfg.MODEL.KEYPOINT_ON = cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS.TRAIN = ("people",)
    MetadataCatalog.get("people").set(keypoint_names=["l", "r"], keypoint_flip_map=[("l", "r")])
    train = DatasetMapper(cfg)
    assert train.keypoint_hflip_indices == [1, 0]
    assert train.proposal_topk == cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN


def test_a_mapper_travels_to_workers(records):
    twin = pickle.loads(pickle.dumps(mapper(augmentations=[T.Resize((9, 9))])))
    assert twin(records[0])["image"].shape == (3, 9, 9)
