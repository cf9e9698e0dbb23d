from types import SimpleNamespace

import pytest
import torch

from retinue.layers.roi_align import ROIAlign
from retinue.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from retinue.structures import Boxes, RotatedBoxes

SCALES = (1 / 4, 1 / 8, 1 / 16)


def pyramid(num_images=2, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(num_images, channels, 64 >> k, 96 >> k, generator=generator, dtype=dtype)
        for k in range(3)
    ]


def boxes_of_all_sizes(num=12):
    low = torch.linspace(0, 100, num)[:, None].expand(num, 2)
    return torch.cat((low, low + torch.linspace(2, 280, num)[:, None]), dim=1)


@pytest.mark.parametrize(
    ("side", "level"),
    [(0, 2), (111, 2), (112, 3), (223, 3), (224, 4), (447, 4), (448, 5), (9000, 5)],
)
def test_levels_change_where_the_paper_says(side, level):
    """By hand from eq. 1: level 4 starts at 224 px, each level doubles, ends are clamped."""
    box = Boxes([[10.0, 20.0, 10.0 + side, 20.0 + side]])

    assert 2 + assign_boxes_to_levels([box], 2, 5, 224, 4).item() == level


def test_a_turned_inside_out_box_goes_to_the_finest_level():
    assert assign_boxes_to_levels([Boxes([[5.0, 5.0, 1.0, 9.0]])], 2, 5, 224, 4).item() == 0


def test_boxes_of_a_batch_in_one_table():
    boxes = [Boxes([[0, 1, 2, 3]]), Boxes([]), Boxes([[4, 5, 6, 7], [8, 9, 10, 11]])]
    table = convert_boxes_to_pooler_format(boxes)

    assert table.tolist() == [[0, 0, 1, 2, 3], [2, 4, 5, 6, 7], [2, 8, 9, 10, 11]]
    assert convert_boxes_to_pooler_format([RotatedBoxes([])]).shape == (0, 6)


def test_shapes_of_other_projects_need_a_tensor_only():
    curves = [SimpleNamespace(tensor=torch.full((n, 16), 7.0)) for n in (2, 0, 1)]
    table = convert_boxes_to_pooler_format(curves)

    assert table[:, 0].tolist() == [0, 0, 2]
    assert table.shape == (3, 17)


@pytest.mark.parametrize("kind", ["ROIAlign", "ROIAlignV2", "ROIAlignRotated", "ROIPool"])
def test_each_box_is_pooled_from_its_level(kind):
    features, boxes = pyramid(), boxes_of_all_sizes()
    if kind == "ROIAlignRotated":
        center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        lists = [RotatedBoxes(torch.cat((center, size, center[:, :1]), dim=1)) for _ in range(2)]
    else:
        lists = [Boxes(boxes), Boxes(boxes + 3)]
    pooler = ROIPooler((2, 3), SCALES, 2, kind)
    got = pooler(features, lists)

    rois = convert_boxes_to_pooler_format(lists)
    levels = assign_boxes_to_levels(lists, 2, 4, 224, 4)
    expected = [
        pooler.level_poolers[level](features[level], roi[None])[0]
        for roi, level in zip(rois, levels.tolist(), strict=True)
    ]
    assert set(levels.tolist()) == {0, 1, 2}
    assert got.shape == (24, 3, 2, 3)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scales", [(1 / 4,), SCALES])
def test_gradients_reach_every_feature_map(scales):
    features = [f.requires_grad_() for f in pyramid(1)[: len(scales)]]
    ROIPooler(2, scales, 0, "ROIAlignV2")(features, [Boxes(boxes_of_all_sizes())]).sum().backward()

    assert all(f.grad.abs().sum() > 0 for f in features)


@pytest.mark.parametrize("scales", [(1 / 4,), SCALES])
def test_no_boxes(scales):
    features = [f.requires_grad_() for f in pyramid()[: len(scales)]]
    pooler = ROIPooler(7, scales, 0, "ROIAlignV2")
    out = pooler(features, [Boxes([]), Boxes([])])
    out.sum().backward()

    assert out.shape == (0, 3, 7, 7)
    assert all(f.grad is not None and not f.grad.any() for f in features)
    assert pooler([f[:0] for f in features], []).shape == (0, 3, 7, 7)


def test_state_is_detectron2s():
    pooler = ROIPooler(7, SCALES, 2, "ROIAlignV2", canonical_box_size=112, canonical_level=3)

    assert (pooler.min_level, pooler.max_level) == (2, 4)
    assert (pooler.canonical_box_size, pooler.canonical_level) == (112, 3)
    assert pooler.output_size == (7, 7)
    assert not pooler.state_dict()
    assert [type(p) for p in pooler.level_poolers] == [ROIAlign] * 3
    assert [p.spatial_scale for p in pooler.level_poolers] == list(SCALES)


class TestWrongInput:
    @pytest.mark.parametrize(
        ("scales", "message"),
        [
            ((0.3,), r"powers of 2, at least one; got \[0\.3\]"),
            ((), "powers of 2, at least one"),
            ((1 / 4, 1 / 16), r"half of the one before.*\[0\.25, 0\.0625\]"),
            ((1 / 8, 1 / 4), "half of the one before"),
            ((2.0, 1.0), "the first at most 1"),
        ],
    )
    def test_scales(self, scales, message):
        with pytest.raises(AssertionError, match=message):
            ROIPooler(7, scales, 0, "ROIAlignV2")

    def test_other_arguments(self):
        with pytest.raises(ValueError, match="unknown pooler type 'ROIAlignV3'; did you mean"):
            ROIPooler(7, SCALES, 0, "ROIAlignV3")
        with pytest.raises(AssertionError, match=r"one or two whole numbers; got \(7, 7, 7\)"):
            ROIPooler((7, 7, 7), SCALES, 0, "ROIAlignV2")
        with pytest.raises(AssertionError, match="canonical_box_size must be positive; got 0"):
            ROIPooler(7, SCALES, 0, "ROIAlignV2", canonical_box_size=0)

    def test_levels_and_images(self):
        pooler = ROIPooler(7, SCALES, 0, "ROIAlignV2")
        boxes = Boxes(boxes_of_all_sizes())
        with pytest.raises(AssertionError, match="made for 3 feature levels; got 2 feature maps"):
            pooler(pyramid()[:2], [boxes, boxes])
        with pytest.raises(AssertionError, match="features are of 2 images; got boxes of 1"):
            pooler(pyramid(), [boxes])
        with pytest.raises(AssertionError, match="box_lists must be a list; got Boxes"):
            pooler(pyramid(), boxes)
