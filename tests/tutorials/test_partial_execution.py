"""Run a model part by part, and look at what is computed on the way."""

import pytest
import torch

from retinue.modeling import build_model
from retinue.modeling.taps import taps
from retinue.structures import ImageList


@pytest.fixture
def model(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@torch.no_grad()
def test_one_part_after_the_other(model, inputs):
    """The parts, called by hand, give what the model gives."""
    images = model.preprocess_image(inputs)
    assert isinstance(images, ImageList)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    instances, _ = model.roi_heads(images, features, proposals)

    whole = model(inputs)[0]["instances"]

    assert instances[0].pred_boxes.tensor.equal(whole.pred_boxes.tensor)
    assert instances[0].scores.equal(whole.scores)


@torch.no_grad()
def test_mask_features_of_each_detection(model, inputs):
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    instances, _ = model.roi_heads._forward_box(features, proposals), None
    mask_features = [features[f] for f in model.roi_heads.in_features]
    mask_features = model.roi_heads.mask_pooler(mask_features, [x.pred_boxes for x in instances])

    assert mask_features.shape == (5, 16, 14, 14)


@torch.no_grad()
def test_box_features_of_each_proposal(model, inputs):
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    maps = [features[f] for f in model.roi_heads.in_features]
    box_features = model.roi_heads.box_head(
        model.roi_heads.box_pooler(maps, [p.proposal_boxes for p in proposals])
    )
    predictions = model.roi_heads.box_predictor(box_features)
    instances, rows = model.roi_heads.box_predictor.inference(predictions, proposals)

    assert box_features[rows[0]].shape == (len(instances[0]), 32)


@torch.no_grad()
def test_masks_for_boxes_that_are_known(model, inputs):
    found = model.inference(inputs, do_postprocess=False)
    again = model.inference(inputs, detected_instances=found, do_postprocess=False)

    assert again[0].pred_masks.equal(found[0].pred_masks)


@torch.no_grad()
def test_forward_hooks(model, inputs):
    seen = {}
    handle = model.backbone.register_forward_hook(lambda module, args, output: seen.update(output))
    model(inputs)
    handle.remove()

    assert sorted(seen) == ["p2", "p3", "p4", "p5", "p6"]


@torch.no_grad()
def test_any_output_by_name(model, inputs):
    with taps(model, "backbone.bottom_up.res4", "roi_heads.mask_pooler") as t:
        model(inputs)

    assert t["backbone.bottom_up.res4"].shape == (1, 256, 4, 6)
    assert t["roi_heads.mask_pooler"].shape == (5, 16, 14, 14)


@torch.no_grad()
def test_any_output_by_a_pattern(model, inputs):
    with taps(model, "backbone.fpn_output*") as t:
        model(inputs)

    assert list(t) == [f"backbone.fpn_output{k}" for k in (5, 4, 3, 2)]


def test_a_wrong_name_is_answered_with_the_right_one(model):
    with pytest.raises(KeyError, match=r"did you mean 'backbone.bottom_up.res4'"):
        taps(model, "backbone.bottom_up.ress4")
