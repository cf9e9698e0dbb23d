"""Every row of every model registry is there, builds, and keeps the registry's contract."""

import inspect

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import catalog
from retinue.modeling.backbone.backbone import Backbone
from retinue.utils.registry import Registry

REGISTRIES = {name: getattr(catalog, name) for name in catalog.__all__}
ROWS = [
    pytest.param(registry, name, id=f"{registry._name}-{name}")
    for registry in REGISTRIES.values()
    for name in sorted(registry._catalog)
]
OWN_ROWS = [  # those of projects are built in tests/projects, with the projects' config keys
    row for row in ROWS if "retinue.projects" not in row.values[0]._catalog[row.values[1]]
]

PYRAMID = {f"p{k}": ShapeSpec(channels=256, stride=2**k) for k in range(2, 7)}
POOLED = ShapeSpec(channels=256, height=7, width=7)


def make_cfg():
    """A Mask and Keypoint R-CNN with a feature pyramid."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    return cfg


def adapt(cfg, name):
    """Change what one part needs otherwise than the others; return the shapes it is built for."""
    shapes = PYRAMID
    if name in ("CascadeROIHeads",):
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    if name in ("RROIHeads", "RRPN", "RotatedAnchorGenerator"):
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
        cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
        cfg.MODEL.RPN.BBOX_REG_WEIGHTS = (1, 1, 1, 1, 1)
        cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (10, 10, 5, 5, 1)
        cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignRotated"
    if name == "Res5ROIHeads":
        cfg.MODEL.KEYPOINT_ON = False
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
        shapes = {"res4": ShapeSpec(channels=1024, stride=16)}
    if name in ("RetinaNet", "build_retinanet_resnet_fpn_backbone"):
        cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    if name == "build_resnet_backbone":
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    return shapes


def build(registry, name):
    """Call a row as models do."""
    cfg = make_cfg()
    shapes = adapt(cfg, name)
    make = registry.get(name)
    with torch.device("meta"):
        match registry._name:
            case "META_ARCH":
                return make(cfg)
            case "BACKBONE":
                return make(cfg, ShapeSpec(channels=3))
            case "ANCHOR_GENERATOR" | "RPN_HEAD":
                return make(cfg, [shapes[f] for f in cfg.MODEL.RPN.IN_FEATURES])
            case "ROI_BOX_HEAD" | "ROI_MASK_HEAD" | "ROI_KEYPOINT_HEAD":
                return make(cfg, POOLED)
            case _:
                return make(cfg, shapes)


@pytest.mark.parametrize(("registry", "name"), ROWS)
def test_a_row_is_there(registry, name):
    found = registry.get(name)

    assert callable(found)
    assert found.__name__ == name
    assert registry._catalog[name] == f"{found.__module__}:{name}"
    assert inspect.getdoc(found)


@pytest.mark.parametrize(("registry", "name"), OWN_ROWS)
def test_a_row_builds_from_a_config(registry, name):
    part = build(registry, name)

    assert isinstance(part, nn.Module)
    if registry._name == "BACKBONE":
        assert isinstance(part, Backbone)
        assert all(s.channels and s.stride for s in part.output_shape().values())
    if registry._name == "ROI_BOX_HEAD":
        assert part(torch.zeros(0, 256, 7, 7, device="meta")).shape[0] == 0
        assert part.output_shape.channels
    if registry._name == "ANCHOR_GENERATOR":
        assert part.num_anchors == part.num_cell_anchors
        assert part.box_dim in (4, 5)


@pytest.mark.parametrize(("registry", "name"), OWN_ROWS)
def test_a_class_is_built_from_plain_arguments_too(registry, name):
    """``from_config`` gives arguments that the constructor names, so no config is ever needed."""
    found = registry.get(name)
    if not inspect.isclass(found):
        return
    cfg = make_cfg()
    shapes = adapt(cfg, name)
    per_level = [shapes[f] for f in cfg.MODEL.RPN.IN_FEATURES if f in shapes]
    with torch.device("meta"):
        arguments = found.from_config(
            cfg,
            *{
                "META_ARCH": (),
                "ANCHOR_GENERATOR": (per_level,),
                "RPN_HEAD": (per_level,),
                "ROI_BOX_HEAD": (POOLED,),
                "ROI_MASK_HEAD": (POOLED,),
                "ROI_KEYPOINT_HEAD": (POOLED,),
            }.get(registry._name, (shapes,)),
        )
        assert isinstance(found(**arguments), found)


def test_registries_are_where_detectron2_has_them():
    from retinue.modeling import anchor_generator, proposal_generator, roi_heads
    from retinue.modeling.backbone.build import BACKBONE_REGISTRY
    from retinue.modeling.meta_arch.build import META_ARCH_REGISTRY
    from retinue.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY
    from retinue.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
    from retinue.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

    assert anchor_generator.ANCHOR_GENERATOR_REGISTRY is catalog.ANCHOR_GENERATOR_REGISTRY
    assert BACKBONE_REGISTRY is catalog.BACKBONE_REGISTRY
    assert META_ARCH_REGISTRY is catalog.META_ARCH_REGISTRY
    assert PROPOSAL_GENERATOR_REGISTRY is catalog.PROPOSAL_GENERATOR_REGISTRY
    assert proposal_generator.PROPOSAL_GENERATOR_REGISTRY is PROPOSAL_GENERATOR_REGISTRY
    assert RPN_HEAD_REGISTRY is catalog.RPN_HEAD_REGISTRY
    assert SEM_SEG_HEADS_REGISTRY is catalog.SEM_SEG_HEADS_REGISTRY
    for name in ("", "BOX_", "MASK_", "KEYPOINT_"):
        name = f"ROI_{name}HEADS_REGISTRY" if not name else f"ROI_{name}HEAD_REGISTRY"
        assert getattr(roi_heads, name) is getattr(catalog, name)


def test_each_registry_says_which_key_names_its_rows():
    cfg = get_cfg()
    for registry in REGISTRIES.values():
        assert isinstance(registry, Registry)
        node = cfg
        for part in registry._key.split("."):
            node = node[part]
        assert isinstance(node, str)
