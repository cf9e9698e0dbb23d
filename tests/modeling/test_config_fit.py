"""Configs whose parts don't fit are refused before anything is built, with both keys."""

import pytest
import torch
from omegaconf import OmegaConf

from retinue import model_zoo
from retinue.config import instantiate
from retinue.engine.test_time_augmentation import GeneralizedRCNNWithTTA
from retinue.modeling import build_model
from retinue.modeling.config_fit import check_fit

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x"
FASTER = "COCO-Detection/faster_rcnn_R_50_FPN_1x"
MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x"
SEMANTIC = "Misc/semantic_R_50_FPN_1x"
PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"
LAZY_MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py"
LAZY_RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.py"
PROJECTS = "projects/"
POINT_REND = "configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco"
POINT_REND_LABELS = "configs/SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes"
DEEPLAB = "configs/Cityscapes-SemanticSegmentation/deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16"
PANOPTIC_DEEPLAB = (
    "configs/Cityscapes-PanopticSegmentation/panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop"
    "_512_1024_dsconv"
)
THREE = [[32], [64], [128]]


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (RETINANET, "MODEL.MASK_ON", True, r"MODEL\.MASK_ON is True.*MODEL\.META_ARCHITECTURE Ret"),
        (RETINANET, "MODEL.KEYPOINT_ON", True, r"MODEL\.KEYPOINT_ON is True.*META_ARCHITECTURE"),
        (
            RETINANET,
            "MODEL.ANCHOR_GENERATOR.SIZES",
            THREE,
            r"ANCHOR_GENERATOR\.SIZES is for 3 levels: .*MODEL\.RETINANET\.IN_FEATURES names 5",
        ),
        (
            FASTER,
            "MODEL.ANCHOR_GENERATOR.SIZES",
            THREE,
            r"ANCHOR_GENERATOR\.SIZES is for 3 levels: .*MODEL\.RPN\.IN_FEATURES names 5",
        ),
        (
            FASTER,
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
            [[1.0], [2.0]],
            r"ANCHOR_GENERATOR\.ASPECT_RATIOS is for 2 levels: .*MODEL\.RPN\.IN_FEATURES names 5",
        ),
        (
            FASTER,
            "MODEL.FPN.IN_FEATURES",
            ["res1", "res5"],
            r"MODEL\.FPN\.IN_FEATURES 'res1'; did you mean .*MODEL\.RESNETS\.OUT_FEATURES",
        ),
        (
            FASTER,
            "MODEL.RESNETS.OUT_FEATURES",
            ["res2", "res3", "res4", "res6"],
            r"MODEL\.RESNETS\.OUT_FEATURES 'res6'; did you mean 'res5'.*MODEL\.BACKBONE\.NAME",
        ),
    ],
)
def test_keys_that_do_not_fit(name, key, value, message):
    cfg = model_zoo.get_config(name)
    check_fit(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_model(cfg)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (FASTER, "MODEL.RPN.IN_FEATURES"),
        (FASTER, "MODEL.ROI_HEADS.IN_FEATURES"),
        (RETINANET, "MODEL.RETINANET.IN_FEATURES"),
        (MASK, "MODEL.ROI_HEADS.IN_FEATURES"),
        (SEMANTIC, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (PANOPTIC, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (f"{PROJECTS}PointRend/{POINT_REND}", "MODEL.POINT_HEAD.IN_FEATURES"),
        (f"{PROJECTS}PointRend/{POINT_REND}", "MODEL.ROI_MASK_HEAD.IN_FEATURES"),
        (f"{PROJECTS}PointRend/{POINT_REND_LABELS}", "MODEL.POINT_HEAD.IN_FEATURES"),
        (f"{PROJECTS}DeepLab/{DEEPLAB}", "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
        (f"{PROJECTS}Panoptic-DeepLab/{PANOPTIC_DEEPLAB}", "MODEL.INS_EMBED_HEAD.IN_FEATURES"),
        (f"{PROJECTS}TensorMask/configs/tensormask_R_50_FPN_1x", "MODEL.TENSOR_MASK.IN_FEATURES"),
    ],
)
def test_features_that_the_backbone_has_not(name, key):
    cfg = model_zoo.get_config(name)
    cfg.MODEL.DEVICE = "meta"
    cfg.merge_from_list([key, ["p9"]])
    if name in (FASTER, RETINANET):
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    wanted = pytest.raises(KeyError, match=rf"feature in {key} 'p9'.*MODEL\.BACKBONE\.NAME")
    with torch.device("meta"), wanted:
        build_model(cfg)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (LAZY_MASK, "proposal_generator.in_features", ["p2"], "anchor_generator .* in_features"),
        (
            LAZY_MASK,
            "proposal_generator.in_features",
            ["p2", "p3", "p4", "p5", "P6"],
            r"proposal_generator\.in_features 'P6'; did you mean 'p6'.*backbone",
        ),
        (LAZY_MASK, "roi_heads.box_in_features", ["p9"], r"heads\.box_in_features 'p9'.*backbone"),
        (LAZY_MASK, "roi_heads.mask_in_features", ["p9"], r"mask_in_features 'p9'.*backbone"),
        (
            LAZY_MASK,
            "proposal_generator.anchor_generator.sizes",
            [[32], [64]],
            r"sizes has lists for 2 .*5, as many as strides.*ANCHOR_GENERATOR\.SIZES.*IN_FEATURES",
        ),
        (LAZY_MASK, "backbone.in_features", ["res9"], "in_features 'res9'.*bottom_up"),
        (LAZY_RETINANET, "head_in_features", ["p9"], "head_in_features 'p9'.*backbone"),
    ],
)
def test_lazy_configs_that_do_not_fit(name, key, value, message):
    model = model_zoo.get_config(name).model
    OmegaConf.update(model, key, value)
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        instantiate(model)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("COCO-Detection/rpn_R_50_FPN_1x", "ProposalNetwork predicts boxes without classes only"),
        (SEMANTIC, "SemanticSegmentor predicts label maps only"),
    ],
)
@pytest.mark.parametrize("key", ["MASK_ON", "KEYPOINT_ON"])
def test_masks_of_a_model_without_instances_are_ignored_aloud(name, architecture, key, caplog):
    """detectron2 ignores the key without a word; such a config goes on working."""
    cfg = model_zoo.get_config(name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        build_model(cfg)
        assert not caplog.records
        cfg.MODEL[key] = True
        model = build_model(cfg)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert f"MODEL.{key} is True" in message
    assert f"MODEL.META_ARCHITECTURE {architecture}" in message
    assert not hasattr(model, "roi_heads")


def test_an_argument_that_is_almost_right(caplog):
    model = model_zoo.get_config(LAZY_RETINANET).model
    model.mask_heads = model.head_in_feature = None
    with torch.device("meta"), pytest.raises(TypeError):
        instantiate(model)
    assert "unknown argument 'head_in_feature'; did you mean 'head_in_features'?" in caplog.text
    assert "unknown argument 'mask_heads'" in caplog.text


def test_channels_of_pointrends_coarse_head():
    cfg = model_zoo.get_config(f"{PROJECTS}PointRend/{POINT_REND}")
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    message = r"MODEL\.ROI_MASK_HEAD\.CONV_DIM, is 256, but .*IN_FEATURES have 32 channels"
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(cfg)


def test_augmentation_of_another_kind_of_model():
    cfg = model_zoo.get_config(RETINANET)
    cfg.MODEL.DEVICE = "cpu"
    message = r"got RetinaNet; set TEST\.AUG\.ENABLED .*MODEL\.META_ARCHITECTURE"
    with pytest.raises(ValueError, match=message):
        GeneralizedRCNNWithTTA(cfg, model_zoo.build(RETINANET, device="meta"))
