"""GPS and its average precision on made-up surfaces and bodies, by hand."""

import io
import json
import logging
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.projects.densepose import DensePoseCOCOEvaluator
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo, register_mesh
from retinue.projects.densepose.evaluation.annotations import Annotations
from retinue.projects.densepose.evaluation.densepose_coco_evaluation import (
    DensePoseCocoEval,
    DensePoseDataMode,
    DensePoseEvalMode,
    Params,
)
from retinue.projects.densepose.evaluation.evaluator import (
    build_densepose_evaluator_storage,
    prediction_to_dict,
)
from retinue.projects.densepose.evaluation.matching import Matching, keypoint_similarity
from retinue.projects.densepose.evaluation.mesh_alignment_evaluator import MeshAlignmentEvaluator
from retinue.projects.densepose.evaluation.surface import BodySurface, part_scale
from retinue.projects.densepose.evaluation.tensor_storage import (
    SingleProcessFileTensorStorage,
    SingleProcessRamTensorStorage,
    SizeData,
    storage_gather,
)
from retinue.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseEmbeddingPredictorOutput,
)
from retinue.projects.densepose.structures.chart_result import DensePoseChartResultQuantized
from retinue.structures import Boxes, Instances

# Chart 1 has vertices at u = 0 and 1, chart 2 one at u = 0: three points in a row, 0.3 m apart,
# the second of which occurs in both charts.
SURFACE = BodySurface(
    charts=np.array([1, 1, 2, 2]),
    uv=np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]),
    points=np.array([1, 2, 2, 3]),
    distances=np.array([0.3, 0.6, 0.3]),
)
TORSO = 0.351


@pytest.fixture(autouse=True)
def small_surface(monkeypatch):
    monkeypatch.setattr(BodySurface, "load", classmethod(lambda cls: SURFACE))


def test_points_on_the_surface():
    vertices = SURFACE.nearest_vertices(
        np.array([1, 0, 2, 1]), np.array([0.2, 0.0, 0.9, 0.8]), np.zeros(4)
    )
    assert vertices.tolist() == [0, -1, 3, 1]
    points = SURFACE.points_of(vertices)
    assert points.tolist() == [1, 0, 3, 2]
    distances = SURFACE.geodesics(np.array([1, 3, 2, 3]), np.array([2, 1, 2, 0]))
    assert distances.tolist() == [0.3, 0.6, 0.0, np.inf]
    assert part_scale(np.array([1, 3, 24])).tolist() == [0.351, 0.107, 0.150]


def gt(number=1, box=(0, 0, 10, 10), **more):
    """Two points: at the start and the end of chart 1, in the corners of the box."""
    annotation = {
        "id": number,
        "image_id": 7,
        "category_id": 0,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        "dp_x": [25.5, 229.5],  # 1 and 9 of 10 pixels
        "dp_y": [25.5, 229.5],
        "dp_I": [1, 1],
        "dp_U": [0.0, 1.0],
        "dp_V": [0.0, 0.0],
    }
    return annotation | more


def dt(u=(0, 255), box=(0, 0, 10, 10), score=0.9, chart=1):
    """Chart 1 with one u in the upper, another in the lower half."""
    pixels = torch.zeros(3, 10, 10, dtype=torch.uint8)
    pixels[0] = chart
    pixels[1, :5], pixels[1, 5:] = u
    return {
        "image_id": 7,
        "category_id": 0,
        "bbox": list(box),
        "score": score,
        "densepose": DensePoseChartResultQuantized(pixels),
    }


def evaluate(gts, dts, **options):
    dataset = {
        "images": [{"id": 7, "height": 20, "width": 30}],
        "annotations": gts,
        "categories": [{"id": 0, "name": "person"}],
    }
    annotations = Annotations(dataset)
    evaluation = DensePoseCocoEval(annotations, annotations.loadRes(dts), **options)
    if evaluation.params.iouType == "densepose":
        evaluation.params.areaRng = [[0, 1e10], [50, 1e10], [1e9, 1e10]]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_gps_is_a_mean_over_points():
    """One point is right, one 0.3 m off on the torso, whose standard deviation is 0.351 m."""
    evaluation = evaluate([gt()], [dt(u=(0, 0))])
    gps, boxes = evaluation.ious[7, 0]

    assert gps[0, 0] == pytest.approx((1 + math.exp(-(0.3**2) / (2 * TORSO**2))) / 2)
    assert boxes[0, 0] == 1
    # 0.8471: above 7 of the ten thresholds from 0.5 to 0.95
    ap, ap50, ap75, medium, large, ar, *_ = evaluation.stats
    assert (ap, ap50, ap75) == pytest.approx((0.7, 1, 1), abs=1e-6)
    assert (medium, large) == pytest.approx((0.7, -1), abs=1e-6)
    assert ar == pytest.approx(0.7)


