import json

import pytest
import torch

from retinue.checkpoint import Checkpoint, write_checkpoint
from retinue.config import get_cfg
from retinue.data.catalog import DatasetCatalog, Metadata
from retinue.data.health import DataReport
from retinue.engine.class_names import read_class_names, write_class_names
from retinue.engine.data_source import DataSource, find_data, tell_apart
from retinue.engine.model_source import DEMO, find_model
from retinue.engine.run_setup import (
    default_epochs,
    fetch_weights,
    fit_heads,
    fit_schedule,
    fit_workers,
    warn_of_frozen_noise,
)


def coco_file(folder, name="train.json", **category):
    path = folder / name
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
                "annotations": [],
                "categories": [{"id": 3, "name": "cat", **category}],
            }
        )
    )
    return path


@pytest.mark.parametrize(
    "name",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml",
        "mask_rcnn_R_50_FPN_3x",
    ],
)
def test_models_of_the_zoo_by_name(name):
    source = find_model(name)

    assert source.is_published
    assert source.name == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert source.cfg.MODEL.MASK_ON
    assert source.cfg.MODEL.WEIGHTS.endswith("R-50.pkl")
    assert len(source.class_names) == 80


def test_a_trained_model_of_the_zoo_has_its_published_weights():
    weights = find_model("mask_rcnn_R_50_FPN_3x", trained=True).cfg.MODEL.WEIGHTS

    assert weights.endswith("mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl")


def test_config_files_and_configs():
    source = find_model(DEMO / "mask_rcnn_shapes.yaml")
    assert not source.is_published
    assert source.cfg.MODEL.ROI_HEADS.NUM_CLASSES == 6
    assert find_model(source.cfg).cfg.dump() == source.cfg.dump()


