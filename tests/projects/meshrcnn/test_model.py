"""Mesh R-CNN's heads: losses by hand, the whole model on generated pictures, refused configs."""

import json
import math
from pathlib import Path

import pytest
import torch

from retinue.config import get_cfg
from retinue.layers import ShapeSpec
from retinue.modeling import build_model
from retinue.projects import get_checkpoint_url, get_config
from retinue.projects.meshrcnn import example
from retinue.projects.meshrcnn.config import get_meshrcnn_cfg_defaults
from retinue.projects.meshrcnn.data import MeshRCNNMapper
from retinue.projects.meshrcnn.modeling.roi_heads.mask_head import mask_rcnn_loss
from retinue.projects.meshrcnn.modeling.roi_heads.mesh_head import (
    MeshRCNNGraphConvHead,
    MeshRCNNGraphConvSubdHead,
    mesh_rcnn_inference,
    mesh_rcnn_loss,
)
from retinue.projects.meshrcnn.modeling.roi_heads.voxel_head import (
    VoxelRCNNConvUpsampleHead,
    voxel_rcnn_inference,
    voxel_rcnn_loss,
)
from retinue.projects.meshrcnn.modeling.roi_heads.z_head import z_rcnn_inference, z_rcnn_loss
from retinue.projects.meshrcnn.ops import Meshes, ico_sphere
from retinue.structures import Boxes, Instances
from retinue.utils.file_io import PathManager

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "meshrcnn_configs.json").read_text())
BASE = "projects/MeshRCNN/configs/"


def flat(node, prefix=""):
    for key, value in node.items():
        if hasattr(value, "items") and len(value):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("name", RECORDED)
def test_each_config_equals_the_public_one(name):
    """Merged from the files of facebookresearch/meshrcnn at 2c6ecbe."""
    defaults = dict(flat(get_meshrcnn_cfg_defaults(get_cfg())))
    got = {k: v for k, v in flat(get_config(BASE + name)) if v != defaults[k]}
    assert json.loads(json.dumps(got)) == RECORDED[name]


def test_weights_have_their_addresses(monkeypatch):
    url = "https://dl.fbaipublicfiles.com/meshrcnn/pix3d/meshrcnn_R50.pth"
    assert get_checkpoint_url(BASE + "pix3d/meshrcnn_R50_FPN.yaml") == url
    asked = []
    monkeypatch.setattr(
        "retinue.utils.file_io.cached_download", lambda path, **_: asked.append(path) or path
    )
    assert PathManager.get_local_path("meshrcnn://meshrcnn_R50.pth") == url
    PathManager.get_local_path("shapenet://voxmesh_R50.pth")
    assert asked[1].endswith("meshrcnn/shapenet/voxmesh_R50.pth")


def proposals(labels, **fields):
    boxes = Boxes(torch.tensor([[0.0, 0, 10, 20]] * len(labels)).reshape(-1, 4))
    return Instances(
        (48, 64), proposal_boxes=boxes, gt_classes=torch.tensor(labels).long(), **fields
    )


def detections(labels):
    boxes = Boxes(torch.tensor([[0.0, 0, 10, 20]] * len(labels)).reshape(-1, 4))
    return Instances((48, 64), pred_boxes=boxes, pred_classes=torch.tensor(labels).long())


def test_depth_is_learnt_as_the_log_of_its_ratio_to_the_height():
    found = [proposals([1], gt_dz=torch.tensor([40.0])), proposals([], gt_dz=torch.zeros(0))]
    boxes = found[0].proposal_boxes.tensor
    loss = z_rcnn_loss(torch.tensor([[9.0, 0.5]]), found, boxes, loss_weight=3)
    assert loss.item() == pytest.approx(3 * (math.log(2) - 0.5))
    shared = z_rcnn_loss(torch.tensor([[0.5]]), found, boxes, loss_weight=3)
    assert shared.item() == pytest.approx(loss.item())
    assert z_rcnn_loss(torch.zeros(0, 2), found[1:], boxes[:0]) == 0

    images = [detections([1]), detections([])]
    z_rcnn_inference(torch.tensor([[9.0, math.log(2)]]), images)
    assert images[0].pred_dz.flatten().tolist() == pytest.approx([2.0])
    assert images[1].pred_dz.shape == (0, 1)
    z_rcnn_inference(torch.tensor([[99.0, 99.0]]), images)
    assert images[0].pred_dz.item() == pytest.approx(1000 / 16)


def test_masks_of_the_true_class():
    masks = torch.zeros(1, 48, 64)
    masks[:, :, :5] = 1  # the left half of the box
    logits = torch.full((1, 2, 2, 2), -50.0)
    logits[0, 1, :, 0] = 50
    loss, target = mask_rcnn_loss(logits, [proposals([1], gt_masks=masks)])
    assert target.tolist() == [[[1, 0], [1, 0]]]
    assert loss.item() == pytest.approx(0, abs=1e-9)
    loss, target = mask_rcnn_loss(logits[:0], [proposals([], gt_masks=masks[:0])])
    assert (loss, target.shape) == (0, (0, 2, 2))


