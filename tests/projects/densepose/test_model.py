"""Whole models of DensePose, small ones: training, prediction, augmentation, files of weights."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import retinue.data.transforms as T
from retinue.config import CfgNode
from retinue.modeling import build_model
from retinue.projects.densepose import (
    DensePoseDatasetMapperTTA,
    DensePoseGeneralizedRCNNWithTTA,
    DensePoseTransformData,
)
from retinue.projects.densepose.engine import Trainer
from retinue.projects.densepose.modeling.cse import Embedder, VertexDirectEmbedder
from retinue.projects.densepose.modeling.densepose_checkpoint import DensePoseCheckpointer
from retinue.projects.densepose.modeling.filter import DensePoseDataFilter
from retinue.projects.densepose.modeling.hrnet import HighResolutionModule, blocks_dict
from retinue.projects.densepose.modeling.roi_heads.deeplab import NONLocalBlock2D
from retinue.projects.densepose.modeling.test_time_augmentation import (
    _unrotated,
    rotate_box_inverse,
)
from retinue.structures import Boxes, Instances
from retinue.utils.events import EventStorage


def picture(*, body=None, size_hw=(64, 96)):
    pixels = torch.arange(3 * size_hw[0] * size_hw[1]) % 251
    example = {"image": pixels.reshape(3, *size_hw).to(torch.uint8)}
    example |= {"height": size_hw[0], "width": size_hw[1]}
    return example if body is None else example | {"instances": body}


def without_annotations(body):
    plain = Instances(body.image_size)
    plain.gt_boxes, plain.gt_classes = body.gt_boxes, body.gt_classes
    return plain


def test_an_image_without_annotations_among_others_trains_too(densepose_cfg, body):
    """Losses are those of the annotated image; every parameter of the branch gets a gradient."""
    torch.manual_seed(0)
    densepose_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    model = build_model(densepose_cfg)
    losses = model([picture(body=without_annotations(body)), picture(body=body)])
    assert {name for name in losses if "densepose" in name} == {
        f"loss_densepose_{kind}" for kind in "UVIS"
    }
    assert losses["loss_densepose_I"] > 0
    sum(losses.values()).backward()
    branch = [
        p for n, p in model.roi_heads.named_parameters() if "densepose" in n or "decoder" in n
    ]
    assert all(p.grad is not None for p in branch)


@pytest.mark.parametrize("name", ["DensePoseV1ConvXHead", "DensePoseDeepLabHead"])
def test_a_batch_without_annotations_has_losses_of_zero(densepose_cfg, body, name):
    densepose_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.NAME = name
    model = build_model(densepose_cfg)
    losses = model([picture(body=without_annotations(body))])
    assert all(value == 0 for key, value in losses.items() if "densepose" in key)


def test_predictions_belong_to_their_images(densepose_cfg):
    model = build_model(densepose_cfg).eval()
    with torch.no_grad():
        outputs = model([picture(), picture(size_hw=(64, 64))])
    for output in outputs:
        found = output["instances"]
        assert len(found) > 0
        assert found.pred_densepose.u.shape == (len(found), 25, 28, 28)
    model.roi_heads.densepose_on = False
    with torch.no_grad():
        assert not model([picture()])[0]["instances"].has("pred_densepose")


def test_a_model_without_the_branch(densepose_cfg):
    densepose_cfg.MODEL.DENSEPOSE_ON = False
    model = build_model(densepose_cfg)
    assert not any("densepose" in name for name, _ in model.named_parameters())


def test_training_keeps_well_placed_annotated_regions(densepose_cfg, regions):
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.FG_IOU_THRESHOLD = 0.7
    two = regions[torch.tensor([0, 0])]
    two.proposal_boxes = Boxes(torch.tensor([[20.0, 10, 60, 50], [20, 10, 40, 50]]))  # IoU 1, 0.5
    keep = DensePoseDataFilter(densepose_cfg)
    features, (kept,) = keep(["f"], [two])
    assert features == ["f"]
    assert len(kept) == 1
    two.remove("gt_densepose")
    assert [len(k) for k in keep([], [two])[1]] == [0]
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    assert [len(k) for k in DensePoseDataFilter(densepose_cfg)([], [two])[1]] == [1]


def embedder_spec(kind="vertex_feature", file=""):
    return CfgNode(
        {
            "TYPE": kind,
            "NUM_VERTICES": 5,
            "FEATURE_DIM": 4,
            "FEATURES_TRAINABLE": False,
            "IS_TRAINABLE": False,
            "INIT_FILE": file,
        }
    )


def test_embedders_start_with_their_files_or_at_random(densepose_cfg, tmp_path, caplog):
    cse = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
    cse.EMBED_SIZE = 3
    features = np.arange(20.0).reshape(5, 4)
    (tmp_path / "phi.pkl").write_bytes(pickle.dumps({"features": features}))
    cse.EMBEDDERS.there = embedder_spec(file=str(tmp_path / "phi.pkl"))
    cse.EMBEDDERS.absent = embedder_spec(file=str(tmp_path / "none.pkl"))
    cse.EMBEDDERS.direct = embedder_spec("vertex_direct")
    embedder = Embedder(densepose_cfg)

    assert torch.equal(embedder.embedder_there.features, torch.tensor(features).float())
    assert "starts at random" in caplog.text
    for name in ("there", "absent", "direct"):
        vertices = embedder(name)
        assert vertices.shape == (5, 3)
        torch.testing.assert_close(vertices.norm(dim=1), torch.ones(5))
    assert not any(p.requires_grad for p in embedder.parameters())
    with pytest.raises(KeyError, match="unknown mesh 'their'; did you mean 'there'"):
        embedder("their")
    cse.EMBEDDERS.direct.TYPE = "vertices"
    with pytest.raises(ValueError, match="vertices"):
        Embedder(densepose_cfg)


def test_embedders_are_read_from_a_models_checkpoint(densepose_cfg, tmp_path, caplog):
    cse = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
    cse.EMBED_SIZE = 3
    cse.EMBEDDERS.m = embedder_spec("vertex_direct")
    wanted = torch.arange(15.0).reshape(5, 3)
    key = "roi_heads.embedder.embedder_m.embeddings"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {key: wanted.numpy()}}))
    torch.save({"model": {key: wanted + 1}}, tmp_path / "b.pth")
    densepose_cfg.MODEL.WEIGHTS = str(tmp_path / "a.pkl")
    embedder = Embedder(densepose_cfg)
    assert torch.equal(embedder.embedder_m.embeddings, wanted)
    embedder.load_from_model_checkpoint(str(tmp_path / "b.pth"))
    assert torch.equal(embedder.embedder_m.embeddings, wanted + 1)
    densepose_cfg.MODEL.WEIGHTS = str(tmp_path / "none.pth")
    Embedder(densepose_cfg)
    assert "No embedder is read from MODEL.WEIGHTS" in caplog.text


def test_a_model_of_embeddings(densepose_cfg, body):
    head = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD
    head.PREDICTOR_NAME = "DensePoseEmbeddingWithConfidencePredictor"
    head.LOSS_NAME = "DensePoseCseLoss"
    head.SEGM_CONFIDENCE.ENABLED = True
    head.CSE.EMBEDDERS.cow_5002 = embedder_spec("vertex_direct")
    data = body.gt_densepose[0]
    data.vertex_ids, data.mesh_id = torch.tensor([1, 4]), 11  # the number of cow_5002
    densepose_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    torch.manual_seed(0)
    model = build_model(densepose_cfg)
    losses = model([picture(body=body)])
    assert losses["loss_densepose_Ecow_5002"] > 0
    with torch.no_grad():
        found = model.eval()([picture()])[0]["instances"]
    assert found.pred_densepose.embedding.shape == (len(found), 16, 28, 28)
    assert found.pred_densepose.coarse_segm_confidence.min() >= 0.01 - 1e-6
    assert Trainer.extract_embedder_from_model(model) is model.roi_heads.embedder
    assert Trainer.extract_embedder_from_model(nn.Linear(1, 1)) is None


def test_meshes_have_learning_rates_of_their_own(densepose_cfg):
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDING_LR_FACTOR = 10.0
    optimizer = Trainer.build_optimizer(densepose_cfg, VertexDirectEmbedder(5, 3))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(10 * densepose_cfg.SOLVER.BASE_LR)


def test_hrnet_keeps_its_strides(densepose_cfg):
    hrnet = densepose_cfg.MODEL.HRNET
    for stage in (hrnet.STAGE2, hrnet.STAGE3, hrnet.STAGE4):
        stage.NUM_MODULES = 1
        stage.NUM_BLOCKS = [1] * stage.NUM_BRANCHES
        stage.NUM_CHANNELS = [4 * 2**b for b in range(stage.NUM_BRANCHES)]
    densepose_cfg.MODEL.BACKBONE.NAME = "build_hrfpn_backbone"
    names = ["p1", "p2", "p3", "p4", "p5"]
    densepose_cfg.MODEL.RPN.IN_FEATURES = densepose_cfg.MODEL.ROI_HEADS.IN_FEATURES = names
    model = build_model(densepose_cfg).eval()
    with torch.no_grad():
        levels = model.backbone(torch.zeros(1, 3, 128, 192))
        branches = model.backbone.bottom_up(torch.zeros(1, 3, 100, 132))
    shapes = {name: tuple(level.shape[1:]) for name, level in levels.items()}
    # The coarsest branch, 4 x 6, is enlarged to 28 x 44: p5 has 1 x 2 whole cells of it.
    assert shapes == {f"p{k}": (256, 2 ** (5 - k), 2 * 2 ** (5 - k)) for k in range(1, 6)}
    assert {s.stride for s in model.backbone.output_shape().values()} == {4, 8, 16, 32, 64}
    assert [tuple(b.shape[1:]) for b in branches.values()] == [
        (4, 25, 33), (8, 13, 17), (16, 7, 9), (32, 4, 5),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="num_blocks must have an entry for each of 2 branches"):
        HighResolutionModule(2, blocks_dict["BASIC"], [1], [4, 8], [4, 8])
    bottleneck = blocks_dict["BOTTLENECK"](8, 2)
    assert bottleneck(torch.zeros(1, 8, 4, 4)).shape == (1, 8, 4, 4)


def test_hrnets_own_weights_get_the_models_names(tmp_path, densepose_cfg):
    names = [f"stage{i}" for i in range(1716)] + [f"other{i}" for i in range(1956 - 1716)]
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "hrnet.pth")
    reader = DensePoseCheckpointer(nn.Linear(1, 1))
    content = reader._load_file(str(tmp_path / "hrnet.pth"))
    assert "backbone.bottom_up.stage0" in content["model"]
    torch.save({"model": {"stage0": torch.zeros(1)}}, tmp_path / "other.pth")
    assert "stage0" in reader._load_file(str(tmp_path / "other.pth"))["model"]


def test_a_nonlocal_block_starts_as_the_identity():
    x = torch.arange(32 * 16.0).reshape(1, 32, 4, 4)
    for options in ({}, {"bn_layer": False, "sub_sample": False}):
        assert torch.equal(NONLocalBlock2D(32, **options)(x), x)


def identity_symmetries():
    v, u = torch.meshgrid(*[torch.arange(256.0) / 255] * 2, indexing="ij")
    tables = {"U_transforms": u.expand(24, 256, 256), "V_transforms": v.expand(24, 256, 256)}
    return DensePoseTransformData(tables, torch.device("cpu"))


def test_versions_of_an_image_are_averaged(densepose_cfg):
    aug = densepose_cfg.TEST.AUG
    aug.MIN_SIZES, aug.MAX_SIZE, aug.FLIP, aug.ROTATION_ANGLES = (64, 80), 200, True, (90,)
    model = build_model(densepose_cfg).eval()
    versions = DensePoseDatasetMapperTTA(densepose_cfg)
    assert [v["image"].shape[1:] for v in versions(picture())] == [
        (64, 96), (64, 96), (80, 120), (80, 120), (96, 64),
    ]  # fmt: skip
    wrapped = DensePoseGeneralizedRCNNWithTTA(densepose_cfg, model, identity_symmetries(), versions)
    with torch.no_grad():
        (output,) = wrapped([picture()])
    found = output["instances"]
    assert found.pred_densepose.u.shape == (len(found), 25, 28, 28)
    assert found.pred_densepose.u.isfinite().all()
    assert model.roi_heads.densepose_on


def test_one_version_changes_nothing(densepose_cfg):
    aug = densepose_cfg.TEST.AUG
    aug.MIN_SIZES, aug.FLIP = (64,), False
    model = build_model(densepose_cfg).eval()
    wrapped = DensePoseGeneralizedRCNNWithTTA(densepose_cfg, model, identity_symmetries())
    with torch.no_grad():
        (got,), (want,) = wrapped([picture()]), model([picture()])
    got, want = got["instances"], want["instances"]
    torch.testing.assert_close(got.pred_boxes.tensor, want.pred_boxes.tensor)
    torch.testing.assert_close(got.pred_densepose.u, want.pred_densepose.u, rtol=1e-4, atol=1e-5)


def test_boxes_are_rotated_back_to_their_size():
    """A box of 20 x 10, turned by 30 degrees: around it is one of h cos + w sin and so on."""
    rotation = T.RotationTransform(60, 80, 30)
    box = np.array([[30.0, 20.0, 50.0, 30.0]])
    turned = rotation.apply_box(box)
    width, height = turned[0, 2:] - turned[0, :2]
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert (width, height) == pytest.approx((20 * cos + 10 * sin, 20 * sin + 10 * cos))
    np.testing.assert_allclose(
        rotate_box_inverse(rotation, turned), box, atol=0.51
    )  # to whole pixels
    with pytest.raises(ValueError, match="by 45 degrees"):
        rotate_box_inverse(T.RotationTransform(60, 80, 45), turned)


def test_a_quarter_turn_of_predictions_is_undone():
    """What was up before the image was turned counter-clockwise is at the left after it."""
    rotation = T.RotationTransform(40, 40, 90)
    upright = torch.zeros(1, 2, 4, 4)
    upright[:, 1, :2] = 1
    turned = torch.rot90(upright, 1, dims=(2, 3))
    back = _unrotated(turned, torch.tensor([[10.0, 10, 30, 30]]), rotation)
    torch.testing.assert_close(back, upright, atol=1e-3, rtol=0)
    empty = _unrotated(turned[:0], torch.zeros(0, 4), rotation)
    assert len(empty) == 0


def test_a_trained_step_reports_where_its_examples_come_from(body):
    from retinue.projects.densepose.engine.trainer import (
        SampleCountingLoader,
        SampleCountMetricPrinter,
    )

    batch = [{"dataset": "a", "instances": body}, {"dataset": "a", "instances": body}]
    with EventStorage() as storage:
        assert list(SampleCountingLoader([batch])) == [batch]
        storage.step()
        SampleCountMetricPrinter().write()
        assert storage.latest()["batch/a"][0] == 2
