"""Reading Pix3D's form, the mapper, the generated solids, metrics, the evaluator, pictures."""

import copy
import json
import math

import numpy as np
import pytest
import torch

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data import transforms as T
from retinue.projects.meshrcnn import example
from retinue.projects.meshrcnn.data import MeshRCNNMapper
from retinue.projects.meshrcnn.data.datasets import (
    load_pix3d_json,
    register_all_pix3d,
    register_pix3d,
)
from retinue.projects.meshrcnn.data.datasets.builtin import SPLITS, get_pix3d_metadata
from retinue.projects.meshrcnn.evaluation import (
    Pix3DEvaluator,
    transform_meshes_to_camera_coord_system,
)
from retinue.projects.meshrcnn.ops import Meshes, ico_sphere, load_obj
from retinue.projects.meshrcnn.structures import MeshInstances
from retinue.projects.meshrcnn.structures.mask import batch_crop_masks_within_box
from retinue.projects.meshrcnn.structures.mesh import batch_crop_meshes_within_box
from retinue.projects.meshrcnn.structures.voxel import batch_crop_voxels_within_box
from retinue.projects.meshrcnn.utils import vis
from retinue.projects.meshrcnn.utils.metrics import compare_meshes
from retinue.projects.meshrcnn.utils.VOCap import compute_ap
from retinue.structures import Boxes, Instances


def examples(solids, cfg, **changes):
    mapper = MeshRCNNMapper(cfg, True, dataset_names=solids)
    for name, value in changes.items():
        setattr(mapper, name, value)
    return [mapper(sample) for sample in DatasetCatalog.get(solids[1])]


# Data


def test_samples_have_cameras_and_paths(solids, solids_folder):
    samples = DatasetCatalog.get(solids[0])
    one = samples[1]["annotations"][0]

    assert len(samples) == 4
    assert one["mesh"] == "model/00001.obj"
    assert one["category_id"] == 1
    assert len(one["K"]) == len(one["t"]) == len(one["R"]) == 3
    assert load_obj(solids_folder / solids[0] / one["mesh"])[1].shape == (12, 3)  # a block
    assert MetadataCatalog.get(solids[0]).thing_classes == ["ball", "block", "step", "arch"]


def test_broken_annotations_are_named(tmp_path, solids_folder):
    content = json.loads((solids_folder / example.TRAIN / "solids.json").read_text())
    path = tmp_path / "broken.json"
    broken = copy.deepcopy(content)
    del broken["annotations"][2]["rot_mat"]
    path.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"annotation 2 must name .* got no rot_mat"):
        load_pix3d_json(str(path), "")
    content["annotations"][1]["image_id"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"annotation 1 .* got an unknown image: 99"):
        load_pix3d_json(str(path), "")


def test_mismatched_pictures_of_pix3d_are_left_out(tmp_path, solids_folder):
    content = json.loads((solids_folder / example.TRAIN / "solids.json").read_text())
    content["images"][0]["file_name"] = "img/table/1749.jpg"
    path = tmp_path / "pix3d.json"
    path.write_text(json.dumps(content))
    assert [s["image_id"] for s in load_pix3d_json(str(path), "root")] == [1, 2, 3]


def test_pix3d_is_registered_when_asked(tmp_path):
    register_all_pix3d(str(tmp_path))
    register_all_pix3d(str(tmp_path))  # those that are there stay
    try:
        meta = MetadataCatalog.get("pix3d_s2_test")
        assert meta.json_file == str(tmp_path / "pix3d/pix3d_s2_test.json")
        assert meta.thing_classes[:3] == ["bed", "bookcase", "chair"]
        assert meta.thing_dataset_id_to_contiguous_id[9] == 8
        assert len(get_pix3d_metadata()) == 9
    finally:
        for name in SPLITS:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_masks_voxels_and_meshes_of_a_solid_agree(solids, tiny_config):
    """What the camera sees is what was drawn: silhouettes of voxels fill the mask."""
    for one in examples(solids, tiny_config):
        truth = one["instances"]
        boxes = truth.gt_boxes.tensor
        voxels = batch_crop_voxels_within_box(truth.gt_voxels, boxes, truth.gt_K, 16)
        mask = batch_crop_masks_within_box(truth.gt_masks, boxes, 16).bool()
        silhouette = voxels.amax(dim=1).bool()
        iou = (mask & silhouette).sum() / (mask | silhouette).sum()
        mesh = batch_crop_meshes_within_box(truth.gt_meshes, boxes, truth.gt_K)
        assert iou > 0.75
        assert mesh.get_bounding_boxes().flatten().tolist() == pytest.approx([-1, 1] * 3, abs=0.15)


