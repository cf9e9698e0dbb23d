"""Subclasses as research code for detectron2 writes them: what they override and call works."""

import json

import numpy as np
import pytest
import torch
from torch import nn

IMAGE = (64, 96)


@pytest.fixture(autouse=True)
def _served(hook):
    return hook


@pytest.fixture
def batch():
    from detectron2.structures import Boxes, Instances

    target = Instances(IMAGE)
    target.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 40], [30, 10, 90, 60]]))
    target.gt_classes = torch.tensor([0, 2])
    return [{"image": torch.full((3, *IMAGE), 128, dtype=torch.uint8), "instances": target}]


def test_a_meta_architecture_with_its_own_preprocessing(cfg, batch):
    from detectron2.modeling import GeneralizedRCNN
    from detectron2.structures import ImageList
    from detectron2.utils.events import EventStorage, get_event_storage

    seen = []

    class Model(GeneralizedRCNN):
        def preprocess_image(self, batched_inputs):
            images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
            images = [(x - self.pixel_mean) / self.pixel_std for x in images]
            return ImageList.from_tensors(images, self.backbone.size_divisibility)

        def forward(self, batched_inputs):
            if not self.training:
                return self.inference(batched_inputs)
            images = self.preprocess_image(batched_inputs)
            gt = [self._move_to_current_device(x["instances"]) for x in batched_inputs]
            features = self.backbone(images.tensor)
            proposals, losses = self.proposal_generator(images, features, gt)
            _, more = self.roi_heads(images, features, proposals, gt)
            if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
                self.visualize_training(batched_inputs, proposals)
            losses.update(more)
            return losses

        def visualize_training(self, batched_inputs, proposals):
            seen.append(len(proposals))
            super().visualize_training(batched_inputs, proposals)

    cfg.VIS_PERIOD = 2
    model = Model(cfg)
    with EventStorage() as storage:
        losses = model(batch)
        storage.step()
        model(batch)
    assert seen == [1]
    assert {"loss_rpn_cls", "loss_cls"} <= set(losses)
    model.eval()
    assert "pred_boxes" in model(batch)[0]["instances"].get_fields()


def test_a_head_that_views_what_it_is_given(cfg, batch):
    """Convolutions and poolers of detectron2 give contiguous tensors, in training and after it."""
    from detectron2.engine import DefaultPredictor
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import build_model
    from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY

    class ViewingHead(nn.Module):
        def __init__(self, cfg, input_shape):
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 1)
            self.output_shape = ShapeSpec(channels=32)

        def forward(self, x):
            assert x.view(x.shape[0], 16).shape[1] == 16
            return self.conv(x).view(x.shape[0], 32)

    ROI_BOX_HEAD_REGISTRY._obj_map["ViewingHead"] = ViewingHead
    try:
        cfg.MODEL.ROI_BOX_HEAD.NAME = "ViewingHead"
        model = build_model(cfg)
        assert len(model(batch)) == 4
        predictor = DefaultPredictor(cfg)
        assert "instances" in predictor(np.zeros((64, 64, 3), np.uint8))
    finally:
        del ROI_BOX_HEAD_REGISTRY._obj_map["ViewingHead"]


def test_pictures_of_a_training_model(cfg, batch):
    """Put there by who asks for it, twice as wide as the image; the model by itself puts none."""
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    cfg.VIS_PERIOD = 2
    model = build_model(cfg).train()
    proposals = [Instances(IMAGE, proposal_boxes=Boxes(torch.rand(30, 4) * 30)) for _ in batch]
    with EventStorage() as storage:
        model(batch)
        assert not storage._vis_data
        model.visualize_training(batch, proposals)
        ((name, picture, _),) = storage._vis_data
    assert name == "Left: annotations; Right: proposals"
    assert picture.shape == (3, IMAGE[0], 2 * IMAGE[1])
    assert (picture[:, :, : IMAGE[1]] != 128).any()