def test_points_outside_the_detected_box_are_as_wrong_as_can_be():
    evaluation = evaluate([gt()], [dt(box=(0, 0, 10, 5))])
    assert evaluation.ious[7, 0][0][0, 0] == pytest.approx(0.5)
    evaluation = evaluate([gt()], [dt(box=(15, 0, 10, 10))])
    assert evaluation.ious[7, 0][0][0, 0] == 0


@pytest.mark.parametrize(
    ("mode", "gps"),
    [
        (DensePoseDataMode.IUV_DT, 0.0),  # the detected chart is the background
        (DensePoseDataMode.IUV_GT, 1.0),
        (DensePoseDataMode.I_GT_UV_DT, 1.0),
        (DensePoseDataMode.I_GT_UV_0, (1 + math.exp(-(0.3**2) / (2 * TORSO**2))) / 2),
        (DensePoseDataMode.I_DT_UV_0, 0.0),
    ],
)
def test_parts_of_a_detection_can_be_replaced_by_the_truth(mode, gps):
    evaluation = evaluate([gt()], [dt(chart=0)], dpDataMode=mode)
    assert evaluation.ious[7, 0][0][0, 0] == pytest.approx(gps)


def runs_of(part):
    import hotcoco.mask as runs

    return runs.encode(np.asfortranarray(part, dtype=np.uint8))


def test_masked_gps_takes_the_overlap_of_masks_in():
    """The body fills the left half of the box, the detection all of it."""
    part = np.zeros((256, 256))
    part[:, :128] = 1
    body = gt(dp_masks=[runs_of(part)])
    evaluation = evaluate([body], [dt()], dpEvalMode=DensePoseEvalMode.IOU)
    overlap = evaluation.real_ious[7, 0][0, 0]
    assert overlap == pytest.approx(0.5)
    masked = evaluate([body], [dt()], dpEvalMode=DensePoseEvalMode.GPSM)
    similarity = masked._similarities(7, 0)[0, 0]
    assert similarity == pytest.approx(math.sqrt(0.5))  # of a GPS of 1


@pytest.mark.parametrize(
    ("segmentation", "overlap"),
    [([[0, 0, 10, 0, 10, 10, 0, 10]], 1.0), ({"size": [20, 30], "counts": [600]}, 0.0), ([], 0.0)],
)
def test_masks_may_come_from_segmentations(segmentation, overlap):
    body = gt(segmentation=segmentation)
    evaluation = evaluate([body], [dt()], dpEvalMode=DensePoseEvalMode.IOU)
    assert evaluation.real_ious[7, 0][0, 0] == pytest.approx(overlap)


def test_bodies_without_points_are_ignored_with_what_finds_them():
    """The second detection is no mistake: its box is that of a body without points."""
    plain = {k: v for k, v in gt(2, (12, 0, 10, 10)).items() if not k.startswith("dp_")}
    dts = [dt(box=(12, 0, 10, 10), score=0.99), dt(score=0.5)]
    evaluation = evaluate([gt(), plain], dts)
    assert evaluation.stats[0] == pytest.approx(1)

    elsewhere = evaluate([gt(), plain], [dt(box=(20, 10, 10, 10), score=0.99), dt(score=0.5)])
    assert elsewhere.stats[0] == pytest.approx(0.5)  # now the first one is


def test_the_better_of_two_detections_wins_by_score():
    evaluation = evaluate([gt()], [dt(score=0.5), dt(u=(255, 0), score=0.9)])
    row = evaluation.evalImgs[0]
    assert row["dtIds"] == [2, 1]
    assert row["dtMatches"][0].tolist() == [1, 0]  # 0.69, at a threshold of 0.5
    assert row["dtMatches"][-1].tolist() == [0, 1]


