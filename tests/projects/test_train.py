"""The command that trains projects: a few steps of a small PointRend, then its evaluation."""

import subprocess
import sys

import pytest

from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.register_coco import register_coco_instances
from retinue.data.datasets.shapes import write_shapes
from retinue.projects import train

POINT_REND = "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"
SMALL = {
    "SEED": "4",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0",
    "DATASETS.TRAIN": "('shapes',)",
    "DATASETS.TEST": "('shapes',)",
    "DATALOADER.NUM_WORKERS": "0",
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": "64",
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.POINT_HEAD.FC_DIM": "16",
    "MODEL.POINT_HEAD.NUM_CLASSES": "6",
    "MODEL.RESNETS.DEPTH": "18",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "16",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "8",
    "MODEL.ROI_HEADS.NUM_CLASSES": "6",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.ROI_MASK_HEAD.FC_DIM": "16",
    "MODEL.WEIGHTS": "",
    "SOLVER.BASE_LR": "0.001",
    "SOLVER.IMS_PER_BATCH": "1",
    "SOLVER.MAX_ITER": "2",
    "SOLVER.STEPS": "()",
    "TEST.EVAL_PERIOD": "0",
}


@pytest.fixture
def shapes(tmp_path):
    """A dataset of that name."""
    files = write_shapes(tmp_path / "shapes", num_train=2, num_val=1)
    register_coco_instances("shapes", {}, str(files.train_json), str(files.train_images))
    yield
    DatasetCatalog.remove("shapes")
    MetadataCatalog.remove("shapes")


@pytest.mark.slow
def test_training_then_evaluating(shapes, tmp_path):
    settings = SMALL | {"OUTPUT_DIR": str(tmp_path / "out")}
    options = [part for pair in settings.items() for part in pair]
    results = train.main(["--config-file", POINT_REND, *options])
    assert set(results) == {"bbox", "segm"}
    assert (tmp_path / "out" / "model_final.pth").exists()
    assert "POINT_HEAD" in (tmp_path / "out" / "config.yaml").read_text()

    again = train.main(["--config-file", POINT_REND, "--eval-only", "--resume", *options])
    assert again["bbox"].keys() == results["bbox"].keys()


def test_lazy_configs_are_refused():
    path = "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py"
    with pytest.raises(ValueError, match=r"ends in .yaml; got 'projects/ViTDet") as caught:
        train.main(["--config-file", path])
    assert f"retinue run lazyconfig_train_net --config-file {path}" in str(caught.value)


def test_a_wrong_name_gets_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'PointRend'"):
        train.main(["--config-file", POINT_REND.replace("PointRend", "PointRent")])


@pytest.mark.slow
def test_wrong_input_ends_in_one_line():
    command = [sys.executable, "-m", "retinue.projects.train", "--config-file", POINT_REND]
    done = subprocess.run(
        [*command, "MODEL.POINT_HED.FC_DIM", "16"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown config key 'MODEL.POINT_HED.FC_DIM'")
    assert done.stderr.count("\n") == 1