def test_pictures_of_a_dense_detector(batch):
    from detectron2.modeling import Backbone
    from detectron2.modeling.meta_arch.dense_detector import DenseDetector
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    class Nothing(Backbone):
        def forward(self, x):
            return {}

        def output_shape(self):
            return {}

    model = DenseDetector(Nothing(), nn.Identity(), pixel_mean=[0] * 3, pixel_std=[1] * 3)
    model.input_format = "RGB"
    found = Instances(IMAGE, pred_boxes=Boxes(torch.rand(30, 4) * 30))
    with EventStorage() as storage:
        model.visualize_training(batch, [found])
        ((name, picture, _),) = storage._vis_data
        with pytest.raises(AssertionError, match="predictions for 1 images; got 2"):
            model.visualize_training(batch, [found, found])
        model.visualize_training([], [])
    assert name == "Top: annotations; Bottom: detections"
    assert picture.shape == (3, 2 * IMAGE[0], IMAGE[1])
    assert model._move_to_current_device(found).image_size == IMAGE


def test_a_proposal_generator_that_decodes_by_itself(cfg, batch):
    """Every anchor's box; those found are what the unchanged class finds."""
    from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, build_model
    from detectron2.modeling.proposal_generator import RPN
    from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals

    class OwnRPN(RPN):
        def predict_proposals(self, anchors, logits, deltas, image_sizes):
            with torch.no_grad():
                boxes = self._decode_proposals(anchors, deltas)
                assert [b.shape for b in boxes] == [d.shape for d in deltas]
                return find_top_rpn_proposals(
                    boxes,
                    logits,
                    image_sizes,
                    self.nms_thresh,
                    self.pre_nms_topk[self.training],
                    self.post_nms_topk[self.training],
                    self.min_box_size,
                    self.training,
                )

    PROPOSAL_GENERATOR_REGISTRY.register(OwnRPN)
    plain = build_model(cfg).eval()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "OwnRPN"
    own = build_model(cfg).eval()
    del PROPOSAL_GENERATOR_REGISTRY._obj_map["OwnRPN"]
    own.load_state_dict(plain.state_dict())
    images = plain.preprocess_image(batch)
    features = plain.backbone(images.tensor)
    want, got = (m.proposal_generator(images, features)[0][0] for m in (plain, own))
    assert len(want) > 10
    assert torch.equal(want.proposal_boxes.tensor, got.proposal_boxes.tensor)


