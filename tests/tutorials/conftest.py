"""What the tutorials share: a config small enough for a test, and inputs with every field."""

import pytest
import torch

from retinue.config import get_cfg
from retinue.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks


@pytest.fixture
def cfg():
    """Mask R-CNN with keypoints on a thin ResNet-18 with a feature pyramid."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (8,)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    return cfg


def make_instances(masks="polygon"):
    """Two objects in an image of 64 x 96."""
    boxes = [[8.0, 8.0, 40.0, 48.0], [50.0, 20.0, 90.0, 60.0]]
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.tensor([0, 2])
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes]
    if masks == "polygon":
        instances.gt_masks = PolygonMasks(polygons)
    else:
        instances.gt_masks = BitMasks.from_polygon_masks(polygons, 64, 96)
    points = [[[x0 + 4, y0 + 4, 2.0], [x1 - 4, y1 - 4, 1.0]] for x0, y0, x1, y1 in boxes]
    instances.gt_keypoints = Keypoints(points)
    return instances


@pytest.fixture
def inputs():
    """One training example as a mapper makes it."""
    torch.manual_seed(0)
    image = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
    return [{"image": image, "instances": make_instances(), "height": 64, "width": 96}]


@pytest.fixture
def objects():
    """The two objects, with masks as ``"polygon"`` or ``"bits"``."""
    return make_instances
