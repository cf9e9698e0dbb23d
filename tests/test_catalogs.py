"""One contract for all that has a name: rows of registries, published models, what is exported.

Each resolves, builds on the meta device (shapes, no values), and keeps what its interface says.
"""

import functools
import importlib
import math
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import retinue
from retinue import model_zoo
from retinue.checkpoint.catalog import ModelCatalog
from retinue.config import CfgNode, get_cfg
from retinue.layers import ShapeSpec
from retinue.model_zoo.entries import entries
from retinue.modeling import build_model
from retinue.modeling.backbone import Backbone
from retinue.modeling.roi_heads.cascade_rcnn import CascadeROIHeads
from retinue.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from retinue.modeling.roi_heads.roi_heads import StandardROIHeads
from retinue.utils.registry import Registry

ROOT = Path(retinue.__file__).parent
SIDE = 1024  # of the picture that backbones are run on; transformers want this size


def registries():
    """Every registry that the source defines, by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(("retinue", *path.relative_to(ROOT).with_suffix("").parts))
        for name in re.findall(r"^(\w+) = Registry\(", path.read_text(), re.MULTILINE):
            found[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    return found


REGISTRIES = registries()
ROWS = [
    pytest.param(registry, name, id=f"{registry._name}-{name}")
    for registry in REGISTRIES.values()
    for name in sorted(registry._catalog)
]


# ---- published models


@functools.cache
def model_config(name):
    """What a model is built from, as text, so that models that differ in training only are one."""
    cfg = model_zoo.get_config(name)
    if isinstance(cfg, CfgNode):
        return CfgNode({**cfg.MODEL, "WEIGHTS": ""}).dump()
    return str(cfg.model)


def one_of_each_model():
    """The first name of each model that is built differently, and all that are built like it."""
    groups = {}
    for entry in entries():
        if entry.parameters:  # the others are built of parts of other packages
            groups.setdefault(model_config(entry.name), []).append(entry)
    return [pytest.param(group, id=group[0].name) for group in groups.values()]


@pytest.mark.parametrize("group", one_of_each_model())
def test_a_published_model(group):
    model = model_zoo.build(group[0].name, device="meta").eval()

    assert {entry.parameters for entry in group} == {sum(p.numel() for p in model.parameters())}
    assert all(tensor.is_meta for tensor in model.parameters())
    if isinstance(getattr(model, "backbone", None), Backbone):
        features = check_backbone(model.backbone)
        if hasattr(model, "proposal_generator"):
            check_proposals(model.proposal_generator, features)
        if isinstance(getattr(model, "roi_heads", None), StandardROIHeads):
            check_roi_heads(model.roi_heads, features)


def check_backbone(backbone):
    """Feature maps have the channels and strides that the backbone says; return them."""
    specs = backbone.output_shape()
    assert SIDE % max(1, backbone.size_divisibility) == 0
    features = backbone(torch.zeros(1, 3, SIDE, SIDE, device="meta"))
    assert set(features) == set(specs)
    for name, spec in specs.items():
        side = math.ceil(SIDE / spec.stride)
        if type(backbone).__name__ == "HRFPN":  # crops all levels to what the coarsest covers
            side = features[name].shape[-1]
            assert 0.9 * SIDE <= side * spec.stride <= SIDE, name
        assert features[name].shape[1:] == (spec.channels, side, side), name
    return features


def check_proposals(generator, features):
    """A score and a box of each anchor of each place."""
    if not hasattr(generator, "rpn_head"):  # proposals are given
        return
    maps = [features[name] for name in generator.in_features]
    anchors = generator.anchor_generator
    logits, deltas = generator.rpn_head(maps)
    for feature, count, score, delta in zip(maps, anchors.num_anchors, logits, deltas, strict=True):
        assert score.shape == (len(feature), count, *feature.shape[2:])
        assert delta.shape == (len(feature), count * anchors.box_dim, *feature.shape[2:])


def check_roi_heads(heads, features):
    """Each head takes what its pooler gives, and says as much of each class as it should."""
    num_regions = 3

    def pooled(pooler, names):
        size = (
            (pooler.output_size,) * 2
            if isinstance(pooler.output_size, int)
            else (pooler.output_size)
        )
        return torch.zeros(num_regions, features[names[0]].shape[1], *size, device="meta")

    crops = pooled(heads.box_pooler, heads.box_in_features)
    stages = [(heads.box_head, heads.box_predictor)]
    if isinstance(heads, CascadeROIHeads):
        stages = list(zip(heads.box_head, heads.box_predictor, strict=True))
    for head, predictor in stages:
        vectors = head(crops)
        expect = head.output_shape
        sizes = (n for n in (expect.channels, expect.height, expect.width) if n)
        assert vectors.shape == (num_regions, *sizes)
        scores, deltas = predictor(vectors)
        assert scores.shape[0] == deltas.shape[0] == num_regions
        assert scores.shape[1] in (heads.num_classes, heads.num_classes + 1)  # sigmoid, softmax
        assert (
            deltas.shape[1] % predictor.box2box_transform_dim == 0
            if hasattr(predictor, "box2box_transform_dim")
            else deltas.shape[1] in (4, 5, 4 * heads.num_classes, 5 * heads.num_classes)
        )
    if heads.mask_on and isinstance(heads.mask_head, BaseMaskRCNNHead) and heads.mask_pooler:
        masks = heads.mask_head.layers(pooled(heads.mask_pooler, heads.mask_in_features))
        assert masks.shape[:2] in ((num_regions, 1), (num_regions, heads.num_classes))
    if heads.keypoint_on:
        crops = pooled(heads.keypoint_pooler, heads.keypoint_in_features)
        maps = heads.keypoint_head.layers(crops)
        assert maps.shape == (num_regions, heads.keypoint_head.num_keypoints, *maps.shape[2:])


# ---- rows of registries

_ROTATED = {
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.ANGLES": [[-60, 0, 60]],
    "MODEL.ROI_HEADS.NAME": "RROIHeads",
    "MODEL.RPN.BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0, 1.0),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0, 1.0),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignRotated",
}
_FASTER_RCNN = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
_TRIDENT = "projects/TridentNet/configs/tridentnet_fast_R_50_C4_1x.yaml"
_POINT_REND = "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"
_MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
_DENSEPOSE = "projects/DensePose/configs/"
_PREDICTOR = "MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME"
VARIANTS = {  # where a row is used that the first config with its name doesn't use: what is changed
    "DefaultAnchorGenerator": (_FASTER_RCNN, {}),
    "StandardRPNHead": (_FASTER_RCNN, {}),
    "MaskRCNNConvUpsampleHead": (_MASK_RCNN, {}),
    "KRCNNConvDeconvUpsampleHead": ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", {}),
    "SemSegFPNHead": ("Misc/semantic_R_50_FPN_1x.yaml", {}),
    **dict.fromkeys(("RRPN", "RROIHeads", "RotatedAnchorGenerator"), (_FASTER_RCNN, _ROTATED)),
    "PointRendROIHeads": (_POINT_REND, {"MODEL.ROI_HEADS.NAME": "PointRendROIHeads"}),
    "TridentStandardROIHeads": (
        _TRIDENT,
        {
            "MODEL.ROI_HEADS.NAME": "TridentStandardROIHeads",
            "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
            "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        },
    ),
    "build_pose_hrnet_backbone": (
        _DENSEPOSE + "HRNet/densepose_rcnn_HRFPN_HRNet_w32_s1x.yaml",
        {"MODEL.BACKBONE.NAME": "build_pose_hrnet_backbone"},
    ),
    "DensePoseChartPredictor": (
        _DENSEPOSE + "densepose_rcnn_R_50_FPN_s1x.yaml",
        {_PREDICTOR: "DensePoseChartPredictor"},
    ),
    "DensePoseEmbeddingWithConfidencePredictor": (
        _DENSEPOSE + "cse/densepose_rcnn_R_50_FPN_s1x.yaml",
        {_PREDICTOR: "DensePoseEmbeddingWithConfidencePredictor"},
    ),
}
OWN_CONFIGS = {"TRACKER_HEADS", "DENSEPOSE_LOSS", "MESH_ARCH"}  # tested where they are


@functools.cache
def names_by_value():
    """The first published YAML config for each registry's key and value in it."""
    found = {}
    keys = {registry._key for registry in REGISTRIES.values() if registry._key}
    for entry in entries():
        if entry.is_lazy:
            continue
        cfg = model_zoo.get_config(entry.name)
        for key in keys:
            if (value := look_up(cfg, key)) is not None:
                found.setdefault((key, value), entry.name)
    return found