def truth(sample, cfg):
    """A sample's ground truth, as proposals that are right."""
    instances = sample["instances"]
    return Instances(
        instances.image_size, proposal_boxes=instances.gt_boxes, **instances.get_fields()
    )


@pytest.fixture
def sample(solids, tiny_config):
    mapper = MeshRCNNMapper(tiny_config, True, dataset_names=solids)
    from retinue.data import DatasetCatalog

    return mapper(DatasetCatalog.get(solids[0])[2])


def test_voxels_of_the_true_class(sample, tiny_config):
    one = truth(sample, tiny_config)
    _, target = voxel_rcnn_loss(torch.zeros(1, 1, 8, 8, 8), [one])
    label = int(one.gt_classes)
    logits = torch.zeros(1, 4, 8, 8, 8)
    logits[0, label] = target[0] * 100 - 50
    loss, again = voxel_rcnn_loss(logits, [one, one[:0]], loss_weight=7)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert torch.equal(again, target)
    assert voxel_rcnn_loss(logits[:, :1], [one], 7)[0].item() == pytest.approx(7 * math.log(2))
    assert voxel_rcnn_loss(logits[:0], [one[:0]])[0] == 0
    with pytest.raises(ValueError, match=r"must be a cube; got \(4, 8, 8\)"):
        voxel_rcnn_loss(torch.zeros(1, 1, 4, 8, 8), [one])

    images = [detections([label]), detections([])]
    voxel_rcnn_inference(logits, images)
    assert torch.equal(images[0].pred_voxels[0, 0], logits[0, label].sigmoid())
    assert images[1].pred_voxels.shape == (0, 1, 8, 8, 8)


def test_a_mesh_that_is_right_has_little_loss(sample, tiny_config):
    from retinue.projects.meshrcnn.structures.mesh import batch_crop_meshes_within_box

    one = truth(sample, tiny_config)
    right = batch_crop_meshes_within_box(one.gt_meshes, one.gt_boxes.tensor, one.gt_K)
    weights = {"chamfer": 1.0, "normals": 1.0, "edge": 0.0}
    torch.manual_seed(0)
    chamfer, normals, edge, gt = mesh_rcnn_loss([right], [one], weights, 2000, 2000)
    assert chamfer < 0.01
    assert normals < 0.25
    assert edge == 0
    torch.testing.assert_close(gt.verts_packed(), right.verts_packed())
    wrong = mesh_rcnn_loss([right.scale_verts(2.0)], [one], weights, 500, 500)[0]
    assert wrong > 0.2
    far = mesh_rcnn_loss([right], [one], weights, 20, 20, gt_coord_thresh=0.1)
    assert far[0] == far[1] == 0
    none = mesh_rcnn_loss([Meshes([], [])], [one[:0]], weights, 20, 20, gt_coord_thresh=5.0)
    assert none[0] == none[1] == none[2] == 0

    images = [detections([]), detections([0])]
    mesh_rcnn_inference(right, images)
    assert [len(i.pred_meshes) for i in images] == [0, 1]
    assert torch.equal(images[1].pred_meshes.data[0][0], right.verts_packed())


@pytest.mark.parametrize("head", [MeshRCNNGraphConvHead, MeshRCNNGraphConvSubdHead])
def test_stages_refine_or_split(head):
    shape = ShapeSpec(channels=4, height=7, width=7)
    stages = head(shape, num_stages=2, num_graph_convs=2, graph_conv_dim=8)
    spheres = ico_sphere(1).extend(2)
    first, last = stages(torch.randn(2, 4, 7, 7), spheres)

    assert torch.equal(first.verts_packed(), spheres.verts_packed())  # nothing moves at first
    factor = 4 if head is MeshRCNNGraphConvSubdHead else 1
    assert last.num_faces_per_mesh().tolist() == [80 * factor] * 2
    empty = stages(torch.zeros(0, 4, 7, 7), spheres[:0])
    loss = sum(m.verts_packed().sum() for m in empty)
    loss.backward()  # all parameters take part, or distributed training would hang
    assert all(p.grad is not None and not p.grad.any() for p in stages.parameters())


def test_a_voxel_head_makes_a_column_of_each_cell():
    shape = ShapeSpec(channels=4, height=5, width=5)
    head = VoxelRCNNConvUpsampleHead(shape, num_classes=3, num_depth=10, conv_dim=6, num_conv=2)
    assert head(torch.zeros(2, 4, 5, 5)).shape == (2, 3, 10, 10, 10)
    assert head(torch.zeros(0, 4, 5, 5)).shape == (0, 3, 10, 10, 10)
    assert sorted(n for n, _ in head.named_children()) == [
        "deconv",
        "predictor",
        "voxel_fcn1",
        "voxel_fcn2",
    ]


