"""Models of single objects: the camera by hand, layers and keys, data, loss, evaluation."""

import json
import math

import pytest
import torch
from PIL import Image
from torch import nn

from retinue.projects.meshrcnn.ops import Meshes, cubify, ico_sphere
from retinue.projects.meshrcnn.shapenet import (
    MeshLoss,
    MeshVoxDataset,
    build_model,
    coords,
    evaluate_test,
    get_shapenet_cfg,
    heads,
    mesh_arch,
    training,
)
from retinue.projects.meshrcnn.shapenet.config import PRESETS, get_published_cfg
from retinue.projects.meshrcnn.shapenet.evaluation import evaluate_test_p2m

# The camera


def test_projecting_and_back():
    K = coords.get_blender_intrinsic_matrix()
    world = torch.tensor([[0.0, 0, -1], [0.2, -0.1, -1.2]])
    projected = coords.project_verts(world, K)

    assert projected[1].tolist() == pytest.approx(
        [2.1875 * 0.2 / 1.2, -2.1875 * 0.1 / 1.2, (1.002002 * 1.2 - 0.2002002) / 1.2]
    )
    torch.testing.assert_close(coords.blender_ndc_to_world(projected), world)
    assert coords.get_blender_intrinsic_matrix(3).shape == (3, 4, 4)
    on_camera = coords.project_verts(torch.zeros(1, 1, 3), K[None])
    assert torch.isfinite(on_camera).all()


def test_voxel_space_and_back():
    K = coords.get_blender_intrinsic_matrix()
    cube = cubify(torch.ones(1, 4, 4, 4), 0.5, align="corner")
    world = coords.voxel_to_world(cube)
    again = coords.world_to_voxel(world.verts_packed(), K)
    torch.testing.assert_close(again, cube.verts_packed(), atol=1e-4, rtol=0)


def test_the_camera_looks_at_the_object():
    """Its centre is straight ahead, its top (y of the file) up, at any angle."""
    for azimuth, elevation in ((0, 0), (75, 25), (200, 30)):
        matrix = coords.compute_extrinsic_matrix(azimuth, elevation, 2.5)
        seen = coords.project_verts(torch.tensor([[0.0, 0, 0], [0, 1, 0]]), matrix)
        assert seen[0].tolist() == pytest.approx([0, 0, -2.5], abs=1e-6)
        assert seen[1, 1].item() == pytest.approx(math.cos(math.radians(elevation)), abs=1e-6)
        torch.testing.assert_close(matrix[:3, :3] @ matrix[:3, :3].T, torch.eye(3))


# Models


