"""A small model, a made-up body, and annotations of it."""

import pytest
import torch

from retinue.config import get_cfg
from retinue.projects.densepose import DensePoseDataRelative, DensePoseList, add_densepose_config
from retinue.structures import BitMasks, Boxes, Instances

IMAGE_HW = (64, 96)
BOX = (20.0, 10.0, 60.0, 50.0)  # x0, y0, x1, y1


@pytest.fixture
def densepose_cfg():
    """The keys of a small model on a feature pyramid."""
    cfg = get_cfg()
    add_densepose_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 5
    cfg.MODEL.ROI_HEADS.NAME = "DensePoseROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    head = cfg.MODEL.ROI_DENSEPOSE_HEAD
    head.NAME = "DensePoseV1ConvXHead"
    head.NUM_STACKED_CONVS = 1
    head.CONV_HEAD_DIM = 32
    head.POOLER_RESOLUTION = 7
    head.HEATMAP_SIZE = 28
    head.DECODER_NUM_CLASSES = 32
    head.DECODER_CONV_DIMS = 8
    cfg.TEST.DETECTIONS_PER_IMAGE = 3
    return cfg


@pytest.fixture
def annotation():
    """Two points in charts 3 and 4, of which the right half of the box is part 2, the left 3."""
    segm = torch.full((256, 256), 3.0)
    segm[:, 128:] = 2
    segm[:16] = 0
    return {
        "dp_x": [64.0, 192.0],
        "dp_y": [128.0, 64.0],
        "dp_I": [3.0, 4.0],
        "dp_U": [0.25, 0.5],
        "dp_V": [0.75, 1.0],
        "dp_masks": segm,
    }


@pytest.fixture
def body(annotation):
    """An image's ground truth: one body with annotations."""
    instances = Instances(IMAGE_HW)
    instances.gt_boxes = Boxes(torch.tensor([BOX]))
    instances.gt_classes = torch.zeros(1, dtype=torch.int64)
    mask = torch.zeros(1, *IMAGE_HW, dtype=torch.bool)
    mask[0, 10:50, 20:60] = True
    instances.gt_masks = BitMasks(mask)
    data = DensePoseDataRelative(annotation)
    instances.gt_densepose = DensePoseList([data], instances.gt_boxes.tensor, IMAGE_HW)
    return instances


@pytest.fixture
def regions(body):
    """That ground truth with its own box as a proposal."""
    body.proposal_boxes = Boxes(body.gt_boxes.tensor.clone())
    return body
