import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import FrozenBatchNorm2d, ShapeSpec
from retinue.modeling import BACKBONE_REGISTRY, Backbone, build_backbone
from retinue.modeling.backbone import ResNet, make_stage
from retinue.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    build_resnet_backbone,
)
from retinue.utils.errors import InputError, UnknownNameError


def small_resnet(**kwargs):
    stem = BasicStem(3, 8)
    stages = [
        make_stage(BasicBlock, 1, in_channels=8, out_channels=8),
        make_stage(BasicBlock, 2, in_channels=8, out_channels=16, stride_per_block=[2, 1]),
    ]
    return ResNet(stem, stages, **kwargs)


def resnet_config(**options):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for name, value in options.items():
        setattr(cfg.MODEL.RESNETS, name, value)
    return cfg


def build_on_meta(cfg):
    with torch.device("meta"):
        return build_resnet_backbone(cfg, ShapeSpec(channels=3))


# --------------------------------------------------------------------------------------- blocks


def test_a_block_without_branch_is_its_shortcut():
    """By hand: with a silent last convolution, relu(x + 0) remains."""
    block = BottleneckBlock(4, 4, bottleneck_channels=2, norm="")
    nn.init.zeros_(block.conv3.weight)
    x = torch.tensor([-1.0, 0.0, 2.0, 3.0]).view(1, 4, 1, 1)

    assert block.shortcut is None
    assert block(x).flatten().tolist() == [0, 0, 2, 3]


def test_a_deformable_block_begins_as_an_ordinary_one():
    """Zero offsets sample where a plain convolution does; a zero weight is sigmoid(0) = 1/2."""
    torch.manual_seed(0)
    x = torch.rand(1, 4, 6, 5)
    plain = BottleneckBlock(4, 8, bottleneck_channels=4, norm="")
    for modulated, factor in ((False, 1.0), (True, 2.0)):
        deformable = DeformBottleneckBlock(
            4, 8, bottleneck_channels=4, norm="", deform_modulated=modulated
        )
        deformable.load_state_dict(plain.state_dict(), strict=False)
        with torch.no_grad():
            deformable.conv2.weight *= factor

        torch.testing.assert_close(deformable(x), plain(x))


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, (2, 1)), (False, (1, 2))])
def test_the_stride_is_in_the_convolution_asked_for(in_1x1, strides):
    block = BottleneckBlock(4, 8, bottleneck_channels=4, stride=2, stride_in_1x1=in_1x1)

    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
    assert block(torch.rand(1, 4, 8, 6)).shape == (1, 8, 4, 3)


def test_dilation_keeps_the_size_and_groups_split_the_channels():
    block = BottleneckBlock(4, 8, bottleneck_channels=4, dilation=2, num_groups=2)

    assert block.conv2.weight.shape == (4, 2, 3, 3)
    assert block(torch.rand(1, 4, 7, 5)).shape == (1, 8, 7, 5)


# --------------------------------------------------------------------------------------- stages


def test_values_per_block_go_to_their_block():
    blocks = ResNet.make_stage(
        BottleneckBlock,
        3,
        in_channels=4,
        out_channels=8,
        bottleneck_channels=2,
        stride_per_block=[2, 1, 1],
        dilation_per_block=[1, 1, 2],
    )

    assert [block.in_channels for block in blocks] == [4, 8, 8]
    assert [block.stride for block in blocks] == [2, 1, 1]
    assert [block.conv2.dilation[0] for block in blocks] == [1, 1, 2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stride_per_block": [2]}, "stride_per_block needs one value for each of 2 blocks; got 1"),
        ({"stride": 1, "stride_per_block": [1, 1]}, "give stride or stride_per_block, not both"),
    ],
)
def test_wrong_values_per_block_are_refused(kwargs, message):
    with pytest.raises(InputError, match=message):
        make_stage(BasicBlock, 2, in_channels=4, out_channels=4, **kwargs)


def test_stride_of_the_first_block_as_projects_of_detectron2_03_give_it():
    for blocks in (
        make_stage(BasicBlock, 3, 2, in_channels=4, out_channels=8),
        make_stage(BasicBlock, 3, first_stride=2, in_channels=4, out_channels=8),
        make_stage(
            block_class=BasicBlock, num_blocks=3, first_stride=2, in_channels=4, out_channels=8
        ),
    ):
        assert [(b.in_channels, b.stride) for b in blocks] == [(4, 2), (8, 1), (8, 1)]
    (block,) = make_stage(block_class=BasicBlock, num_blocks=1, in_channels=4, out_channels=4)
    assert block.stride == 1
    with pytest.raises(TypeError, match="positional arguments"):
        make_stage(BasicBlock, 3, 2, 4, 8)


@pytest.mark.parametrize(
    ("depth", "num_blocks", "channels"),
    [(18, [2, 2, 2, 2], 512), (34, [3, 4, 6, 3], 512), (101, [3, 4, 23, 3], 2048)],
)
def test_default_stages_are_those_of_the_paper(depth, num_blocks, channels):
    """He et al. (2015), table 1."""
    with torch.device("meta"):
        stages = ResNet.make_default_stages(depth)

    assert [len(stage) for stage in stages] == num_blocks
    assert [stage[0].stride for stage in stages] == [1, 2, 2, 2]
    assert stages[-1][-1].out_channels == channels


def test_a_depth_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="unknown ResNet depth '51'"):
        ResNet.make_default_stages(51)