@pytest.mark.parametrize("name", PRESETS)
def test_published_models_build_with_their_keys(name):
    with torch.device("meta"):
        model = build_model(get_published_cfg(name))
    keys = model.state_dict()

    assert keys["K"].shape == (4, 4)
    assert keys["backbone.stem.0.weight"].shape == (64, 3, 7, 7)
    assert keys["backbone.stage1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert keys["backbone.stage4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert keys["mesh_head.stages.1.gconvs.0.w0.weight"].shape == (128, 259)
    assert keys["mesh_head.stages.0.bottleneck.weight"].shape == (128, 256 + 512 + 1024 + 2048)
    assert keys["mesh_head.stages.2.vert_offset.weight"].shape == (3, 131)
    assert ("voxel_head.predictor.weight" in keys) == ("voxmesh" in name)


def test_wrong_names_get_the_nearest():
    with pytest.raises(KeyError, match=r"did you mean 'shapenet/voxmesh_R50.yaml'"):
        get_published_cfg("shapenet/voxmesh_R50")
    with pytest.raises(KeyError, match="did you mean 'resnet50'"):
        mesh_arch.ResNetBackbone("resnet_50")
    with pytest.raises(ValueError, match="VOXEL_SIZE must be even; got 7"):
        heads.VoxelHead(4, voxel_size=7, num_conv=0, conv_dim=4)
    cfg = get_shapenet_cfg()
    cfg.MODEL.MESH_HEAD.NAME = "VoxMesh"
    with pytest.raises(KeyError, match=r"set MODEL.MESH_HEAD.NAME"):
        build_model(cfg)


def tiny(kind):
    backbone = mesh_arch.ResNetBackbone("resnet18", width=8)
    mesh_head = heads.MeshRefinementHead(
        sum(backbone.out_channels), num_stages=2, hidden_dim=8, stage_depth=2
    )
    if kind is not mesh_arch.VoxMeshHead:
        return kind(backbone=backbone, mesh_head=mesh_head, ico_sphere_level=1)
    voxel_head = heads.VoxelHead(64, voxel_size=8, num_conv=1, conv_dim=8)
    return kind(backbone=backbone, mesh_head=mesh_head, voxel_head=voxel_head, cubify_threshold=0.6)


@pytest.mark.parametrize(
    ("kind", "num_faces"),
    [
        (mesh_arch.SphereInitHead, 80),
        (mesh_arch.Pixel2MeshHead, 320),
        (mesh_arch.VoxMeshHead, 12 * 4 * 4),  # probabilities of 1/2: a cube of 4 x 4 x 4
    ],
)
def test_a_step_of_training(kind, num_faces):
    model = tiny(kind)
    images = torch.randn(2, 3, 32, 32)
    voxels, stages = model(images)
    sphere = ico_sphere(1).extend(2)
    compare = MeshLoss(voxel_weight=1.0, normal_weight=0.1, gt_num_samples=20, pred_num_samples=20)
    loss, parts = compare(voxels, stages, torch.ones(2, 8, 8, 8), sphere)
    loss.backward()

    assert stages[-1].num_faces_per_mesh().tolist() == [num_faces] * 2
    names = {f"{n}_{k}" for n in ("chamfer", "normal", "edge") for k in range(2)}
    assert set(parts) == names | ({"voxel"} if voxels is not None else set())
    assert all(p.grad is not None for p in model.parameters())


def test_while_voxels_are_bad_tetrahedra_stand_in():
    model = tiny(mesh_arch.VoxMeshHead)
    voxels, stages = model(torch.randn(1, 3, 64, 64), voxel_only=True)
    assert stages[-1].num_faces_per_mesh().tolist() == [4]
    no_mesh_loss = MeshLoss(0.0, 0.0, 0.0, voxel_weight=2.0)
    points = (torch.zeros(1, 5, 3), torch.zeros(1, 5, 3))
    loss, parts = no_mesh_loss(voxels, stages, torch.ones(1, 8, 8, 8), points)
    assert loss.item() == pytest.approx(2 * parts["voxel"].item())
    assert list(parts) == ["voxel"]


# Data


@pytest.fixture
def folder(tmp_path):
    """One model of one class with two pictures, as the public project prepares them."""
    here = tmp_path / "02828884" / "model"
    (here / "images").mkdir(parents=True)
    RT = coords.compute_extrinsic_matrix(30, 20, 1.2)
    ball = ico_sphere(1).scale_verts(0.2)
    verts, faces = ball.get_mesh_verts_faces(0)
    torch.save(
        {
            "intrinsic": coords.get_blender_intrinsic_matrix(),
            "extrinsics": [RT, RT],
            "image_list": ["00.png", "01.png"],
        },
        here / "metadata.pt",
    )
    torch.save({"verts": verts, "faces": faces}, here / "mesh.pt")
    torch.save({"points_sampled": verts, "normals_sampled": verts / 0.2}, here / "samples.pt")
    inside = torch.cartesian_prod(*[torch.linspace(-0.2, 0.2, 41)] * 3)
    torch.save({"voxel_coords": inside[inside.norm(dim=1) < 0.2]}, here / "voxels.pt")
    for k in range(2):
        Image.new("RGB", (32, 32), (124, 116, 104)).save(here / "images" / f"{k:02d}.png")
    (tmp_path / "summary.json").write_text(json.dumps({"02828884": {"model": 2}}))
    return tmp_path


def test_samples_are_in_the_cameras_space(folder):
    dataset = MeshVoxDataset(folder, return_mesh=True, voxel_size=16, num_samples=10)
    batch = dataset.collate_fn([dataset[0], dataset[1]])

    assert len(dataset) == 2
    assert batch.ids == ["02828884-model-00", "02828884-model-01"]
    assert batch.images.abs().max() < 0.02  # the mean colour of ImageNet
    assert batch.points.shape == batch.normals.shape == (2, 10, 3)
    center = batch.meshes.get_bounding_boxes().mean(dim=2)
    torch.testing.assert_close(center, torch.tensor([[0.0, 0, -1.2]] * 2), atol=0.02, rtol=0)
    filled = batch.voxels[0].nonzero().float().mean(dim=0)
    assert filled[1:].tolist() == pytest.approx([7.5, 7.5], abs=0.5)


def test_splits_caches_and_sampling_online(folder):
    (folder / "02828884" / "model" / "vox4").mkdir()
    torch.save(torch.ones(4, 4, 4).long(), folder / "02828884" / "model" / "vox4" / "001.pt")
    only = MeshVoxDataset(folder, {"02828884": {"model": [1]}}, voxel_size=4, sample_online=True)
    batch = only.collate_fn([only[0]])
    assert batch.ids == ["02828884-model-01"]
    assert batch.voxels.all()
    assert batch.points.shape == (1, 5000, 3)
    assert len(MeshVoxDataset(folder, {"02828884": ["model"]})) == 2
    assert len(MeshVoxDataset(folder, {"02828884": []})) == len(MeshVoxDataset(folder, {})) == 0
    bare = MeshVoxDataset(folder, voxel_size=0)
    assert bare.collate_fn([bare[0]])[4] is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", [mesh_arch.SphereInitHead, mesh_arch.VoxMeshHead])
def test_a_model_learns(folder, kind):
    """What it begins with, a sphere of radius 1 or an unlikely cube, is far from the ball."""
    cfg = get_shapenet_cfg()
    cfg.MODEL.VOXEL_ON = kind is mesh_arch.VoxMeshHead
    cfg.MODEL.VOXEL_HEAD.VOXEL_ONLY_ITERS = 0
    cfg.MODEL.MESH_HEAD.PRED_NUM_SAMPLES = 50
    cfg.SOLVER.BASE_LR = 0.003
    torch.manual_seed(0)
    model = tiny(kind)
    dataset = MeshVoxDataset(folder, voxel_size=8, num_samples=42)
    batch = dataset.collate_fn([dataset[0], dataset[1]])
    first = training.train(cfg, model, [batch], 1)
    cfg.MODEL.VOXEL_HEAD.VOXEL_ONLY_ITERS = 3
    last = training.train(cfg, model, [batch], 60)
    assert last < 0.7 * first


def test_a_step_that_explodes_is_left_out(folder, caplog):
    cfg = get_shapenet_cfg()
    cfg.MODEL.MESH_HEAD.PRED_NUM_SAMPLES = 20
    cfg.SOLVER.SKIP_LOSS_THRESH = 2.0
    dataset = MeshVoxDataset(folder, voxel_size=0, num_samples=42)
    batch = dataset.collate_fn([dataset[0], dataset[1]])
    wild = batch._replace(points=batch.points * 1000)
    usual = training.train(cfg, tiny(mesh_arch.SphereInitHead), [batch, wild], 2)
    assert usual < 100
    assert "Step 1 is left out" in caplog.text


def test_optimizers_and_schedules():
    cfg = get_shapenet_cfg()
    model = nn.Linear(1, 1)
    assert isinstance(training.build_optimizer(cfg, model), torch.optim.Adam)
    cfg.SOLVER.OPTIMIZER = "sgd"
    assert isinstance(training.build_optimizer(cfg, model), torch.optim.SGD)
    cfg.SOLVER.OPTIMIZER = "adamw"
    with pytest.raises(KeyError, match="did you mean 'adam'"):
        training.build_optimizer(cfg, model)

    assert training.learning_rate(cfg, 5, 10) == 1
    cfg.SOLVER.LR_SCHEDULER_NAME = "cosine"
    rates = [training.learning_rate(cfg, step, 1500) for step in (0, 250, 500, 1000, 1500)]
    assert rates == pytest.approx([0.1, 0.55, 1, 0.5, 0])
    cfg.SOLVER.LR_SCHEDULER_NAME = "cosin"
    with pytest.raises(KeyError, match="did you mean 'cosine'"):
        training.learning_rate(cfg, 0, 1)


class Oracle(nn.Module):
    """Predicts spheres, whatever it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        ball = ico_sphere(1).scale_verts(0.2).offset_verts(torch.tensor([0.0, 0, -1.2]))
        return None, [ball.extend(len(images))]


def test_evaluation_by_class(folder):
    dataset = MeshVoxDataset(folder, return_mesh=True, voxel_size=0)
    batch = dataset.collate_fn([dataset[0], dataset[1]])
    results = evaluate_test(Oracle(), [batch], num_samples=300)

    assert set(results) == {"bench", "total", "per-instance"}
    assert results["bench"] == results["total"] == results["per-instance"]
    assert results["bench"]["f1_0.5"] > 40  # of 300 random points, 10 long
    assert results["bench"]["chamfer"] < 1
    assert evaluate_test_p2m(Oracle(), [batch], 300)["total"]["chamfer"] < 0.01
    assert evaluate_test(Oracle(), []) == {}
    with pytest.raises(ValueError, match="make the dataset with return_mesh=True"):
        evaluate_test(Oracle(), [batch._replace(meshes=None)])


def test_no_pictures():
    empty = tiny(mesh_arch.SphereInitHead).mesh_head(
        [torch.zeros(0, c, 2, 2) for c in (8, 16, 32, 64)], Meshes([], [])
    )
    assert [len(m) for m in empty] == [0, 0]
