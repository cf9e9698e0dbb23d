import pytest
from torch import nn

from retinue import compat
from retinue.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def hook():
    """The import hook, for one test; datasets that an import registers are forgotten again."""
    catalogs = (DatasetCatalog, MetadataCatalog)
    before = [dict(catalog) for catalog in catalogs]
    compat.install()
    yield compat
    compat.uninstall()
    for catalog, rows in zip(catalogs, before, strict=True):
        catalog.data.clear()
        catalog.update(rows)


@pytest.fixture
def cfg(tiny_backbone):
    """Faster R-CNN on a backbone of one convolution."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.RPN.IN_FEATURES = ["p3"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 2
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    return cfg


@pytest.fixture
def tiny_backbone(hook):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, Backbone

    class Tiny(Backbone):
        def __init__(self, cfg, input_shape):
            super().__init__()
            self.p3 = nn.Conv2d(3, 4, 8, stride=8)

        def forward(self, x):
            return {"p3": self.p3(x)}

        def output_shape(self):
            return {"p3": ShapeSpec(channels=4, stride=8)}

    BACKBONE_REGISTRY._obj_map["build_tiny_backbone"] = Tiny
    yield
    del BACKBONE_REGISTRY._obj_map["build_tiny_backbone"]
