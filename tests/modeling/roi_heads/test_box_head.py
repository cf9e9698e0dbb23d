import pytest
import torch

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling.roi_heads import FastRCNNConvFCHead, build_box_head

POOLED = ShapeSpec(channels=4, height=3, width=3)


@pytest.mark.parametrize(
    ("conv_dims", "fc_dims", "shape", "names"),
    [
        ([], [5, 6], (6,), ["fc1", "fc2"]),
        ([7], [5], (5,), ["conv1", "fc1"]),
        ([7, 8], [], (8, 3, 3), ["conv1", "conv2"]),
    ],
)
@pytest.mark.parametrize("num_regions", [0, 2])
def test_shapes_and_names(conv_dims, fc_dims, shape, names, num_regions):
    head = FastRCNNConvFCHead(POOLED, conv_dims=conv_dims, fc_dims=fc_dims)

    out = head(torch.zeros(num_regions, 4, 3, 3))

    assert out.shape == (num_regions, *shape)
    spec = head.output_shape
    assert (spec.channels, spec.height, spec.width) == (*shape, None, None)[:3]
    assert list(dict.fromkeys(k.split(".")[0] for k in head.state_dict())) == names


def test_a_norm_takes_the_place_of_the_bias():
    head = FastRCNNConvFCHead(POOLED, conv_dims=[32], fc_dims=[5], conv_norm="GN")

    assert sorted(head.state_dict()) == [
        "conv1.norm.bias",
        "conv1.norm.weight",
        "conv1.weight",
        "fc1.bias",
        "fc1.weight",
    ]


def test_from_a_config():
    cfg = get_cfg()
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16

    head = build_box_head(cfg, POOLED)

    assert [fc.out_features for fc in head.fcs] == [16, 16]


def test_a_head_has_layers():
    with pytest.raises(AssertionError, match="name at least one layer"):
        FastRCNNConvFCHead(POOLED, conv_dims=[], fc_dims=[])
