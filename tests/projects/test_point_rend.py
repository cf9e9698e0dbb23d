"""PointRend by hand, and whole models against their own conventions."""

import random

import numpy as np
import pytest
import torch

from retinue.layers import ShapeSpec
from retinue.modeling import build_model
from retinue.projects import get_config
from retinue.projects.point_rend import ColorAugSSDTransform, mask_head, point_features
from retinue.projects.point_rend import semantic_seg as semantic
from retinue.projects.point_rend.color_augmentation import bgr_to_hsv, hsv_to_bgr
from retinue.projects.point_rend.mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from retinue.projects.point_rend.point_head import (
    ImplicitPointHead,
    StandardPointHead,
    roi_mask_point_loss,
)
from retinue.structures import BitMasks, Boxes, Instances, PolygonMasks

INSTANCE = "projects/PointRend/configs/InstanceSegmentation"


def test_a_plane_is_read_exactly_between_cell_centres():
    """Features that are x + 10 y at cell centres: interpolation is exact, (x, y) not (y, x)."""
    x, y = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="xy")
    plane = (x + 10 * y)[None, None]  # (1, 1, 3, 4)
    points = torch.tensor([[[1.5 / 4, 0.5 / 3], [2.0 / 4, 1.5 / 3]]])  # centre of (1, 0); (1.5, 1)
    read = point_features.point_sample(plane, points, align_corners=False)

    torch.testing.assert_close(read, torch.tensor([[[1.0, 11.5]]]))


def test_a_regular_grid_has_cell_centres_row_by_row():
    points = point_features.generate_regular_grid_point_coords(3, 2, "cpu")
    want = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]

    assert points.tolist() == [want] * 3


def test_the_most_uncertain_cells_come_with_their_centres():
    uncertainty = torch.full((1, 1, 2, 4), -9.0)
    uncertainty[0, 0, 1, 2] = 0.0
    cells, points = point_features.get_uncertain_point_coords_on_grid(uncertainty, 1)

    assert cells.tolist() == [[6]]
    assert points.tolist() == [[[2.5 / 4, 1.5 / 2]]]
    all_cells, _ = point_features.get_uncertain_point_coords_on_grid(uncertainty, 100)
    assert sorted(all_cells[0].tolist()) == list(range(8))


def test_training_points_gather_where_the_mask_is_uncertain():
    """Left half sure outside, right half sure inside; the border is read as half outside the map.

    Certain, at |logit| 8, is what lies between the borders' and the edge's cell halves: 3/8 of all.
    """
    logits = torch.tensor([-8.0, -8.0, 8.0, 8.0]).expand(1, 1, 4, 4)
    torch.manual_seed(0)
    points = point_features.get_uncertain_point_coords_with_randomness(
        logits, lambda x: -x.abs(), 100, 3, 0.75
    )
    read = point_features.point_sample(logits, points, align_corners=False)[0, 0].abs()

    assert points.shape == (1, 100, 2)
    assert read[:75].max() < 6
    assert (read[75:] > 7.9).float().mean() > 0.2


def test_ratios_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"OVERSAMPLE_RATIO must be .*got 0 and 0\.5"):
        point_features.get_uncertain_point_coords_with_randomness(
            torch.zeros(1, 1, 2, 2), torch.neg, 4, 0, 0.5
        )


def test_points_of_a_box_in_pixels():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    points = torch.tensor([[[0.0, 0.0], [0.5, 0.25], [1.0, 1.0]]])
    pixels = point_features.get_point_coords_wrt_image(boxes, points)

    assert pixels.tolist() == [[[10, 20], [20, 30], [30, 60]]]


def test_labels_are_the_mask_at_the_point():
    masks = torch.zeros(1, 4, 6, dtype=torch.bool)
    masks[0, 1, 2] = True  # the pixel from (2, 1) to (3, 2)
    one = Instances((4, 6), gt_masks=BitMasks(masks))
    none = Instances((4, 6), gt_masks=BitMasks(masks[:0]))
    points = torch.tensor([[[2.5, 1.5], [3.0, 1.5], [4.5, 1.5]]])
    labels = point_features.sample_point_labels([none, one], points)

    torch.testing.assert_close(labels, torch.tensor([[1.0, 0.5, 0.0]]))
    assert point_features.sample_point_labels([none], points[:0]).shape == (0, 3)
    polygons = Instances((4, 6), gt_masks=PolygonMasks([[np.array([0.0, 0, 2, 0, 2, 2])]]))
    with pytest.raises(AssertionError, match=r"INPUT\.MASK_FORMAT to 'bitmask'"):
        point_features.sample_point_labels([polygons], points)