def test_images_without_detections_or_bodies():
    assert evaluate([gt()], []).stats[:1] == [0]
    assert evaluate([], [dt()]).stats[0] == -1
    with pytest.raises(ValueError, match="call evaluate"):
        DensePoseCocoEval().accumulate()
    with pytest.raises(ValueError, match="call accumulate"):
        DensePoseCocoEval().summarize()
    with pytest.raises(ValueError, match="needs cocoGt and cocoDt"):
        DensePoseCocoEval().evaluate()
    with pytest.raises(KeyError, match="did you mean 'densepose'"):
        Params("densepos")


def test_regions_to_be_ignored():
    """A detection of which more than 0.9 lies there does not count."""
    dataset = {
        "images": [
            {
                "id": 7,
                "height": 20,
                "width": 30,
                "ignore_regions_x": [[15, 30, 30, 15]],
                "ignore_regions_y": [[0, 0, 20, 20]],
            }
        ],
        "annotations": [gt()],
        "categories": [{"id": 0, "name": "person"}],
    }
    annotations = Annotations(dataset)
    dts = annotations.loadRes([dt(), dt(box=(18, 5, 10, 10), score=0.99)])
    evaluation = DensePoseCocoEval(annotations, dts)
    evaluation.evaluate()
    assert [row["id"] for row in evaluation._dts[7, 0]] == [1]


def test_boxes_and_masks_and_keypoints_are_compared_as_coco_does():
    box = evaluate([gt()], [dt(box=(5, 0, 10, 10))], iouType="bbox")
    assert box.ious[7, 0][0, 0] == pytest.approx(1 / 3)
    assert box.stats.shape == (12,)
    square = [[0, 0, 10, 0, 10, 10, 0, 10]]
    mask = evaluate([gt(segmentation=square)], [dt() | {"segmentation": square}], iouType="segm")
    assert mask.ious[7, 0][0, 0] == 1

    points = [5.0, 5.0, 2] * 17
    moved = [7.0, 5.0, 1] * 17
    (similarity,) = keypoint_similarity([{"keypoints": moved}], [gt(keypoints=points)])
    k = 2 * 0.026  # of the nose
    assert similarity[0] < 1
    nose = [5.0, 5.0, 2, *[0, 0, 0] * 16]
    (one,) = keypoint_similarity([{"keypoints": moved}], [gt(keypoints=nose)])
    assert one[0] == pytest.approx(math.exp(-4 / (2 * 100 * k**2)))
    unlabelled = keypoint_similarity([{"keypoints": moved}], [gt(keypoints=[0] * 51)])
    assert unlabelled[0, 0] == 1  # all within twice the box


def test_equals_go_to_the_later_body_and_crowds_take_several():
    matching = Matching.empty(
        np.array([0.5]), np.array([1, 2, 3]), np.array([10, 20]), np.array([False, True])
    )
    similarity = np.array([[0.6, 0.9], [0.6, 0.6], [0.0, 0.7]])
    matching.by_similarity(similarity, crowd=np.array([False, True]))
    assert matching.dt.tolist() == [[10, 20, 20]]  # one that counts before one that does not
    assert matching.ignore_dt.tolist() == [[False, True, True]]


@pytest.fixture
def line(tmp_path):
    """A mesh of three vertices, 0.3 m apart."""
    file = tmp_path / "geodists.pkl"
    file.write_bytes(pickle.dumps(0.3 * np.abs(np.arange(3)[:, None] - np.arange(3))))
    register_mesh(MeshInfo("line", "none.pkl", geodists=str(file)), None)
    register_mesh(MeshInfo("other", "none.pkl", geodists=str(file)), None)
    yield "line"
    del MeshCatalog["line"], MeshCatalog["other"]


class OnAxes:
    mesh_names = ("line", "other")

    def __call__(self, name):
        return torch.eye(3)


def embedded(*, vertex):
    embedding = torch.zeros(3, 4, 4)
    embedding[vertex] = 1
    segm = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    found = {k: v for k, v in dt().items() if k != "densepose"}
    return found | {"embedding": embedding, "coarse_segm": segm}


def test_embeddings_are_compared_by_vertices(line):
    keys = {"dp_vertex": [0, 1], "ref_model": line}
    body = {k: v for k, v in gt().items() if k not in ("dp_I", "dp_U", "dp_V")} | keys
    evaluation = evaluate([body], [embedded(vertex=0)], embedder=OnAxes())
    want = (1 + math.exp(-(0.3**2) / (2 * 0.255**2))) / 2
    assert evaluation.ious[7, 0][0][0, 0] == pytest.approx(want, rel=1e-5)