def test_ground_truth_follows_resizing(solids, tiny_config):
    once = examples(solids, tiny_config)[1]["instances"]
    twice = examples(solids, tiny_config, augmentations=T.AugmentationList([T.Resize((128, 128))]))
    twice = twice[1]["instances"]

    torch.testing.assert_close(twice.gt_boxes.tensor, once.gt_boxes.tensor * 2)
    torch.testing.assert_close(twice.gt_dz, once.gt_dz * 2)
    assert twice.gt_K.tolist() == [[once.gt_K[0, 0].item(), 64, 64]]
    crops = [
        batch_crop_voxels_within_box(i.gt_voxels, i.gt_boxes.tensor, i.gt_K, 16)
        for i in (once, twice)
    ]
    assert (crops[0] != crops[1]).float().mean() < 0.05  # the middle moves by half a pixel


def test_ground_truth_follows_flips(solids, tiny_config):
    once = examples(solids, tiny_config)[3]["instances"]
    flip = T.AugmentationList([T.RandomFlip(prob=1.0)])
    flipped = examples(solids, tiny_config, augmentations=flip)[3]["instances"]
    boxes = [i.gt_boxes.tensor for i in (once, flipped)]

    assert boxes[1][0, 0] == 64 - boxes[0][0, 2]
    torch.testing.assert_close(flipped.gt_masks, once.gt_masks.flip(2))
    crops = [
        batch_crop_voxels_within_box(i.gt_voxels, b, i.gt_K, 16)
        for i, b in zip((once, flipped), boxes, strict=True)
    ]
    # The middle of the picture is half a pixel off its axis of reflection.
    assert (crops[0].flip(3) != crops[1]).float().mean() < 0.15
    meshes = [i.gt_meshes.data[0][0] for i in (once, flipped)]
    torch.testing.assert_close(meshes[1], meshes[0] * torch.tensor([-1.0, 1, 1]))


def test_the_mapper_says_what_it_can_not_do(solids, tiny_config):
    mapper = MeshRCNNMapper(tiny_config, True, dataset_names=solids)
    sample = DatasetCatalog.get(solids[0])[0]
    mapper.augmentations = T.AugmentationList([T.RandomCrop("absolute", (60, 60))])
    with pytest.raises(ValueError, match="follow resizing and horizontal flips; got CropTransform"):
        mapper(sample)
    mapper.augmentations = T.AugmentationList([])
    mapper.mesh_models = {}
    with pytest.raises(ValueError, match=r"expected model 'model/00000.obj' among the 0"):
        mapper(sample)
    with pytest.raises(ValueError, match="dataset_names is needed"):
        MeshRCNNMapper(tiny_config, True)
    tiny_config.MODEL.LOAD_PROPOSALS = True
    with pytest.raises(ValueError, match=r"set MODEL.LOAD_PROPOSALS False"):
        MeshRCNNMapper(tiny_config, True, dataset_names=solids)


def test_for_evaluation_there_is_no_ground_truth(solids, tiny_config):
    mapper = MeshRCNNMapper(tiny_config, False, dataset_names=solids)
    sample = DatasetCatalog.get(solids[0])[0]
    one = mapper(sample)
    assert one["image"].dtype == torch.uint8
    assert "annotations" in sample
    assert not {"annotations", "instances"} & set(one)
    crowd = dict(sample, annotations=[dict(sample["annotations"][0], iscrowd=1)])
    trained = MeshRCNNMapper(tiny_config, True, dataset_names=solids)(crowd)
    assert len(trained["instances"]) == 0


# Metrics


