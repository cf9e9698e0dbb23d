"""The four words on a model of random weights; training itself is in the slow test below."""

import json
import math

import numpy as np
import pytest
import torch

import retinue
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.shapes import SHAPE_CLASSES, draw_scene, write_shapes
from retinue.engine.api import Run
from retinue.engine.detector import Detector, Names
from retinue.engine.model_source import DEMO, find_model
from retinue.modeling import build_model
from retinue.structures import Instances

SMALL = [
    "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM", 16,
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5,
    "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 2, "TEST.EVAL_PERIOD", 0,
]  # fmt: skip


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    cfg = find_model(DEMO / "mask_rcnn_shapes.yaml").cfg
    cfg.merge_from_list(SMALL)
    names = {"thing_classes": ["disk", "rectangle", "triangle", "star", "ring", "cross"]}
    return Detector(cfg, build_model(cfg), names)


def test_one_picture_gives_instances_with_names(detector):
    rgb = draw_scene(0, 0, height=96, width=128).image
    found = detector.predict(rgb)

    assert isinstance(found, Instances)
    assert found.image_size == (96, 128)
    assert len(found) == 5
    assert found.pred_masks.shape == (5, 96, 128)
    assert [detector.class_names.index(n) for n in found.pred_class_names] == (
        found.pred_classes.tolist()
    )
    assert found[found.scores >= found.scores[1]].pred_class_names == found.pred_class_names[:2]


def test_the_threshold_and_bgr(detector):
    rgb = draw_scene(0, 1).image
    found = detector.predict(rgb)
    bgr = detector.predict(rgb[..., ::-1], channels="BGR")
    best = detector.predict(rgb, threshold=float(found.scores[1]))

    torch.testing.assert_close(bgr.scores, found.scores)
    assert len(best) == int((found.scores >= found.scores[1]).sum())


def test_a_result_does_not_depend_on_its_batch(detector):
    pictures = [draw_scene(0, i, height=h).image for i, h in enumerate((128, 128, 96, 128))]
    alone = [detector.predict(p) for p in pictures]
    together = detector.predict(pictures, batch_size=4)

    assert len(together) == 4
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-5)
        assert one.image_size == other.image_size


def test_streaming_reads_no_further_than_a_batch(detector):
    read = []

    def pictures():
        for i in range(9):
            read.append(i)
            yield draw_scene(0, i).image

    stream = detector.stream(pictures(), batch_size=2)
    assert next(stream).name == "000000"
    assert len(read) <= 3


def test_saving_and_loading(detector, tmp_path):
    rgb = draw_scene(0, 2).image
    detector.save(tmp_path / "whole")
    detector.save(tmp_path / "half", half=True)
    whole, half = (retinue.load(tmp_path / n) for n in ("whole", "half"))

    torch.testing.assert_close(whole.predict(rgb).scores, detector.predict(rgb).scores)
    assert whole.class_names == detector.class_names
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    assert all(p.dtype == torch.float32 for p in half.model.parameters())
    assert "6 classes" in repr(whole)


def test_a_threshold_at_loading(detector, tmp_path):
    detector.save(tmp_path)
    loaded = retinue.load(tmp_path, threshold=0.99, device="cpu")

    assert len(loaded.predict(draw_scene(0, 0).image)) == 0


def test_drawing(detector):
    rgb = draw_scene(0, 0).image
    drawn = detector.draw(rgb)

    assert drawn.shape == (384, 480, 3), "small pictures are enlarged"
    assert drawn.dtype == np.uint8


def test_names_are_indexed_like_tensors():
    names = Names(["a", "b", "c"])

    assert names[1] == "b"
    assert names[torch.tensor([True, False, True])] == ["a", "c"]
    assert names[torch.tensor([2, 0])] == ["c", "a"]
    assert names[1:] == ["b", "c"]


def test_a_run_is_told_in_one_line(tmp_path):
    results = {"bbox": {"AP": 71.26}, "segm": {"AP": 66.0}, "other": {}}
    page = tmp_path / "report.html"

    assert str(Run(tmp_path, results, page)) == f"box AP 71.3, mask AP 66.0, page: {page}"
    assert str(Run(tmp_path, {}, None)) == f"folder: {tmp_path}"


def test_a_run_that_predicts_nothing_says_so(tmp_path):
    results = {"bbox": {"AP": math.nan}, "segm": {"AP": math.nan}}
    why = f"(nothing was predicted; train longer, or see {tmp_path / 'log.txt'})"

    assert str(Run(tmp_path, results, None)) == (
        f"box AP nan, mask AP nan {why}, folder: {tmp_path}"
    )
    no_keypoint = {"bbox": {"AP": 3.0}, "keypoints": {"AP": math.nan}}
    assert str(Run(tmp_path, no_keypoint, None)) == (
        f"box AP 3.0, keypoint AP nan, folder: {tmp_path}"
    )