def test_meshes_are_compared_by_named_vertices(line, tmp_path, monkeypatch):
    from retinue.projects.densepose.evaluation import mesh_alignment_evaluator as module

    (tmp_path / "cse").mkdir()
    names = {"line": {"nose": 0, "tail": 2}, "other": {"nose": 0, "tail": 1}}
    (tmp_path / "cse" / "mesh_keyvertices_v0.json").write_text(json.dumps(names))
    monkeypatch.setattr(module, "DATA", str(tmp_path))
    error, gps, per_mesh = MeshAlignmentEvaluator(OnAxes(), []).evaluate()

    assert error == pytest.approx(0.15)  # 0 and 0.3 m, both ways
    assert per_mesh["GE"] == {"line": pytest.approx(0.15), "other": pytest.approx(0.15)}
    assert gps == pytest.approx((1 + math.exp(-(0.3**2) / (2 * 0.255**2))) / 2)


SCHEMA = {"a": SizeData("float32", (2, 3)), "b": SizeData("int64", (1,))}


def records():
    return [{"b": torch.tensor([n]), "a": torch.full((2, 3), n + 0.5)} for n in range(3)]


@pytest.mark.parametrize("kind", ["ram", "file"])
def test_storages_give_back_what_they_took(kind, tmp_path):
    path = str(tmp_path / "records.bin")
    make = {
        "ram": lambda: SingleProcessRamTensorStorage(SCHEMA, io.BytesIO()),
        "file": lambda: SingleProcessFileTensorStorage(SCHEMA, path, "wb"),
    }
    storage = make[kind]()
    assert [storage.put(record) for record in records()] == [0, 1, 2]
    both = storage_gather(storage)
    for number, record in enumerate(records()):
        got = both.get(0, number)
        assert all(torch.equal(got[name], record[name]) for name in record)
    with pytest.raises(ValueError, match="record 3: expected 32 bytes; the storage has 0 left"):
        both.get(0, 3)
    if kind == "file":
        both.rank_to_storage[0].storage_impl.close()


