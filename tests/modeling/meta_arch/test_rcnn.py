import pytest
import torch

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import GeneralizedRCNN, ProposalNetwork, build_model
from retinue.modeling.anchor_generator import DefaultAnchorGenerator
from retinue.modeling.box_regression import Box2BoxTransform
from retinue.modeling.matcher import Matcher
from retinue.modeling.poolers import ROIPooler
from retinue.modeling.proposal_generator import RPN, StandardRPNHead
from retinue.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers, StandardROIHeads
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError


@pytest.fixture
def rpn():
    torch.manual_seed(1)
    return RPN(
        in_features=["p3", "p4"],
        head=StandardRPNHead(in_channels=4, num_anchors=1),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[16], [32]], aspect_ratios=[[1.0]], strides=[8, 16]
        ),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=8,
        positive_fraction=0.5,
        pre_nms_topk=(20, 20),
        post_nms_topk=(8, 8),
    )


@pytest.fixture
def roi_heads():
    torch.manual_seed(2)
    head = FastRCNNConvFCHead(ShapeSpec(channels=4, height=2, width=2), conv_dims=[], fc_dims=[8])
    return StandardROIHeads(
        num_classes=3,
        batch_size_per_image=8,
        positive_fraction=0.25,
        proposal_matcher=Matcher([0.5], [0, 1]),
        box_in_features=["p3", "p4"],
        box_pooler=ROIPooler(2, (1 / 8, 1 / 16), 0, "ROIAlignV2"),
        box_head=head,
        box_predictor=FastRCNNOutputLayers(
            head.output_shape,
            box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
            num_classes=3,
            test_score_thresh=0.0,
        ),
    )


@pytest.fixture
def model(backbone, rpn, roi_heads, pixels):
    return GeneralizedRCNN(backbone=backbone, proposal_generator=rpn, roi_heads=roi_heads, **pixels)


def test_training_gives_every_loss_without_a_storage(model, inputs):
    losses = model(inputs)

    assert list(losses) == ["loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"]
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_inference_gives_boxes_in_the_asked_size(model, inputs):
    outputs = model.eval()(inputs)
    sizes = [(64, 80), (24, 30)]

    assert [o["instances"].image_size for o in outputs] == sizes
    for output, (height, width) in zip(outputs, sizes, strict=True):
        found = output["instances"]
        assert sorted(found.get_fields()) == ["pred_boxes", "pred_classes", "scores"]
        assert len(found) > 0
        assert found.scores.diff().le(0).all()
        assert found.pred_boxes.tensor[:, 2:].le(torch.tensor([width, height])).all()
    assert model.device == torch.device("cpu")


def test_without_postprocessing_boxes_are_those_of_the_network(model, inputs):
    raw = model.eval().inference(inputs, do_postprocess=False)
    scaled = model(inputs)[0]["instances"]

    assert [r.image_size for r in raw] == [(32, 40), (24, 30)]
    torch.testing.assert_close(raw[0].pred_boxes.tensor * 2, scaled.pred_boxes.tensor)


def test_known_boxes_are_kept(model, inputs):
    boxes = torch.tensor([[2.0, 3, 12, 13]])
    known = [
        Instances(size, pred_boxes=Boxes(boxes), pred_classes=torch.tensor([1]))
        for size in ((32, 40), (24, 30))
    ]
    outputs = model.eval().inference(inputs, detected_instances=known)

    assert outputs[0]["instances"].pred_boxes.tensor.tolist() == [[4, 6, 24, 26]]
    assert outputs[1]["instances"].pred_boxes.tensor.equal(boxes)


def test_one_image_alone_gives_what_it_gives_in_a_batch(model, inputs):
    model.double().eval()
    together, alone = model(inputs)[0]["instances"], model(inputs[:1])[0]["instances"]

    torch.testing.assert_close(together.scores, alone.scores)
    torch.testing.assert_close(together.pred_boxes.tensor, alone.pred_boxes.tensor)


def test_the_parts_run_one_by_one(model, inputs):
    model.eval()
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals, losses = model.proposal_generator(images, features, None)
    found, _ = model.roi_heads(images, features, proposals)

    assert losses == {}
    want = model.inference(inputs, do_postprocess=False)
    assert all(a.scores.equal(b.scores) for a, b in zip(found, want, strict=True))


def test_proposals_may_come_with_the_input(backbone, roi_heads, inputs, pixels):
    model = GeneralizedRCNN(
        backbone=backbone, proposal_generator=None, roi_heads=roi_heads, **pixels
    )
    with pytest.raises(AssertionError, match="model input 0: 'proposals' is missing"):
        model(inputs)
    for one in inputs:
        one["proposals"] = Instances(
            one["image"].shape[1:],
            proposal_boxes=Boxes([[1, 1, 20, 20], [5, 5, 9, 9]]),
            objectness_logits=torch.tensor([2.0, 1.0]),
        )

    assert list(model(inputs)) == ["loss_cls", "loss_box_reg"]
    assert len(model.eval()(inputs)) == 2


def test_wrong_calls_are_refused(model, inputs, backbone, rpn, roi_heads, pixels):
    del inputs[1]["instances"]
    with pytest.raises(InputError, match=r"model input 1: 'instances' is missing \(1 of 2"):
        model(inputs)
    with pytest.raises(AssertionError, match=r"call model.eval\(\) first"):
        model.inference(inputs)
    parts = {"backbone": backbone, "proposal_generator": rpn, "roi_heads": roi_heads}
    with pytest.raises(InputError, match="vis_period needs input_format"):
        GeneralizedRCNN(**parts, **pixels, vis_period=3)
    with pytest.raises(InputError, match="got 1 and 3"):
        GeneralizedRCNN(**parts, pixel_mean=[1.0], pixel_std=[1.0, 1, 1])


def test_a_proposal_network_stops_at_proposals(backbone, rpn, inputs, pixels):
    model = ProposalNetwork(backbone=backbone, proposal_generator=rpn, **pixels)
    assert list(model(inputs)) == ["loss_rpn_cls", "loss_rpn_loc"]

    outputs = model.eval()(inputs)
    assert [o["proposals"].image_size for o in outputs] == [(64, 80), (24, 30)]
    assert sorted(outputs[0]["proposals"].get_fields()) == ["objectness_logits", "proposal_boxes"]
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize("name", ["GeneralizedRCNN", "ProposalNetwork"])
def test_a_config_builds_them_on_the_meta_device(name):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)

    assert model.pixel_mean.device.type == "meta"
    assert model.backbone.output_shape()["res4"].channels == 1024
