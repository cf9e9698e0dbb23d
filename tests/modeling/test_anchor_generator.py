import pytest
import torch

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.anchor_generator import (
    BufferList,
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    build_anchor_generator,
)
from retinue.structures import Boxes, RotatedBoxes


def test_anchors_by_hand():
    """A ratio of 4 halves the width and doubles the height; positions are 8 pixels apart."""
    generator = DefaultAnchorGenerator(
        sizes=[[16, 32]], aspect_ratios=[[1, 4]], strides=[8], offset=0
    )
    (anchors,) = generator([torch.zeros(1, 3, 1, 2)])

    assert anchors.tensor.tolist() == [
        [-8, -8, 8, 8],
        [-4, -16, 4, 16],
        [-16, -16, 16, 16],
        [-8, -32, 8, 32],
        [0, -8, 16, 8],
        [4, -16, 12, 16],
        [-8, -16, 24, 16],
        [0, -32, 16, 32],
    ]


def test_rows_come_before_columns():
    generator = DefaultAnchorGenerator(sizes=[2], aspect_ratios=[1.0], strides=[4])
    (anchors,) = generator([torch.zeros(1, 1, 2, 2)])

    assert anchors.get_centers().tolist() == [[2, 2], [6, 2], [2, 6], [6, 6]]


def test_rotated_anchors_by_hand():
    generator = RotatedAnchorGenerator(
        sizes=[32], aspect_ratios=[0.25], strides=[4], angles=[0, 45], offset=0.0
    )
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])

    assert type(anchors) is RotatedBoxes
    assert anchors.tensor.tolist() == [
        [0, 0, 64, 16, 0],
        [0, 0, 64, 16, 45],
        [4, 0, 64, 16, 0],
        [4, 0, 64, 16, 45],
    ]


@pytest.mark.parametrize("name", ["DefaultAnchorGenerator", "RotatedAnchorGenerator"])
def test_from_a_config(name):
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = name
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64]]
    shapes = [ShapeSpec(stride=4), ShapeSpec(stride=8)]
    generator = build_anchor_generator(cfg, shapes)
    anchors = generator([torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 2, 1)])

    num = 2 * 3 * (1 if name.startswith("Default") else 3)
    assert generator.num_anchors == [num, num]
    assert [len(a) for a in anchors] == [6 * num, 2 * num]
    assert anchors[0].tensor.shape[1] == generator.box_dim


def test_anchors_are_not_saved_and_follow_the_module():
    generator = DefaultAnchorGenerator(sizes=[[2], [4]], aspect_ratios=[1.0], strides=[4, 8])

    assert not generator.state_dict()
    assert [n for n, _ in generator.named_buffers()] == ["cell_anchors.0", "cell_anchors.1"]
    assert generator.to("meta").cell_anchors._buffers["0"].is_meta
    assert type(generator.cell_anchors) is BufferList


def test_an_empty_feature_map_has_no_anchors():
    generator = DefaultAnchorGenerator(sizes=[2], aspect_ratios=[1.0], strides=[4])
    (anchors,) = generator([torch.zeros(1, 1, 0, 5)])

    assert type(anchors) is Boxes
    assert anchors.tensor.shape == (0, 4)


class TestWrongInput:
    @pytest.mark.parametrize("error", [ValueError, AssertionError])
    def test_levels_that_do_not_fit_are_told_with_both_numbers(self, error):
        with pytest.raises(error, match="sizes has lists for 3 feature levels, but there are 2"):
            DefaultAnchorGenerator(sizes=[[1], [2], [3]], aspect_ratios=[1.0], strides=[4, 8])
        with pytest.raises(error, match="angles has lists for 2 feature levels, but there are 3"):
            RotatedAnchorGenerator(
                sizes=[1], aspect_ratios=[1.0], strides=[4, 8, 16], angles=[[0], [1]]
            )
        generator = DefaultAnchorGenerator(sizes=[1], aspect_ratios=[1.0], strides=[4, 8])
        with pytest.raises(error, match=r"2 feature levels \(strides \[4, 8\]\); got 1 feature"):
            generator([torch.zeros(1, 1, 2, 2)])

    @pytest.mark.parametrize("sizes", [[], 32, "32", None])
    def test_sizes_that_are_no_list(self, sizes):
        with pytest.raises(AssertionError, match="sizes must be a list of numbers"):
            DefaultAnchorGenerator(sizes=sizes, aspect_ratios=[1.0], strides=[4])

    @pytest.mark.parametrize("offset", [-0.1, 1.0])
    def test_offset(self, offset):
        with pytest.raises(AssertionError, match=r"offset must be in \[0, 1\); got"):
            DefaultAnchorGenerator(sizes=[1], aspect_ratios=[1.0], strides=[4], offset=offset)