def look_up(cfg, key):
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, CfgNode) else None
    return cfg


@pytest.mark.parametrize(("registry", "name"), ROWS)
def test_a_row_of_a_registry(registry, name):
    found = registry.get(name)

    assert callable(found)
    assert found.__name__ == name
    assert registry._catalog[name] == f"{found.__module__}:{name}"
    if registry._name in OWN_CONFIGS:
        return
    config, changes = VARIANTS.get(name) or (names_by_value().get((registry._key, name)), {})
    assert config is not None, f"no published config has {registry._key} {name}; add a variant"
    cfg = model_zoo.get_config(config)
    cfg.merge_from_list([part for pair in changes.items() for part in pair])
    cfg.MODEL.DEVICE = "meta"
    assert look_up(cfg, registry._key) == name
    with torch.device("meta"):
        if registry._name == "BACKBONE":
            check_backbone(found(cfg, ShapeSpec(channels=3)))
        else:
            assert any(isinstance(part, found) for part in build_model(cfg).modules())


def test_families_of_rows():
    """Names of other packages' models share a row, which is tested beside those packages."""
    families = {name: home for r in REGISTRIES.values() for name, home in r._families.items()}
    assert {"timm", "torchvision"} <= families.keys()
    for home in families.values():
        module, _, name = home.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_registries_that_there_are():
    """That the search finds them: those of detectron2, and those that projects add."""
    names = {registry._name for registry in REGISTRIES.values()}
    assert {"BACKBONE", "META_ARCH", "ROI_HEADS", "POINT_HEAD", "INS_EMBED_BRANCHES"} <= names
    assert all(isinstance(registry, Registry) for registry in REGISTRIES.values())


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=lambda r: r._name)
def test_a_name_that_is_almost_right(registry):
    name = sorted(registry._catalog)[0]
    with pytest.raises(KeyError, match=f"did you mean .*'{name}'"):
        registry.get(name[:-1] + name[-1] * 2)


def test_specs_hold_what_is_asked():
    assert ShapeSpec(channels=3).stride is None
    assert isinstance(get_cfg().MODEL.META_ARCHITECTURE, str)
    assert issubclass(Backbone, nn.Module)


# ---- what packages export


def packages():
    for info in pkgutil.walk_packages([str(ROOT)], "retinue."):
        if info.ispkg and ".configs" not in info.name and "stand_ins" not in info.name:
            yield info.name


@pytest.mark.parametrize("name", sorted(packages()))
def test_every_exported_name_is_there(name):
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", ()):
        try:
            getattr(package, public)
        except ImportError as error:  # of an extra that is not installed
            if "pip install" not in str(error):
                raise


@pytest.mark.parametrize(
    "name",
    [
        *(f"ImageNetPretrained/{n}" for n in ModelCatalog.C2_IMAGENET_MODELS),
        *(f"Caffe2Detectron/COCO/{n}" for n in ModelCatalog.C2_DETECTRON_MODELS),
    ],
)
def test_every_catalog_address_resolves(name):
    assert ModelCatalog.get(name).startswith("https://dl.fbaipublicfiles.com/detectron/")