def test_a_proposal_generator_that_changes_boxes(cfg, batch):
    from detectron2.modeling.proposal_generator import RPN
    from detectron2.structures import ImageList

    class Shifted(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            boxes = super()._decode_proposals(anchors, pred_anchor_deltas)
            return [b * 0 + torch.tensor([1.0, 2, 30, 40]) for b in boxes]

    rpn = Shifted(cfg, {"p3": _shape(4, 8)}).eval()
    images = ImageList(torch.zeros(2, 3, *IMAGE), [IMAGE, IMAGE])
    proposals, _ = rpn(images, {"p3": torch.zeros(2, 4, 8, 12)})
    assert [p.proposal_boxes.tensor.tolist() for p in proposals] == [[[1.0, 2, 30, 40]]] * 2


def _shape(channels, stride):
    from detectron2.layers import ShapeSpec

    return ShapeSpec(channels=channels, stride=stride)


def test_anchors_of_ones_own(cfg):
    from detectron2.modeling.anchor_generator import BufferList, DefaultAnchorGenerator

    class Own(DefaultAnchorGenerator):
        def _calculate_anchors(self, sizes, aspect_ratios):
            cells = super()._calculate_anchors(sizes, aspect_ratios)
            assert isinstance(cells, BufferList)
            return BufferList([torch.cat([c, c * 2]) for c in cells])

    generator = Own(cfg, [_shape(4, 8)])
    assert generator.num_anchors == [30]  # five sizes, three shapes, twice
    assert len(generator([torch.zeros(1, 4, 2, 3)])[0]) == 30 * 6


def _point_rend_cfg(cfg):
    from detectron2.projects.point_rend import add_pointrend_config

    add_pointrend_config(cfg)
    head = cfg.MODEL.ROI_MASK_HEAD
    head.NAME, head.FC_DIM, head.NUM_FC, head.POOLER_RESOLUTION = "PointRendMaskHead", 8, 1, 4
    head.CONV_DIM, head.OUTPUT_SIDE_RESOLUTION, head.POINT_HEAD_ON = 4, 4, True
    head.IN_FEATURES = cfg.MODEL.POINT_HEAD.IN_FEATURES = ["p3"]
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    cfg.MODEL.POINT_HEAD.FC_DIM = 8
    cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = 16
    return cfg


def test_steps_of_point_rends_constructor(cfg):
    from detectron2.projects.point_rend.mask_head import PointRendMaskHead

    class Own(PointRendMaskHead):
        def __init__(self, cfg, input_shape):
            super().__init__(cfg, input_shape)
            self.done = True

        def _init_point_head(self, cfg, input_shape):
            super()._init_point_head(cfg, input_shape)
            self.extra = nn.Linear(self.point_head.predictor.in_channels, 2)

        def _init_roi_head(self, cfg, input_shape):
            self.coarse_head = nn.Conv2d(input_shape.channels, 3, 1)
            self.region = (input_shape.height, input_shape.width)

    cfg = _point_rend_cfg(cfg)
    head = Own(cfg, {"p3": _shape(4, 8)})
    plain = PointRendMaskHead(cfg, {"p3": _shape(4, 8)})
    assert head.done
    assert head.region == (4, 4)
    assert {n.partition(".")[0] for n in head.state_dict()} == {
        "point_head",
        "extra",
        "coarse_head",
    }
    assert isinstance(head.coarse_head, nn.Conv2d)
    for name in ("mask_point_on", "mask_point_subdivision_init_resolution", "roi_pooler_size"):
        assert getattr(head, name) == getattr(plain, name)


def test_steps_of_the_implicit_heads_constructor(cfg):
    from detectron2.projects.point_rend.mask_head import ImplicitPointRendMaskHead

    class Own(ImplicitPointRendMaskHead):
        def _init_roi_head(self, cfg, input_shape):
            super()._init_roi_head(cfg, input_shape)
            self.weight = self.regularizer * 2

    cfg = _point_rend_cfg(cfg)
    cfg.MODEL.POINT_HEAD.NAME = "ImplicitPointHead"
    head = Own(cfg, {"p3": _shape(4, 8)})
    assert head.parameter_head.prediction.out_features == head.num_params
    assert head.weight == 2 * cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER


def test_steps_of_the_semantic_heads_constructor(cfg):
    from detectron2.projects.point_rend.semantic_seg import PointRendSemSegHead

    class Own(PointRendSemSegHead):
        def _init_point_head(self, cfg, input_shape):
            super()._init_point_head(cfg, input_shape)
            self.train_num_points //= 2

    cfg = _point_rend_cfg(cfg)
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3"]
    cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 8
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    shape = {"p3": _shape(4, 8)}
    head, plain = Own(cfg, shape), PointRendSemSegHead(cfg, shape)
    assert head.train_num_points == plain.train_num_points // 2
    assert list(head.state_dict()) == list(plain.state_dict())


def test_an_implicit_head_with_its_own_network():
    from detectron2.projects.point_rend.point_head import ImplicitPointHead

    class Own(ImplicitPointHead):
        def forward(self, fine_grained_features, point_coords, parameters):
            sizes = self.in_channels, self.channels, self.num_classes
            parts = self.num_weight_params, self.num_bias_params
            weights, biases = self._parse_params(parameters, *sizes, *parts)
            assert [w.shape[1:] for w in weights] == [(5, 4), (5, 5), (2, 5)]
            assert [b.shape[1:] for b in biases] == [(5, 1), (5, 1), (2, 1)]
            return self._dynamic_mlp(fine_grained_features, weights, biases, len(parameters))

    arguments = {"num_classes": 2, "channels": 5, "num_layers": 3}
    arguments |= {"positional_encoding_enabled": False}
    own, plain = (c(_shape(4, 8), **arguments) for c in (Own, ImplicitPointHead))
    features, parameters = torch.randn(2, 4, 7), torch.randn(2, own.num_params)
    want = plain(features, torch.rand(2, 7, 2), parameters)
    assert want.shape == (2, 2, 7)
    assert torch.equal(own(features, torch.rand(2, 7, 2), parameters), want)


def test_counting_operators():
    from fvcore.nn.jit_analysis import JitModelAnalysis

    class Own(JitModelAnalysis):
        def _simplify_op_name(self, full_op_name):
            return super()._simplify_op_name(full_op_name).upper()

    class Node:
        def __init__(self, kind):
            self.kind = lambda: kind

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    analysis = Own(model, (torch.zeros(1, 2),))
    assert analysis._simplify_op_name("aten::conv2d") == "CONV2D"
    assert analysis._get_all_ancestors("1.0") == {"", "1", "1.0"}
    kinds = ["aten::view", "aten::conv2d", "prim::If", "prim::PythonOp.f"]
    assert [analysis._should_ignore_node(Node(k)) for k in kinds] == [True, False, True, False]


def test_what_was_added_goes_with_the_hook(hook):
    from detectron2.projects.point_rend.mask_head import PointRendMaskHead

    assert hasattr(PointRendMaskHead, "_init_roi_head")
    added = PointRendMaskHead.__init__
    hook.uninstall()
    assert not hasattr(PointRendMaskHead, "_init_roi_head")
    assert PointRendMaskHead.__init__ is not added
    hook.install()
    import detectron2.projects.point_rend.mask_head as again

    assert again.PointRendMaskHead.__init__ is added


def test_members_are_there_however_a_class_is_imported(hook):
    """Through the package alone, and through the name that the project had by itself."""
    from detectron2.projects.point_rend import PointRendMaskHead

    assert callable(PointRendMaskHead._init_point_head)
    from point_rend import PointRendMaskHead as by_itself

    assert by_itself is PointRendMaskHead


def test_a_mapper_that_lists_detectron2s_arguments(cfg):
    from detectron2.config import configurable
    from detectron2.data import DatasetMapper

    class Mapper(DatasetMapper):
        @configurable
        def __init__(
            self,
            is_train,
            *,
            augmentations,
            image_format,
            use_instance_mask=False,
            use_keypoint=False,
            instance_mask_format="polygon",
            keypoint_hflip_indices=None,
            precomputed_proposal_topk=None,
            recompute_boxes=False,
        ):
            self.image_format = image_format

    assert Mapper(cfg, True).image_format == "BGR"
    assert not Mapper(cfg, True).skip_unreadable
    cfg.RETINUE.SKIP_UNREADABLE = True
    assert DatasetMapper(cfg, True).skip_unreadable


def test_a_predictor_with_a_constructor_of_its_own(cfg):
    import detectron2.data.transforms as T
    from detectron2.engine import DefaultPredictor
    from detectron2.modeling import build_model

    class Predictor(DefaultPredictor):
        def __init__(self, cfg):
            self.cfg = cfg.clone()
            self.model = build_model(self.cfg).eval()
            self.aug = T.ResizeShortestEdge([32, 32], 64)
            self.input_format = cfg.INPUT.FORMAT

    found = Predictor(cfg)(np.zeros((32, 48, 3), np.uint8))
    assert found["instances"].image_size == (32, 48)


def test_a_box_head_that_changes_what_it_puts_out(cfg):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead

    class Head(FastRCNNConvFCHead):
        def __init__(self, cfg, input_shape):
            super().__init__(cfg, input_shape)
            self.last = nn.Linear(self._output_size, 5)
            self._output_size = 5

    head = Head(cfg, ShapeSpec(channels=4, height=2, width=2))
    assert head.output_shape == ShapeSpec(channels=5)
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.NUM_CONV = 0, 1
    cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 6
    head = FastRCNNConvFCHead(cfg, ShapeSpec(channels=4, height=2, width=3))
    assert head.output_shape == ShapeSpec(channels=6, height=2, width=3)


def test_an_evaluator_that_resets_its_own_lists(tmp_path):
    """Each reset makes a new list of predictions; an image of the round before counts again."""
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOEvaluator
    from detectron2.structures import Boxes, Instances

    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024.0}
    truth = {
        "images": [{"id": 1, "height": 64, "width": 96}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{**box, "iscrowd": 0}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    MetadataCatalog.get("of_one_image").set(json_file=str(tmp_path / "truth.json"))
    MetadataCatalog.get("of_one_image").thing_dataset_id_to_contiguous_id = {1: 0}

    class Evaluator(COCOEvaluator):
        def reset(self):
            self._predictions = []
            self.seen = []

    found = Instances(IMAGE, pred_boxes=Boxes([[8.0, 8, 40, 40]]))
    found.scores, found.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    evaluator = Evaluator("of_one_image", ("bbox",), distributed=False)
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
