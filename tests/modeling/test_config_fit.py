"""Configs whose parts don't fit are refused before anything is built, with both keys."""

import pytest

from retinue import model_zoo
from retinue.engine.test_time_augmentation import GeneralizedRCNNWithTTA
from retinue.modeling import build_model
from retinue.modeling.config_fit import check_fit

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x"
FASTER = "COCO-Detection/faster_rcnn_R_50_FPN_1x"
MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x"
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
    ],
)
def test_features_that_the_backbone_has_not(name, key):
    cfg = model_zoo.get_config(name)
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.merge_from_list([key, ["p9"], "MODEL.ANCHOR_GENERATOR.SIZES", [[32]]])
    with pytest.raises(KeyError, match=rf"feature in {key} 'p9'.*MODEL\.BACKBONE\.NAME"):
        build_model(cfg)


def test_augmentation_of_another_kind_of_model():
    cfg = model_zoo.get_config(RETINANET)
    cfg.MODEL.DEVICE = "cpu"
    message = r"got RetinaNet; set TEST\.AUG\.ENABLED .*MODEL\.META_ARCHITECTURE"
    with pytest.raises(ValueError, match=message):
        GeneralizedRCNNWithTTA(cfg, model_zoo.build(RETINANET, device="meta"))