def test_storages_refuse_what_does_not_fit(tmp_path):
    storage = SingleProcessRamTensorStorage(SCHEMA, io.BytesIO())
    with pytest.raises(ValueError, match=r"a record needs \['a', 'b'\]; got \['a'\]"):
        storage.put({"a": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"a: expected float32 of shape \(2, 3\); got float64"):
        storage.put({"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.zeros(1)})
    with pytest.raises(ValueError, match="'wb' or 'rb'; got 'w'"):
        SingleProcessFileTensorStorage(SCHEMA, str(tmp_path / "x"), "w")
    with pytest.raises(ValueError, match="got str"):
        storage_gather("x")


def test_storages_follow_the_config(densepose_cfg, tmp_path):
    keys = densepose_cfg.DENSEPOSE_EVALUATION
    assert build_densepose_evaluator_storage(densepose_cfg, str(tmp_path)) is None
    keys.STORAGE, keys.TYPE = "ram", "cse"
    storage = build_densepose_evaluator_storage(densepose_cfg, str(tmp_path))
    assert storage.data_schema["embedding"].shape == (16, 28, 28)
    keys.STORAGE, keys.TYPE = "file", "iuv"
    storage = build_densepose_evaluator_storage(densepose_cfg, str(tmp_path / "new"))
    assert storage.data_schema["u"].shape == (25, 28, 28)
    storage.storage_impl.close()
    keys.TYPE = "ui"
    with pytest.raises(KeyError, match=r"DENSEPOSE_EVALUATION\.TYPE 'ui'"):
        build_densepose_evaluator_storage(densepose_cfg, str(tmp_path))
    keys.STORAGE, keys.TYPE = "disk", "iuv"
    with pytest.raises(KeyError, match="known names: file, none, ram"):
        build_densepose_evaluator_storage(densepose_cfg, str(tmp_path))


def detections(count=1):
    """Chart 1, u = 0 in the upper and 1 in the lower half, in the box of the body."""
    output = DensePoseChartPredictorOutput(
        torch.zeros(count, 2, 8, 8),
        torch.zeros(count, 25, 8, 8),
        torch.zeros(count, 25, 8, 8),
        torch.zeros(count, 25, 8, 8),
    )
    output.coarse_segm[:, 1] = 1
    output.fine_segm[:, 1] = 1
    output.u[:, :, 4:] = 1
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(count, -1)
    return Instances(
        (20, 30),
        pred_boxes=Boxes(boxes.clone()),
        scores=torch.full((count,), 0.9),
        pred_classes=torch.zeros(count, dtype=torch.int64),
        pred_densepose=output,
    )


@pytest.fixture
def dataset(tmp_path):
    part = np.ones((256, 256))
    rle = runs_of(part)
    rle["counts"] = rle["counts"].decode()
    content = {
        "images": [{"id": 7, "height": 20, "width": 30, "file_name": "x.jpg"}],
        "annotations": [gt(category_id=1, dp_masks=[rle])],
        "categories": [{"id": 1, "name": "person"}],
    }
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(content))
    MetadataCatalog.get("dp_made_up").set(
        json_file=str(file),
        thing_classes=["person"],
        thing_dataset_id_to_contiguous_id={1: 0},
    )
    yield "dp_made_up"
    MetadataCatalog.pop("dp_made_up")


@pytest.mark.parametrize("storage", ["none", "ram"])
def test_the_evaluator_from_predictions_to_metrics(dataset, densepose_cfg, tmp_path, storage):
    keys = densepose_cfg.DENSEPOSE_EVALUATION
    keys.STORAGE, keys.TYPE = storage, "iuv"
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.HEATMAP_SIZE = 8
    evaluator = DensePoseCOCOEvaluator(
        dataset,
        distributed=False,
        output_dir=str(tmp_path / "out"),
        min_iou_threshold=0.2,
        storage=build_densepose_evaluator_storage(densepose_cfg, str(tmp_path)),
    )
    evaluator.process([{"image_id": 7}], [{"instances": detections()}])
    evaluator.process([{"image_id": 7}], [{"instances": Instances((20, 30))}])
    results = evaluator.evaluate()

    assert list(results) == ["densepose_gps", "densepose_gpsm", "densepose_segm"]
    for metrics in results.values():
        assert metrics["AP"] == pytest.approx(100)
        assert metrics["AP20"] == pytest.approx(100)
        assert metrics["APl"] == -100  # there is no large body
    assert (tmp_path / "out" / "coco_densepose_predictions.pth").exists()


def test_the_evaluator_without_predictions(dataset, caplog):
    evaluator = DensePoseCOCOEvaluator(dataset, distributed=False)
    with caplog.at_level(logging.WARNING):
        results = evaluator.evaluate()
    assert set(results["densepose_gps"].values()) == {-1}
    assert "no predictions" in caplog.text
    with pytest.raises(ValueError, match="EVALUATE_MESH_ALIGNMENT needs a model with"):
        DensePoseCOCOEvaluator(dataset, False, should_evaluate_mesh_alignment=True)


def test_predictions_of_embeddings_keep_what_was_predicted():
    found = detections(2)
    found.pred_densepose = DensePoseEmbeddingPredictorOutput(
        torch.ones(2, 16, 8, 8), torch.zeros(2, 2, 8, 8)
    )
    rows = prediction_to_dict(found, 7, None, None, use_storage=True)
    assert [row["embedding"].shape for row in rows] == [(16, 8, 8)] * 2
    assert rows[0]["bbox"] == [0, 0, 10, 10]


def test_merged_categories_stand_for_each_other(dataset, tmp_path):
    from retinue.projects.densepose.evaluation.d2_evaluator_adapter import (
        Detectron2COCOEvaluatorAdapter,
    )

    metadata = MetadataCatalog.get(dataset)
    content = json.loads(Path(metadata.json_file).read_text())
    content["categories"] += [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}]
    content["annotations"] += [gt(2, category_id=5), gt(3, category_id=9)]
    Path(metadata.json_file).write_text(json.dumps(content))
    vars(metadata)["thing_dataset_id_to_contiguous_id"] = {1: 0, 5: 0}
    adapter = Detectron2COCOEvaluatorAdapter(dataset, distributed=False)

    assert [c["id"] for c in adapter._coco_api.dataset["categories"]] == [1]
    assert [a["category_id"] for a in adapter._coco_api.dataset["annotations"]] == [1, 1]
    adapter.process([{"image_id": 7}], [{"instances": detections()}])
    assert adapter.evaluate()["bbox"]["AP"] > 0
    assert dataset not in DatasetCatalog.list()