def test_a_mesh_compared_with_itself():
    torch.manual_seed(0)
    two = ico_sphere(2).extend(2)
    got = compare_meshes(two, two[:1].scale_verts(1.0), 1000, reduce=False)

    assert got["Chamfer-L2"].shape == (2,)
    assert got["Chamfer-L2"].max() < 0.3  # of spheres 10 wide, between random points
    assert got["NormalConsistency"].min() > 0.95
    assert got["F1@0.500000"].min() > 85  # nearest of 1000 points: 0.28 away at the median
    mean = compare_meshes(two, two, 100, thresholds=[9.0])
    assert mean["F1@9.000000"] == pytest.approx(100)
    assert set(mean) >= {"Precision@9.000000", "Recall@9.000000", "AbsNormalConsistency"}


def test_scales_of_a_comparison():
    """Spheres of radii 1 and 2: distance 1 at scale 1, 0.25 at scale 1/2, 2.5 at 10 long."""
    small, large = ico_sphere(3), ico_sphere(3).scale_verts(2.0)
    torch.manual_seed(0)

    def distance(scale):
        return compare_meshes(small, large, 2000, scale=scale)["Chamfer-L2"]

    assert distance(1.0) == pytest.approx(2 * 1.0, rel=0.05)
    assert distance(0.5) == pytest.approx(2 * 0.25, rel=0.05)
    assert distance((2.0, 1.0)) < 0.05
    assert distance("gt-10") == pytest.approx(2 * 2.5**2, rel=0.05)
    with pytest.raises(ValueError, match="like 'gt-10'; got 'gt-ten'"):
        distance("gt-ten")
    with pytest.raises(ValueError, match="expected 1 or 1 true meshes; got 3"):
        compare_meshes(small, large.extend(3))


def test_average_precision_by_hand():
    """Right, wrong, right, of three objects: 1/3 at precision 1, 1/3 at 2/3."""
    scores, labels = torch.tensor([0.5, 0.9, 0.7]), torch.tensor([1, 1, 0])
    assert compute_ap(scores, labels, 3) == pytest.approx(1 / 3 + 2 / 9)
    assert compute_ap(scores[:0], labels[:0], 3) == 0.0


# Evaluation


def perfect(one, size_hw=(64, 64)):
    """The truth, as a detection."""
    truth = one["instances"]
    boxes = truth.gt_boxes.tensor
    mesh = batch_crop_meshes_within_box(truth.gt_meshes, boxes, truth.gt_K)
    found = Instances(size_hw, pred_boxes=Boxes(boxes), scores=torch.tensor([0.9]))
    found.pred_classes = truth.gt_classes
    found.pred_masks = truth.gt_masks > 0
    found.pred_meshes = MeshInstances([mesh.get_mesh_verts_faces(0)])
    found.pred_dz = (truth.gt_dz / (boxes[:, 3] - boxes[:, 1]))[:, None]
    return found


def test_what_is_perfect_scores_one(solids, tiny_config, tmp_path):
    evaluator = Pix3DEvaluator(solids[1], tiny_config, False, str(tmp_path), num_samples=2000)
    samples = DatasetCatalog.get(solids[1])
    ones = examples(solids, tiny_config)
    found = [perfect(one) for one in ones]
    evaluator.process(samples, [{"instances": f} for f in found])
    shape = evaluator.evaluate()["shape"]

    assert [shape[f"{task}_ap@0.5"] for task in ("box", "mask", "mesh")] == [1, 1, 1]
    assert shape["mesh_ap@0.5 - arch"] == 1
    assert shape["F1@0.300000"] > 85  # of 2000 random points
    assert shape["Chamfer-L2"] < 0.3
    assert (tmp_path / "shape_results.pth").exists()

    evaluator.reset()
    assert evaluator.evaluate()["shape"]["mesh_ap@0.5"] == 0
    wrong = found[0]
    wrong.pred_classes = wrong.pred_classes + 1
    evaluator.process(samples[:1], [{"instances": wrong}])
    evaluator.process(samples[1:2], [{"instances": found[1][:0]}])
    assert evaluator.evaluate()["shape"]["box_ap@0.5"] == 0