VARIANTS = {
    "voxels and meshes": {},
    "voxels by class": {"MODEL.ROI_VOXEL_HEAD.CLS_AGNOSTIC_VOXEL": False},
    "voxels alone": {"MODEL.MESH_ON": False},
    "spheres": {"MODEL.VOXEL_ON": False, "MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL": 1},
    "split spheres": {
        "MODEL.VOXEL_ON": False,
        "MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL": 0,
        "MODEL.ROI_MESH_HEAD.NAME": "MeshRCNNGraphConvSubdHead",
        "MODEL.ROI_MESH_HEAD.NUM_STAGES": 2,
    },
    "boxes alone": {
        "MODEL.VOXEL_ON": False,
        "MODEL.MESH_ON": False,
        "MODEL.ZPRED_ON": False,
        "MODEL.MASK_ON": False,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_model_trains_and_predicts(variant, sample, tiny_config):
    cfg = tiny_config
    cfg.merge_from_list([x for pair in VARIANTS[variant].items() for x in pair])
    torch.manual_seed(0)
    model = build_model(cfg)
    empty = dict(sample, instances=sample["instances"][:0])
    losses = model([sample, empty])
    sum(losses.values()).backward()

    names = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    shapes = cfg.MODEL
    names |= {"loss_mask"} if shapes.MASK_ON else set()
    names |= {"loss_z_reg"} if shapes.ZPRED_ON else set()
    names |= {"loss_voxel"} if shapes.VOXEL_ON else set()
    names |= {"loss_chamfer", "loss_normals", "loss_edge"} if shapes.MESH_ON else set()
    assert set(losses) == names
    assert all(torch.isfinite(x) for x in losses.values())
    assert all(p.grad is not None for p in model.roi_heads.parameters())

    model.eval()
    with torch.no_grad():
        found = model([sample])[0]["instances"]
        assert found.has("pred_meshes") == (shapes.MESH_ON or shapes.VOXEL_ON)
        assert found.has("pred_voxels") == shapes.VOXEL_ON
        assert found.has("pred_dz") == shapes.ZPRED_ON
        model.roi_heads.box_predictor.test_score_thresh = 1.0
        assert len(model([sample])[0]["instances"]) == 0


def test_only_empty_pictures(sample, tiny_config):
    model = build_model(tiny_config)
    losses = model([dict(sample, instances=sample["instances"][:0])])
    assert all(losses[f"loss_{n}"] == 0 for n in ("z_reg", "mask", "voxel", "chamfer", "edge"))


def test_configs_whose_parts_do_not_fit(tiny_config):
    tiny_config.MODEL.VOXEL_ON = False
    with pytest.raises(ValueError, match=r"VOXEL_ON, or MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL"):
        build_model(tiny_config)
    tiny_config.MODEL.VOXEL_ON = True
    tiny_config.MODEL.ROI_VOXEL_HEAD.NUM_DEPTH = 20
    with pytest.raises(ValueError, match="NUM_DEPTH twice POOLER_RESOLUTION; got 20 and 8"):
        build_model(tiny_config)
    tiny_config.MODEL.ROI_VOXEL_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    with pytest.raises(KeyError, match=r"set MODEL.ROI_VOXEL_HEAD.NAME to one of them"):
        build_model(tiny_config)


def test_state_dict_keys_are_those_of_the_public_project():
    """Counted from its layers: 2 tensors each, GraphConv has two layers."""
    cfg = get_config(BASE + "pix3d/meshrcnn_R50_FPN.yaml")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        keys = build_model(cfg).state_dict()
    assert keys["roi_heads.z_head.z_fc1.weight"].shape == (1024, 256 * 49)
    assert keys["roi_heads.z_head.z_pred.weight"].shape == (9, 1024)
    assert keys["roi_heads.voxel_head.voxel_fcn4.weight"].shape == (256, 256, 3, 3)
    assert keys["roi_heads.voxel_head.predictor.weight"].shape == (24, 256, 1, 1)
    stage = "roi_heads.mesh_head.stages.2."
    assert keys[f"{stage}gconvs.0.w1.weight"].shape == (128, 128 + 128 + 3)
    assert keys[f"{stage}gconvs.2.w0.weight"].shape == (128, 131)
    assert keys[f"{stage}verts_offset.weight"].shape == (3, 131)
    assert sum(k.startswith("roi_heads.mesh_head.") for k in keys) == 3 * 2 * (1 + 3 * 2 + 1)


@pytest.mark.slow
def test_a_few_steps_and_an_evaluation(solids, tiny_config):
    trainer = example.Trainer(tiny_config)
    trainer.train()
    evaluator = example.Pix3DEvaluator(solids[1], tiny_config, num_samples=50)
    results = example.Trainer.test(tiny_config, trainer.model, [evaluator])
    assert {"box_ap@0.5", "mask_ap@0.5", "mesh_ap@0.5"} <= set(results["shape"])


@pytest.mark.long
def test_it_learns_voxels_of_solids(tmp_path):
    """The example of the README: IoU above 0.7 on pictures that were not trained on."""
    cfg, model, iou = example.train(tmp_path)
    assert iou > 0.7
    example.report(cfg, model, tmp_path)
    assert len(list((tmp_path / "results").glob("*.obj"))) == 4