# -------------------------------------------------------------------------------------- networks


def test_outputs_have_the_shapes_that_output_shape_tells():
    model = small_resnet(out_features=["stem", "res2", "res3"])
    outputs = model(torch.rand(2, 3, 32, 24))

    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        "stem": (2, 8, 8, 6),
        "res2": (2, 8, 8, 6),
        "res3": (2, 16, 4, 3),
    }
    for name, shape in model.output_shape().items():
        assert shape.channels == outputs[name].shape[1]
        assert shape.stride * outputs[name].shape[2] == 32


def test_stages_that_nobody_asks_for_are_left_out():
    model = small_resnet(out_features=["res2"])

    assert model.stage_names == ("res2",)
    assert not hasattr(model, "res3")


def test_the_last_output_is_the_default_and_a_classifier_may_follow():
    assert list(small_resnet().output_shape()) == ["res3"]
    outputs = small_resnet(num_classes=5)(torch.rand(2, 3, 32, 32))

    assert {k: tuple(v.shape) for k, v in outputs.items()} == {"linear": (2, 5)}


def test_freezing_stops_gradients_and_fixes_norms():
    model = small_resnet(freeze_at=2)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}

    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(("stem", "res2"))}
    assert isinstance(model.stem.conv1.norm, FrozenBatchNorm2d)
    assert isinstance(model.res2[0].conv1.norm, FrozenBatchNorm2d)
    assert isinstance(model.res3[0].conv1.norm, nn.BatchNorm2d)
    assert model.freeze(3) is model
    assert not any(p.requires_grad for p in model.parameters())


def test_a_stage_that_is_replaced_is_used():
    model = small_resnet(out_features=["res2"])
    model.res2 = nn.Identity()

    assert model(torch.rand(1, 3, 16, 16))["res2"].shape == (1, 8, 4, 4)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"must name some of \['stem', 'res2', 'res3'\]; got"):
        small_resnet(out_features=["res9", "res3"])
    with pytest.raises(InputError, match="must name some of"):
        small_resnet(out_features=[])
    with pytest.raises(InputError, match="res2 needs at least one block"):
        ResNet(BasicStem(), [[]])
    with pytest.raises(InputError, match=r"each a CNNBlockBase; got \['Conv2d'\]"):
        ResNet(BasicStem(), [[nn.Conv2d(64, 64, 1)]])
    with pytest.raises(AssertionError, match=r"shape \(N, C, H, W\); got \(3, 8, 8\)"):
        small_resnet()(torch.rand(3, 8, 8))


# -------------------------------------------------------------------------------------- configs


def test_a_config_builds_every_kind():
    assert isinstance(build_on_meta(resnet_config(DEPTH=18, RES2_OUT_CHANNELS=64)), Backbone)
    dc5 = build_on_meta(resnet_config(RES5_DILATION=2))
    assert dc5.output_shape()["res5"].stride == 16
    assert [b.conv2.dilation[0] for b in dc5.res5] == [2, 2, 2]
    resnext = build_on_meta(resnet_config(NUM_GROUPS=32, WIDTH_PER_GROUP=8, STRIDE_IN_1X1=False))
    assert resnext.res2[0].conv2.weight.shape == (256, 8, 3, 3)
    deformable = build_on_meta(
        resnet_config(DEFORM_ON_PER_STAGE=[False, True, False, False], DEFORM_NUM_GROUPS=2)
    )
    assert deformable.res3[0].conv2_offset.out_channels == 36
    assert isinstance(deformable.res4[0], BottleneckBlock)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"RES5_DILATION": 3}, "RES5_DILATION must be 1 or 2; got 3"),
        ({"DEPTH": 18}, "depth 18 needs RES2_OUT_CHANNELS 64; got 256"),
        ({"DEPTH": 34, "RES2_OUT_CHANNELS": 64, "NUM_GROUPS": 2}, "needs NUM_GROUPS 1; got 2"),
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "RES5_DILATION": 2}, "needs RES5_DILATION 1"),
        (
            {"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "DEFORM_ON_PER_STAGE": [True] * 4},
            "no deformable blocks",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_on_meta(resnet_config(**options))


def test_a_users_backbone_is_found_and_must_be_one():
    @BACKBONE_REGISTRY.register()
    def not_a_backbone_of_this_test(cfg, input_shape):
        return nn.Conv2d(input_shape.channels, 1, 1)

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "not_a_backbone_of_this_test"
    with pytest.raises(InputError, match="must return a Backbone; got Conv2d"):
        build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbon"
    with pytest.raises(KeyError, match="did you mean 'build_resnet_fpn_backbone'"):
        build_backbone(cfg)


def test_a_seed_gives_the_weights_that_it_gives_in_detectron2():
    """Its order of draws: all layers as PyTorch makes them, then the filling, shortcut last."""
    torch.manual_seed(0)
    block = BottleneckBlock(4, 8, bottleneck_channels=2)

    torch.manual_seed(0)
    sizes = {"shortcut": (4, 8, 1), "conv1": (4, 2, 1), "conv2": (2, 2, 3), "conv3": (2, 8, 1)}
    layers = {name: nn.Conv2d(*size, bias=False) for name, size in sizes.items()}
    for name in ("conv1", "conv2", "conv3", "shortcut"):
        nn.init.kaiming_normal_(layers[name].weight, mode="fan_out", nonlinearity="relu")
    for name, layer in layers.items():
        assert torch.equal(getattr(block, name).weight, layer.weight), name