def test_point_loss_by_hand():
    """Logits 0 give log 2 a point; an ignored point counts in the divisor only."""
    instances = [Instances((1, 1), gt_classes=torch.tensor([1]))]
    logits = torch.zeros(1, 3, 4)
    labels = torch.tensor([[0.0, 1.0, 1.0, -1.0]])

    assert roi_mask_point_loss(logits, instances, labels).item() == pytest.approx(0.75 * np.log(2))
    empty = [Instances((1, 1), gt_classes=torch.zeros(0, dtype=torch.long))]
    assert roi_mask_point_loss(logits[:0], empty, labels[:0]).item() == 0


def test_uncertainty_of_masks_and_of_label_maps():
    logits = torch.tensor([[[-3.0], [1.0]], [[0.5], [4.0]]])  # (R=2, K=2, P=1)
    of_class = mask_head.calculate_uncertainty(logits, torch.tensor([0, 1]))
    assert of_class.tolist() == [[[-3]], [[-4]]]
    assert semantic.calculate_uncertainty(logits).tolist() == [[[-4]], [[-3.5]]]


def test_the_implicit_head_is_a_network_with_given_weights():
    head = ImplicitPointHead(
        ShapeSpec(channels=2),
        num_classes=1,
        channels=3,
        num_layers=2,
        positional_encoding_enabled=False,
    )
    assert head.num_params == 2 * 3 + 3 * 1 + 3 + 1
    first, last = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    parameters = torch.cat(
        [x.flatten() for x in (first.weight, last.weight, first.bias, last.bias)]
    )
    features = torch.randn(4, 2, 5)
    got = head(features, torch.zeros(4, 5, 2), parameters.expand(4, -1))
    want = last(first(features.transpose(1, 2)).relu()).transpose(1, 2)

    torch.testing.assert_close(got, want)
    assert head(features[:0], torch.zeros(0, 5, 2), parameters.expand(0, -1)).shape == (0, 1, 5)


def test_an_implicit_head_has_to_see_something():
    with pytest.raises(AssertionError, match="IMAGE_FEATURE_ENABLED or POS_ENC_ENABLED"):
        ImplicitPointHead(
            ShapeSpec(channels=2),
            num_classes=1,
            channels=3,
            num_layers=2,
            image_feature_enabled=False,
            positional_encoding_enabled=False,
        )


def small_head(kind=PointRendMaskHead, **changes):
    shape = ShapeSpec(channels=4)
    point_head = StandardPointHead(shape, num_classes=2, fc_dims=[8])
    region = ShapeSpec(channels=4, height=4, width=4)
    arguments = {
        "feature_scales": {"p2": 0.25},
        "roi_pooler_in_features": ["p2"],
        "roi_pooler_size": 4,
        "coarse_head": mask_head.ConvFCHead(
            region, conv_dim=4, fc_dims=[8], output_shape=(2, 3, 3)
        ),
        "point_head": point_head,
        "mask_point_in_features": ["p2"],
        "mask_point_subdivision_init_resolution": 3,
        "mask_point_subdivision_steps": 2,
        "mask_point_subdivision_num_points": 10,
    }
    return kind(**(arguments | changes))


@pytest.mark.parametrize("counts", [(2, 1), (0, 3), (0, 0)])
def test_a_mask_head_from_plain_arguments(counts):
    head = small_head().eval()
    features = {"p2": torch.randn(2, 4, 8, 8)}
    found = [
        Instances(
            (32, 32),
            pred_boxes=Boxes(torch.tensor([[2.0, 3.0, 20.0, 30.0]]).expand(n, 4)),
            pred_classes=torch.ones(n, dtype=torch.long),
        )
        for n in counts
    ]
    with torch.no_grad():
        out = head(features, found)

    assert [tuple(o.pred_masks.shape) for o in out] == [(n, 1, 12, 12) for n in counts]


