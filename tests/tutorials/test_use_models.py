"""Build a model, load and save it, train it, call it; everything that goes in and comes out."""

import pytest
import torch

from retinue.checkpoint import DetectionCheckpointer
from retinue.modeling import build_model
from retinue.structures import Boxes, Instances
from retinue.utils.events import EventStorage


def test_save_and_load(cfg, tmp_path):
    model = build_model(cfg)

    checkpointer = DetectionCheckpointer(model, save_dir=str(tmp_path))
    checkpointer.save("model_999")

    other = build_model(cfg)
    DetectionCheckpointer(other).load(str(tmp_path / "model_999.pth"))
    for name, value in model.state_dict().items():
        assert other.state_dict()[name].equal(value), name


def test_weights_may_be_edited_as_a_plain_dict(cfg, tmp_path):
    model = build_model(cfg)
    DetectionCheckpointer(model, save_dir=str(tmp_path)).save("model_final")

    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    weights["roi_heads.box_predictor.cls_score.bias"].fill_(7)
    torch.save(weights, tmp_path / "edited.pth")
    DetectionCheckpointer(model).load(str(tmp_path / "edited.pth"))

    assert model.roi_heads.box_predictor.cls_score.bias.unique().tolist() == [7]


def test_training(cfg, inputs):
    model = build_model(cfg)
    model.train()

    with EventStorage() as storage:
        losses = model(inputs)
        sum(losses.values()).backward()

    assert sorted(losses) == [
        "loss_box_reg",
        "loss_cls",
        "loss_keypoint",
        "loss_mask",
        "loss_rpn_cls",
        "loss_rpn_loc",
    ]
    names = set(storage.latest())
    assert {"fast_rcnn/cls_accuracy", "mask_rcnn/accuracy", "roi_head/num_fg_samples"} <= names
    assert {"rpn/num_pos_anchors", "keypoint_head/num_fg_samples"} <= names


def test_training_without_an_event_storage(cfg, inputs):
    assert len(build_model(cfg)(inputs)) == 6


def test_inference(cfg, inputs):
    model = build_model(cfg)
    model.eval()

    with torch.no_grad():
        outputs = model(inputs)

    found = outputs[0]["instances"]
    assert sorted(found.get_fields()) == [
        "pred_boxes",
        "pred_classes",
        "pred_keypoint_heatmaps",
        "pred_keypoints",
        "pred_masks",
        "scores",
    ]
    assert len(found) == 5
    assert isinstance(found.pred_boxes, Boxes)
    assert found.scores.shape == (5,)
    assert found.pred_classes.shape == (5,)
    assert found.pred_masks.shape == (5, 64, 96)
    assert found.pred_masks.dtype == torch.bool
    assert found.pred_keypoints.shape == (5, 2, 3)
    assert found.image_size == (64, 96)


def test_predictor(cfg):
    from retinue.engine import DefaultPredictor

    predictor = DefaultPredictor(cfg)
    image = torch.randint(256, (64, 96, 3), dtype=torch.uint8).numpy()  # height, width, BGR

    found = predictor(image)["instances"]

    assert found.image_size == (64, 96)
    assert found.has("pred_masks")


# --------------------------------------------------------------------------------------- inputs


def test_an_image_alone_is_enough_for_inference(cfg, inputs):
    model = build_model(cfg).eval()
    with torch.no_grad():
        found = model([{"image": inputs[0]["image"]}])[0]["instances"]
    assert found.image_size == (64, 96)


def test_the_output_may_have_another_size_than_the_image(cfg, inputs):
    model = build_model(cfg).eval()
    one = inputs[0]["image"]
    with torch.no_grad():
        small = model([{"image": one}])[0]["instances"]
        large = model([{"image": one, "height": 128, "width": 288}])[0]["instances"]

    assert large.image_size == (128, 288)
    assert large.pred_masks.shape == (5, 128, 288)
    scale = torch.tensor([3.0, 2.0, 3.0, 2.0])
    assert torch.allclose(large.pred_boxes.tensor, small.pred_boxes.tensor * scale, atol=1e-3)
    assert torch.allclose(
        large.pred_keypoints[..., :2], small.pred_keypoints[..., :2] * scale[:2], atol=1e-3
    )


def test_images_of_different_sizes_go_together(cfg, inputs):
    model = build_model(cfg).eval()
    other = {"image": inputs[0]["image"][:, :50, :70]}
    with torch.no_grad():
        outputs = model([inputs[0], other])
    assert [o["instances"].image_size for o in outputs] == [(64, 96), (50, 70)]


def test_masks_may_be_polygons_or_bits(cfg, inputs, objects):
    model = build_model(cfg)
    losses = []
    for kind in ("polygon", "bits"):
        inputs[0]["instances"] = objects(kind)
        torch.manual_seed(0)
        losses.append(model(inputs)["loss_mask"].item())
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_an_image_without_objects_trains(cfg, inputs, objects):
    inputs[0]["instances"] = objects()[:0]
    losses = build_model(cfg)(inputs)
    assert losses["loss_box_reg"] == losses["loss_mask"] == losses["loss_keypoint"] == 0
    sum(losses.values()).backward()


def test_proposals_may_come_with_the_image(cfg, inputs):
    """Fast R-CNN: MODEL.PROPOSAL_GENERATOR.NAME is PrecomputedProposals."""
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg)
    assert model.proposal_generator is None
    proposals = Instances((64, 96))
    proposals.proposal_boxes = Boxes([[6.0, 6, 42, 50], [0, 0, 90, 60]])
    proposals.objectness_logits = torch.tensor([2.0, 1.0])
    inputs[0]["proposals"] = proposals

    assert "loss_rpn_cls" not in model(inputs)
    with torch.no_grad():
        assert len(model.eval()(inputs)[0]["instances"]) > 0


def test_proposals_come_out_of_a_proposal_network(cfg, inputs):
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    with torch.no_grad():
        found = build_model(cfg).eval()(inputs)[0]["proposals"]
    assert sorted(found.get_fields()) == ["objectness_logits", "proposal_boxes"]


def test_semantic_labels_go_in_and_scores_come_out(cfg, inputs):
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.SEM_SEG_HEAD.NORM = ""
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 8
    cfg.MODEL.KEYPOINT_ON = False
    inputs[0]["sem_seg"] = torch.zeros(64, 96, dtype=torch.int64)
    model = build_model(cfg)

    assert model(inputs)["loss_sem_seg"] > 0
    with torch.no_grad():
        output = model.eval()(inputs)[0]

    assert output["sem_seg"].shape == (4, 64, 96)
    assert output["panoptic_seg"][0].shape == (64, 96)
    assert output["instances"].has("pred_masks")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda one: one.pop("instances"), "'instances' is missing"),
        (lambda one: one.pop("image"), "'image'"),
        (lambda one: one.update(image=torch.zeros(64, 96)), r"must have shape \(3, H, W\)"),
    ],
)
def test_what_is_wrong_with_an_input_is_said(cfg, inputs, break_it, message):
    break_it(inputs[0])
    with pytest.raises((ValueError, KeyError), match=message):
        build_model(cfg)(inputs)