def test_an_object_is_found_once(solids, tiny_config):
    """The second detection counts as wrong: precision falls to 1/2 before nothing else is found."""
    tiny_config.MODEL.MESH_ON = tiny_config.MODEL.VOXEL_ON = False
    evaluator = Pix3DEvaluator(solids[1], tiny_config, False)
    sample = DatasetCatalog.get(solids[1])[0]
    truth = examples(solids, tiny_config)[0]["instances"]
    twice = Instances((64, 64), pred_boxes=Boxes(truth.gt_boxes.tensor.repeat(2, 1)))
    twice.scores = torch.tensor([0.3, 0.8])
    twice.pred_classes = truth.gt_classes.repeat(2)
    twice.pred_masks = torch.stack([truth.gt_masks[0] > 0, truth.gt_masks[0] < 0])
    evaluator.process([sample], [{"instances": twice}])
    rows = evaluator._detections

    assert [(r["score"] > 0.5, r["box"], r["mask"]) for r in rows] == [
        (True, True, False),
        (False, False, True),
    ]


def test_the_evaluator_says_what_it_needs(solids, tiny_config, solids_folder, tmp_path):
    evaluator = Pix3DEvaluator(solids[1], tiny_config, False, num_samples=10)
    sample = DatasetCatalog.get(solids[1])[0]
    found = perfect(examples(solids, tiny_config)[0])
    found.remove("pred_dz")
    with pytest.raises(ValueError, match=r"set MODEL.ZPRED_ON"):
        evaluator.process([sample], [{"instances": found}])
    found.pred_masks = found.pred_masks[:, :32]
    with pytest.raises(ValueError, match=r"must be as large as the image, \(32, 64\); got"):
        evaluator.process([sample], [{"instances": found}])

    content = json.loads((solids_folder / example.VAL / "solids.json").read_text())
    content["annotations"].append(dict(content["annotations"][0], id=99))
    (tmp_path / "twice.json").write_text(json.dumps(content))
    register_pix3d("twice", "twice.json", "", str(tmp_path), classes=example.SOLID_CLASSES)
    try:
        with pytest.raises(ValueError, match="one object an image; image 0 has 2"):
            Pix3DEvaluator("twice", tiny_config)
    finally:
        DatasetCatalog.remove("twice")
        MetadataCatalog.remove("twice")


def test_meshes_stand_where_their_boxes_look(solids, tiny_config):
    boxes = torch.tensor([[10.0, 10, 50, 50]])
    ranges, camera = torch.tensor([[2.0, 3.0]]), torch.tensor([[100.0, 32, 32]])
    placed = transform_meshes_to_camera_coord_system(
        Meshes([torch.zeros(0, 3)], [torch.zeros(0, 3).long()]), boxes, ranges, camera, (64, 64)
    )
    low, high = placed.get_bounding_boxes()[0].unbind(dim=1)

    assert placed.num_faces_per_mesh().tolist() == [1280]  # a sphere stands for nothing
    assert (low[2].item(), high[2].item()) == pytest.approx((2, 3), abs=0.01)
    with pytest.raises(ValueError, match="a range of depth for each of 1 meshes; got 2"):
        transform_meshes_to_camera_coord_system(
            placed, boxes, ranges.repeat(2, 1), camera, (64, 64)
        )


# Pictures


def test_pictures_and_meshes_are_written(solids, tiny_config, tmp_path):
    sample = DatasetCatalog.get(solids[1])[2]
    meta = MetadataCatalog.get(solids[1])
    found = perfect(examples(solids, tiny_config)[2])
    camera = sample["annotations"][0]["K"]
    (path,) = vis.visualize_predictions(7, sample["file_name"], found, camera, meta, tmp_path)

    assert path.name == "7_0_step_0.900.obj"
    assert path.with_name("7_0_step_0.900.png").exists()
    verts, faces = load_obj(path)
    assert len(faces) == len(examples(solids, tiny_config)[2]["instances"].gt_meshes.data[0][1])
    assert verts[:, 2].min() > 0  # in front of the camera
    nothing = vis.visualize_predictions(7, sample["file_name"], found[:0], camera, meta, tmp_path)
    assert nothing == []
    drawn = vis.draw_pix3d_dict(sample, meta)
    assert drawn.shape == (64, 64, 3)
    assert math.isfinite(np.abs(drawn.astype(float)).mean())