@pytest.mark.parametrize("n", [0, 2])
def test_a_mask_head_trains(n):
    head = small_head()
    boxes = Boxes(torch.tensor([[2.0, 3.0, 20.0, 30.0]]).expand(n, 4))
    proposals = Instances(
        (32, 32),
        proposal_boxes=boxes,
        gt_classes=torch.ones(n, dtype=torch.long),
        gt_masks=BitMasks(torch.ones(n, 32, 32, dtype=torch.bool)),
    )
    losses = head({"p2": torch.randn(1, 4, 8, 8)}, [proposals])
    sum(losses.values()).backward()

    assert set(losses) == {"loss_mask", "loss_mask_point"}
    assert all(torch.isfinite(x) for x in losses.values())
    assert (n == 0) == (sum(losses.values()).item() == 0)


def test_steps_that_would_predict_every_cell_are_left_out():
    head = small_head(mask_point_subdivision_num_points=4 * 6**2)
    assert head.mask_point_subdivision_init_resolution == 12
    assert head.mask_point_subdivision_steps == 0


def test_the_implicit_form_starts_from_a_square_number_of_cells():
    with pytest.raises(AssertionError, match=r"must be a square number; got 785; 784 is one"):
        small_head(
            ImplicitPointRendMaskHead,
            coarse_head=None,
            parameter_head=torch.nn.Identity(),
            regularizer=1e-5,
            mask_point_subdivision_num_points=785,
        )


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (f"{INSTANCE}/pointrend_rcnn_R_50_FPN_1x_coco.yaml", "MODEL.ROI_HEADS.NUM_CLASSES"),
        (f"{INSTANCE}/implicit_pointrend_R_50_FPN_1x_coco.yaml", "MODEL.ROI_HEADS.NUM_CLASSES"),
        (
            "projects/PointRend/configs/SemanticSegmentation/Base-PointRend-Semantic-FPN.yaml",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        ),
    ],
)
def test_numbers_of_classes_that_differ_are_named(path, key):
    cfg = get_config(path)
    cfg.MODEL.DEVICE = "meta"
    cfg.merge_from_list([key, 3])
    with torch.device("meta"), pytest.raises(AssertionError, match=f"NUM_CLASSES must be {key}"):
        build_model(cfg)


def test_configs_and_checkpoints_of_the_first_version_are_read():
    cfg = get_config(f"{INSTANCE}/pointrend_rcnn_R_50_FPN_1x_coco.yaml")
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.ROI_HEADS.NAME = "PointRendROIHeads"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "CoarseMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlign"
    cfg.freeze()
    with torch.device("meta"):
        heads = build_model(cfg).roi_heads
    assert isinstance(heads.mask_head, PointRendMaskHead)
    old = {
        k.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        .replace("mask_head.coarse_head", "mask_coarse_head")
        .replace("mask_head.point_head", "mask_point_head"): v
        for k, v in heads.state_dict().items()
    }
    assert "mask_point_head.fc1.weight" in old
    assert "mask_coarse_head.coarse_mask_fc1.weight" in old
    result = heads.load_state_dict(old)
    assert not result.missing_keys
    assert not result.unexpected_keys


def test_hue_saturation_value_by_hand():
    """Red is hue 0, green 60 steps of two degrees, blue 120; grey has no saturation."""
    pixels = np.array([[[0, 0, 255], [0, 255, 0], [255, 0, 0], [9, 9, 9], [0, 128, 255]]], np.uint8)
    hue, saturation, value = bgr_to_hsv(pixels)

    np.testing.assert_allclose(hue[0], [0, 60, 120, 0, 30 * 128 / 255], rtol=1e-6)
    np.testing.assert_allclose(saturation[0], [255, 255, 255, 0, 255])
    np.testing.assert_allclose(value[0], [255, 255, 255, 9, 255])


def test_hue_saturation_value_and_back():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(hsv_to_bgr(*bgr_to_hsv(image)), image)


def test_colour_changes_leave_geometry_alone_and_follow_the_channel_order():
    image = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    random.seed(3)
    bgr = ColorAugSSDTransform("BGR").apply_image(image)
    random.seed(3)
    rgb = ColorAugSSDTransform("RGB").apply_image(image[:, :, ::-1])

    assert bgr.dtype == np.uint8
    assert (bgr != image).any()
    np.testing.assert_array_equal(rgb[:, :, ::-1], bgr)
    points = np.array([[1.0, 2.0]])
    assert ColorAugSSDTransform("RGB").apply_coords(points) is points
    with pytest.raises(AssertionError, match="must be 'BGR' or 'RGB'; got 'L'"):
        ColorAugSSDTransform("L")
