# ruff: noqa: NPY002
import numpy as np
import pytest
import torch
from hotcoco import mask as runs
from PIL import Image

from retinue.config import get_cfg
from retinue.data import MetadataCatalog
from retinue.data import detection_utils as utils
from retinue.data import transforms as T
from retinue.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from retinue.utils.errors import InputError

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
TRIANGLE = [0.0, 0.0, 8.0, 0.0, 0.0, 8.0]
NOTHING = T.TransformList([])


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    return str(path)


def test_formats_that_are_none(picture):
    with pytest.raises(ValueError, match=r"INPUT.FORMAT\): expected 'BGR', .*; got 'RBG'"):
        utils.read_image(picture, "RBG")


def test_sixteen_bits_become_eight(tmp_path):
    values = np.array([[0, 255], [256, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    path = str(tmp_path / "deep.png")
    assert utils.read_image(path, "RGB")[..., 0].tolist() == [[0, 0], [1, 255]]
    assert (utils.read_image(path) == values).all()


def test_formats(picture):
    assert (utils.read_image(picture) == PIXELS).all()
    assert (utils.read_image(picture, "RGB") == PIXELS).all()
    assert (utils.read_image(picture, "BGR") == PIXELS[..., ::-1]).all()
    assert utils.read_image(picture, "L").shape == (2, 3, 1)
    yuv = utils.read_image(picture, "YUV-BT.601")
    np.testing.assert_allclose(yuv[0, 0, 0], (0.587 * 1 + 0.114 * 2) / 255)


@pytest.mark.parametrize("format", ["RGB", "BGR", "YUV-BT.601"])
def test_back_to_rgb(picture, format):
    image = utils.read_image(picture, format)
    np.testing.assert_allclose(utils.convert_image_to_rgb(image, format), PIXELS, atol=0.01)
    tensor = torch.from_numpy(image.copy())
    np.testing.assert_allclose(utils.convert_image_to_rgb(tensor, format), PIXELS, atol=0.01)


def test_grey_and_others_to_rgb():
    grey = utils.convert_image_to_rgb(PIXELS[..., :1], "L")
    assert (grey == PIXELS[..., :1]).all()
    assert grey.shape == PIXELS.shape
    assert utils.convert_image_to_rgb(PIXELS, "YCbCr").shape == PIXELS.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_come_upright(tmp_path, orientation):
    """EXIF 6: what is the first row in the file is to be seen as the right column, and so on."""
    path = tmp_path / "a.png"
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif)
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: np.rot90(PIXELS.transpose(1, 0, 2), 2),
        8: np.rot90(PIXELS),
    }[orientation]
    assert (utils.read_image(str(path), "RGB") == upright).all()


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.jpg does not exist; check the image folder"):
        utils.read_image(str(tmp_path / "gone.jpg"))


@pytest.mark.parametrize("end", [0, 20, -30])
def test_a_damaged_image_is_named(tmp_path, end):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(
        OSError, match=r"cut.jpg can't be read \(.*RETINUE.SKIP_UNREADABLE"
    ) as caught:
        utils.read_image(str(path), "RGB")
    assert isinstance(caught.value, utils.UnreadableImageError)


def test_sizes_are_compared():
    record = {"file_name": "a.jpg"}
    utils.check_image_size(record, PIXELS)
    assert (record["width"], record["height"]) == (3, 2)
    with pytest.raises(ValueError, match=r"a.jpg is 3 wide and 2 high; .* say 2 and 3"):
        utils.check_image_size({"file_name": "a.jpg", "width": 2, "height": 3}, PIXELS)


def annotation(**more):
    return {"bbox": [1, 2, 4, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 3, **more}


def test_boxes_are_moved_and_clipped():
    anno = annotation(bbox=[1, 2, 40, 6])
    moved = utils.transform_instance_annotations(
        anno, [T.ResizeTransform(10, 20, 20, 40)], (20, 40)
    )
    assert moved is anno
    assert moved["bbox"].tolist() == [2, 4, 40, 16]
    assert moved["bbox_mode"] == BoxMode.XYXY_ABS


def test_polygons_are_moved_and_the_source_stays():
    source = np.array(TRIANGLE)
    anno = annotation(segmentation=[source])
    utils.transform_instance_annotations(anno, T.TransformList([T.HFlipTransform(20)]), (10, 20))
    assert anno["segmentation"][0].tolist() == [20, 0, 12, 0, 20, 8]
    assert source.tolist() == TRIANGLE


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_becomes_a_bitmap(compressed):
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[2:5, 3:7] = 1
    rle = runs.encode(np.asfortranarray(mask))
    if not compressed:
        columns = mask.T.reshape(-1)
        edges = np.flatnonzero(np.diff(columns)) + 1
        rle = {"size": [10, 20], "counts": np.diff([0, *edges, 200]).tolist()}
    anno = annotation(segmentation=rle)
    utils.transform_instance_annotations(anno, [T.HFlipTransform(20)], (10, 20))
    assert (anno["segmentation"] == mask[:, ::-1]).all()


@pytest.mark.parametrize(
    ("segmentation", "transforms", "match"),
    [
        ({"size": [5, 4], "counts": [20]}, [], r"a mask of \(5, 4\) pixels doesn't fit its image"),
        (
            {"size": [5, 4], "counts": [20]},
            [T.ResizeTransform(10, 20, 30, 40)],
            r"a mask of \(5, 4\) pixels doesn't fit its image: ResizeTransform",
        ),
        (
            {"size": [10, 20], "counts": [3]},
            [],
            r"size \[10, 20\] can't be decoded: the counts add",
        ),
        ({"size": [10, 20]}, [], r"size \[10, 20\] can't be decoded"),
        ("polygon", [], "of type str is not understood"),
    ],
)
def test_wrong_masks(segmentation, transforms, match):
    with pytest.raises(ValueError, match=match):
        utils.transform_instance_annotations(
            annotation(segmentation=segmentation), transforms, (10, 20)
        )


def test_keypoints_are_mirrored_and_those_outside_forgotten():
    points = [1, 1, 2, 5, 5, 1, 18, 2, 2]
    transforms = T.TransformList([T.CropTransform(0, 0, 10, 10), T.HFlipTransform(10)])
    got = utils.transform_keypoint_annotations(points, transforms, (10, 10), [0, 2, 1])
    assert got.tolist() == [[9, 1, 2], [0, 0, 0], [5, 5, 1]]
    twice = T.TransformList([T.HFlipTransform(10)] * 2)
    same = utils.transform_keypoint_annotations(points[:6], twice, (10, 10), [1, 0])
    assert same.tolist() == [[1, 1, 2], [5, 5, 1]]


def test_mirrored_keypoints_need_names():
    flip = T.TransformList([T.HFlipTransform(10)])
    with pytest.raises(ValueError, match="can't be mirrored without keypoint_hflip_indices"):
        utils.transform_keypoint_annotations([1, 1, 2], flip, (10, 10))
    with pytest.raises(ValueError, match="has 1 keypoints, the metadata names 2"):
        utils.transform_keypoint_annotations([1, 1, 2], flip, (10, 10), [1, 0])


def test_instances():
    annos = [
        annotation(segmentation=[TRIANGLE], keypoints=np.ones((2, 3))),
        annotation(segmentation=[TRIANGLE], category_id=0),
    ]
    instances = utils.annotations_to_instances(annos, (10, 20))
    assert instances.gt_boxes.tensor.tolist() == [[1, 2, 5, 8]] * 2
    assert instances.gt_classes.tolist() == [3, 0]
    assert isinstance(instances.gt_masks, PolygonMasks)
    assert instances.gt_keypoints.tensor[1].abs().sum() == 0  # not annotated: not labelled
    instances = utils.annotations_to_instances(annos[::-1], (10, 20))
    assert instances.gt_keypoints.tensor[0].abs().sum() == 0


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_no_instances(mask_format):
    instances = utils.annotations_to_instances([], (10, 20), mask_format)
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.dtype == torch.int64
    assert not instances.has("gt_masks")


def test_any_mask_in_any_format():
    """A square of 3 x 4 pixels, written three ways, is the same in both formats."""
    square = np.zeros((10, 20), dtype=np.uint8)
    square[2:5, 3:7] = 1
    polygon = [3.0, 2, 7, 2, 7, 5, 3, 5]
    ways = [[polygon], runs.encode(np.asfortranarray(square)), square]
    annos = [annotation(segmentation=way) for way in ways]

    bitmaps = utils.annotations_to_instances(annos, (10, 20), "bitmask").gt_masks
    assert isinstance(bitmaps, BitMasks)
    assert (bitmaps.tensor.numpy() == square).all()
    polygons = utils.annotations_to_instances(annos, (10, 20), "polygon").gt_masks
    assert polygons.area().tolist() == [12, 12, 12]


def test_wrong_instances():
    with pytest.raises(ValueError, match=r"1 of 2 annotations have no segmentation .* number 1"):
        utils.annotations_to_instances([annotation(segmentation=[TRIANGLE]), annotation()], (9, 9))
    with pytest.raises(InputError, match="'bitmap'; did you mean 'bitmask'"):
        utils.annotations_to_instances([annotation(segmentation=[TRIANGLE])], (9, 9), "bitmap")
    for mask_format in ("polygon", "bitmask"):
        with pytest.raises(ValueError, match="of type int is not understood"):
            utils.annotations_to_instances([annotation(segmentation=3)], (9, 9), mask_format)
    wrong = annotation(segmentation={"size": [3, 3], "counts": [9]})
    with pytest.raises(ValueError, match=r"\(3, 3\) pixels doesn't fit its image of \(9, 9\)"):
        utils.annotations_to_instances([wrong], (9, 9), "bitmask")


def test_rotated_instances():
    anno = annotation(bbox=[5, 5, 4, 2, 30], bbox_mode=BoxMode.XYWHA_ABS)
    instances = utils.annotations_to_instances_rotated([anno], (10, 20))
    assert instances.gt_boxes.tensor.tolist() == [[5, 5, 4, 2, 30]]
    empty = utils.annotations_to_instances_rotated([], (10, 20))
    assert empty.gt_boxes.tensor.shape == (0, 5)


def test_filtering():
    instances = Instances((10, 20))
    instances.gt_boxes = Boxes([[0, 0, 5, 5], [3, 3, 3, 9], [0, 0, 5, 5]])
    instances.gt_masks = PolygonMasks([[TRIANGLE], [TRIANGLE], []])
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert mask.tolist() == [True, False, False]
    assert len(kept) == 1
    assert len(utils.filter_empty_instances(instances, by_mask=False)) == 2
    with pytest.raises(AssertionError, match="set by_box, by_mask or both"):
        utils.filter_empty_instances(instances, by_box=False, by_mask=False)


def test_proposals():
    record = {
        "proposal_boxes": np.array([[0.0, 0, 4, 4], [5, 5, 5, 9], [30, 2, 6, 6]]),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "proposal_objectness_logits": np.array([3.0, 2.0, 1.0]),
    }
    flip = T.TransformList([T.HFlipTransform(20)])
    utils.transform_proposals(record, (10, 20), flip, proposal_topk=5)
    assert list(record) == ["proposals"]
    assert record["proposals"].proposal_boxes.tensor.tolist() == [[16, 0, 20, 4], [0, 2, 14, 6]]
    assert record["proposals"].objectness_logits.tolist() == [3, 1]
    utils.transform_proposals(record, (10, 20), flip, proposal_topk=5)  # nothing to do


def test_keypoint_indices():
    meta = MetadataCatalog.get("people")
    meta.set(keypoint_names=["nose", "l", "r"], keypoint_flip_map=[("l", "r")])
    assert utils.create_keypoint_hflip_indices("people") == [0, 2, 1]
    with pytest.raises(AttributeError, match="'keypoint_names'"):
        utils.create_keypoint_hflip_indices(["people", "nobody"])


def test_metadata_must_agree():
    MetadataCatalog.get("a").thing_classes = ["x", "y"]
    MetadataCatalog.get("b").thing_classes = ["x", "z"]
    utils.check_metadata_consistency("thing_classes", ["a"])
    with pytest.raises(
        ValueError, match="'a' has 2 entries, number 1 being 'y', 'b' differs: 2 ent"
    ):
        utils.check_metadata_consistency("thing_classes", ["a", "b"])
    MetadataCatalog.get("a").ignore_label = 255
    MetadataCatalog.get("b").ignore_label = 0
    with pytest.raises(ValueError, match="same ignore_label; 'a' has 255"):
        utils.check_metadata_consistency("ignore_label", ["a", "b"])


def test_federated_weights():
    rows = [{"id": 2, "image_count": 9}, {"id": 1, "image_count": 4}]
    MetadataCatalog.get("rare").class_image_count = rows
    assert utils.get_fed_loss_cls_weights("rare", 0.5).tolist() == [2, 3]


def test_crops_around_an_instance():
    for seed in range(20):
        np.random.seed(seed)
        crop = utils.gen_crop_transform_with_instance((4, 6), (10, 20), annotation())
        assert crop.x0 <= 3 <= crop.x0 + crop.w
        assert crop.y0 <= 5 <= crop.y0 + crop.h
        assert 0 <= crop.x0 <= 14
        assert 0 <= crop.y0 <= 6
    with pytest.raises(AssertionError, match="centre outside an image"):
        utils.gen_crop_transform_with_instance((4, 4), (4, 9), annotation(bbox=[30, 2, 4, 4]))
    with pytest.raises(AssertionError, match=r"a crop of \(40, 4\) is larger than the image"):
        utils.gen_crop_transform_with_instance((40, 4), (10, 20), annotation())


def test_augmentations_of_a_config():
    cfg = get_cfg()
    assert list(map(str, utils.build_augmentation(cfg, True))) == [
        "ResizeShortestEdge(short_edge_length=(800,), max_size=1333, sample_style='choice')",
        "RandomFlip()",
    ]
    assert len(utils.build_augmentation(cfg, False)) == 1
    cfg.INPUT.RANDOM_FLIP = "none"
    assert len(utils.build_augmentation(cfg, True)) == 1
    cfg.INPUT.RANDOM_FLIP = "vertical"
    assert utils.build_augmentation(cfg, True)[1].vertical
    cfg.INPUT.RANDOM_FLIP = "horizontl"
    with pytest.raises(
        ValueError, match=r"INPUT.RANDOM_FLIP 'horizontl'; did you mean 'horizontal'"
    ):
        utils.build_augmentation(cfg, True)