def test_the_folder_of_a_run(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    with pytest.raises(ValueError, match=r"has no config\.yaml; is it the output of a run"):
        find_model(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    with pytest.raises(ValueError, match=r"has no checkpoint; looked for model_best\.pth"):
        find_model(tmp_path)
    (tmp_path / "model_0000009.pth").touch()
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    write_class_names(tmp_path, ["cat", "dog"])

    source = find_model(tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert source.cfg.MODEL.WEIGHTS.endswith("model_0000009.pth")
    write_checkpoint(
        tmp_path / "model_final", Checkpoint({"w": torch.ones(1)}), format="distributed"
    )
    assert find_model(tmp_path).cfg.MODEL.WEIGHTS.endswith("model_final")
    (tmp_path / "model_final.pth").touch()
    assert find_model(tmp_path).cfg.MODEL.WEIGHTS.endswith("model_final.pth")
    by_file = find_model(str(tmp_path / "model_0000009.pth"))
    assert by_file.cfg.MODEL.WEIGHTS.endswith("model_0000009.pth")


def test_wrong_models_are_named(tmp_path):
    with pytest.raises(KeyError, match="did you mean 'mask_rcnn_R_50_FPN_3x'"):
        find_model("mask_rcnn_R50_FPN_3x")
    with pytest.raises(KeyError, match="no file or folder has that name"):
        find_model("yolo")
    with pytest.raises(ValueError, match=r"config file 'my_yolo\.yaml' does not exist"):
        find_model("my_yolo.yaml")
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a.png' is neither a config nor a checkpoint \(.yaml"):
        find_model(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"checkpoint '/no/x\.pth' does not exist"):
        find_model("/no/x.pth")
    torch.save({"model": {}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"has no config\.yaml beside it"):
        find_model(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"lazy configs are Python.*lazyconfig_train_net --config"):
        find_model("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("lone.pth", None),
        ("lone.safetensors", None),
        ("lone.pkl", None),
        ("lone", "distributed"),
    ],
)
def test_a_lone_checkpoint_knows_its_model(tmp_path, name, format):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    record = {"config": cfg.dump(), "classes": ["cat", "dog"]}
    checkpoint = Checkpoint({"w": torch.ones(1)}, record=record)
    write_checkpoint(tmp_path / name, checkpoint, format=format)

    source = find_model(tmp_path / name)
    assert source.class_names == ["cat", "dog"]
    assert source.cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert source.cfg.MODEL.WEIGHTS.endswith(name)


def test_class_names_go_there_and_back(tmp_path):
    assert read_class_names(tmp_path) == {}
    write_class_names(tmp_path, Metadata(thing_classes=["a"], keypoint_names=["nose"], other=3))

    assert read_class_names(tmp_path) == {"thing_classes": ["a"], "keypoint_names": ["nose"]}


def test_data_by_files(tmp_path):
    path = coco_file(tmp_path)
    (tmp_path / "images").mkdir()

    (source,) = find_data((path, tmp_path / "images"))
    assert (source.json_file, source.image_root) == (str(path), str(tmp_path / "images"))
    with pytest.raises(ValueError, match=r"cannot find its images \('a\.png'\)"):
        find_data(path)
    (tmp_path / "images" / "a.png").touch()
    assert find_data(str(path))[0].image_root == str(tmp_path / "images")
    assert find_data([(path, tmp_path / "images"), path]) == [source, source]


def test_data_by_name_and_wrong_data(tmp_path):
    assert find_data("coco_2017_val") == [DataSource("coco_2017_val")]
    assert len(find_data(["coco_2017_val", "coco_2017_train"])) == 2
    with pytest.raises(KeyError, match="did you mean 'coco_2017_val'"):
        find_data("coco2017_val")
    with pytest.raises(ValueError, match=r"annotation file '/no/a\.json' does not exist"):
        find_data(("/no/a.json", tmp_path))
    with pytest.raises(ValueError, match="image folder '/no/images' does not exist"):
        find_data((coco_file(tmp_path), "/no/images"))
    with pytest.raises(ValueError, match=r"data: expected .* got \[\]"):
        find_data([])


def test_registering_reads_keypoints_and_may_be_repeated(tmp_path):
    names = ["nose", "left_eye", "right_eye"]
    path = coco_file(tmp_path, keypoints=names, skeleton=[[1, 2], [1, 3]])
    source = DataSource(str(path), str(path), str(tmp_path))
    for _ in range(2):
        metadata = source.register()

    DatasetCatalog.get(source.name)
    assert metadata.keypoint_names == names
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]
    assert [rule[:2] for rule in metadata.keypoint_connection_rules] == [
        ("nose", "left_eye"),
        ("nose", "right_eye"),
    ]
    DatasetCatalog.remove(source.name)


def test_nothing_of_a_file_is_kept_for_the_next_who_asks(tmp_path):
    path = coco_file(tmp_path)
    source = DataSource(str(path), str(path), str(tmp_path))
    source.register()
    first = DatasetCatalog.get(source.name)
    first[0]["file_name"] = "changed by who asked first"

    assert DatasetCatalog.get(source.name)[0]["file_name"] == str(tmp_path / "a.png")
    DatasetCatalog.remove(source.name)


def test_weights_that_are_not_there_are_told_before_a_model_is_built(monkeypatch, tmp_path):
    (tmp_path / "a.pth").touch()
    fetch_weights("")
    fetch_weights(f"{tmp_path}/a.pth?matching_heuristics=True")
    with pytest.raises(ValueError, match=r"weights '/no/a\.pth': there is no such file"):
        fetch_weights("/no/a.pth")
    monkeypatch.setenv("RETINUE_OFFLINE", "1")
    with pytest.raises(OSError, match=r"downloads are off.*or from none \(--weights ''\)"):
        fetch_weights("https://example.org/nowhere.pth")


def test_workers_fit_the_machine_unless_their_number_was_set(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    cfg = get_cfg()
    fit_workers(cfg, fixed=["DATALOADER.NUM_WORKERS"])
    assert cfg.DATALOADER.NUM_WORKERS == 4
    fit_workers(cfg)
    assert cfg.DATALOADER.NUM_WORKERS == 2


def test_heads_follow_the_data():
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = True
    report = DataReport("d", ["cat", "dog"])
    said = fit_heads(cfg, report, Metadata(keypoint_names=["nose", "tail"]))

    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == len(cfg.TEST.KEYPOINT_OKS_SIGMAS) == 2
    assert not cfg.MODEL.MASK_ON
    assert said[0] == "2 classes, from the data: cat, dog"
    assert "no masks" in said[1]


def test_masks_stay_on_where_there_are_some():
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    report = DataReport("d", ["cat"])
    report.annotated["rle"] = 1
    fit_heads(cfg, report, Metadata())

    assert cfg.MODEL.MASK_ON


def test_a_published_schedule_shrinks_to_the_data():
    """By hand: 2 images instead of 16, so a rate of 0.02 / 8; 24 epochs of 1000 images."""
    cfg = find_model("mask_rcnn_R_50_FPN_3x").cfg
    fit_schedule(cfg, 1000, is_published=True)

    assert default_epochs(1000) == 24
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (2, 0.0025, 12_000)
    assert solver.STEPS == (9333, 11_111)
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD) == (1000, 2400)
    assert cfg.TEST.EVAL_PERIOD == 2400


def test_what_the_user_sets_stays():
    source = find_model("mask_rcnn_R_50_FPN_3x")
    cfg = source.cfg
    cfg.merge_from_list(["SOLVER.BASE_LR", 0.1, "SOLVER.MAX_ITER", 50, "SOLVER.STEPS", (40,)])
    fixed = ["SOLVER.BASE_LR", "SOLVER.MAX_ITER", "SOLVER.STEPS"]
    said = fit_schedule(
        cfg, 100, is_published=True, batch_size=4, fixed=fixed, planned=source.planned
    )

    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (0.1, 50, (40,))
    assert cfg.SOLVER.WARMUP_ITERS == 5
    assert said == ["50 iterations of 4 images (2 passes over the data), learning rate 0.1"]


def test_frozen_random_layers_are_pointed_out():
    cfg = find_model("mask_rcnn_R_50_FPN_3x").cfg
    assert warn_of_frozen_noise(cfg) == []
    cfg.MODEL.WEIGHTS = ""
    assert "set MODEL.BACKBONE.FREEZE_AT 0 MODEL.RESNETS.NORM GN" in warn_of_frozen_noise(cfg)[0]
    cfg.merge_from_list(["MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.NORM", "GN"])
    assert warn_of_frozen_noise(cfg) == []


def test_a_config_of_ones_own_keeps_its_schedule():
    cfg = get_cfg()
    before = cfg.dump()
    fit_schedule(cfg, 100)

    assert cfg.dump() == before
    fit_schedule(cfg, 100, epochs=2)
    assert cfg.SOLVER.MAX_ITER == 13


def test_data_in_the_wrong_order_is_named(tmp_path):
    path = coco_file(tmp_path)
    with pytest.raises(ValueError, match="the annotations come first"):
        find_data((tmp_path, path))
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"image folder '.*a.png' is a file"):
        find_data((path, tmp_path / "a.png"))


def test_a_schedule_of_nothing_is_refused():
    with pytest.raises(ValueError, match="epochs must be more than 0; got -1"):
        fit_schedule(get_cfg(), 10, epochs=-1)
    with pytest.raises(ValueError, match="batch size must be at least 1; got 0"):
        fit_schedule(get_cfg(), 10, batch_size=0)


def test_one_file_with_two_folders_is_two_datasets(tmp_path):
    path = coco_file(tmp_path)
    (tmp_path / "infrared").mkdir()
    train, val = find_data((path, tmp_path)), find_data((path, tmp_path / "infrared"))
    (other,) = tell_apart(val, train)
    assert other.name == f"{path} ({tmp_path / 'infrared'})"
    assert tell_apart(train, train) == train