@pytest.mark.slow
def test_training_evaluating_and_resuming(tmp_path):
    data = write_shapes(tmp_path / "data", num_train=6, num_val=3)
    train, val = (data.train_json, data.train_images), (data.val_json, data.val_images)
    config, out = DEMO / "mask_rcnn_shapes.yaml", tmp_path / "out"
    run = retinue.train(config, train, val, output=out, epochs=1, opts=SMALL)

    for name in ("config.yaml", "classes.json", "metrics.json", "model_final.pth", "log.txt"):
        assert (out / name).is_file(), name
    assert (
        json.loads((out / "results.json").read_text())["bbox"].keys() == run.results["bbox"].keys()
    )
    page = run.report.read_text("utf-8")
    assert "annotated" in page
    assert "http" not in page.replace("http-equiv", "")
    assert run.detector.class_names[3] == "star"
    with pytest.raises(ValueError, match=r"holds a run already: resume it"):
        retinue.train(config, train, val, output=out, opts=SMALL)

    again = retinue.train(config, train, val, output=out, epochs=2, opts=SMALL, resume=True)
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert max(row["iteration"] for row in rows) >= 5
    assert again.results["bbox"].keys() == run.results["bbox"].keys()

    for name in (str(data.train_json), str(data.val_json)):  # as in another process
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for model in (out, retinue.load(out)):
        measured = retinue.evaluate(model, val, output=tmp_path / "eval")
        expected = pytest.approx(again.results["bbox"]["AP"], nan_ok=True)
        assert measured.results["bbox"]["AP"] == expected


@pytest.mark.slow
def test_averaged_weights_are_loaded_as_they_were_evaluated(tmp_path):
    """The averages stay near the demo's weights; those that were trained go astray."""
    data = write_shapes(tmp_path / "data", num_train=4, num_val=4)
    train, val = (data.train_json, data.train_images), (data.val_json, data.val_images)
    opts = [
        "RETINUE.EMA_DECAY", 0.999, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.05,
        "SOLVER.WARMUP_ITERS", 0, "TEST.EVAL_PERIOD", 0,
    ]  # fmt: skip
    options = {"device": "cpu", "num_pictures": 1}
    run = retinue.train("demo", train, val, output=tmp_path / "out", epochs=1, opts=opts, **options)
    assert run.detector.cfg.MODEL.WEIGHTS.endswith("model_final.pth?weights=ema")
    reported = run.results["bbox"]["AP"]
    assert reported > 20
    scores = {
        model: retinue.evaluate(model, val, output=tmp_path / "eval", **options).results["bbox"]
        for model in (run.output, run.detector, f"{run.output}?weights=model")
    }

    assert [round(score["AP"], 6) for score in scores.values()][:2] == [round(reported, 6)] * 2
    assert scores[f"{run.output}?weights=model"]["AP"] != pytest.approx(reported)


def test_other_classes_are_refused(detector, tmp_path):
    data = write_shapes(tmp_path / "data", num_train=1, num_val=1)
    content = json.loads(data.val_json.read_text())
    content["categories"][0]["name"] = "circle"
    data.val_json.write_text(json.dumps(content))
    detector.save(tmp_path / "model")

    val = (data.val_json, data.val_images)
    with pytest.raises(ValueError, match=r"only in .*val\.json: circle"):
        retinue.evaluate(tmp_path / "model", val, output=tmp_path / "eval")
    train = (data.train_json, data.train_images)
    with pytest.raises(ValueError, match=r"only in .*val\.json: circle"):
        retinue.train(DEMO / "mask_rcnn_shapes.yaml", train, val, output=tmp_path / "out")


def test_the_model_that_ships_knows_the_shapes():
    """Held-out pictures: nothing of this seed was trained on."""
    detector = retinue.load(device="cpu")
    assert detector.class_names == list(SHAPE_CLASSES)
    found = expected = 0
    for index in range(8):
        scene = draw_scene(77, index)
        instances = detector.predict(scene.image, threshold=0.5)
        expected += len(scene.labels)
        for mask, label in zip(scene.masks, scene.labels.tolist(), strict=True):
            same = instances.pred_masks[instances.pred_classes == label].numpy()
            overlap = (same & mask).sum(axis=(1, 2)) / np.maximum((same | mask).sum(axis=(1, 2)), 1)
            found += bool((overlap > 0.5).any())

    assert found >= 0.7 * expected


def test_the_model_that_ships_is_small():
    files = [p for p in DEMO.iterdir() if p.is_file()]
    assert {"config.yaml", "classes.json", "model.safetensors"} <= {p.name for p in files}
    assert sum(p.stat().st_size for p in files) < 5_000_000
