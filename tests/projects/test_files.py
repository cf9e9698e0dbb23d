"""Config files of one's own for projects."""

import pytest
from typer.testing import CliRunner

from retinue import model_zoo
from retinue.cli.main import app
from retinue.config import CfgNode
from retinue.projects import train, zoo
from retinue.projects.files import expect_no_project, project_of, read_config

POINT_REND = "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"


def written(folder, text, name="mine.yaml"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def test_published_configs_are_of_their_projects(tmp_path, monkeypatch):
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path))
    names = [name for name in zoo.config_paths() if name.endswith(".yaml")]
    for project, name in {name.split("/")[1]: name for name in names}.items():
        assert project_of(name) == project
        assert project_of(zoo.get_config_file(name)) == project


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("MODEL: {MASK_ON: true}", None),
        ("", None),
        ("MODEL: {POINT_HEAD: {FC_DIM: 8}}", "PointRend"),
        ("{MODEL: {POINT_HEAD: {FC_DIM: 8}}, INPUT: {POINT_SUP: true}}", "PointSup"),
        ("MODEL: {POINT_HEAD: {FC_DIMM: 8}}", "PointRend"),  # a key nobody knows
        ("MODEL: {RESNETS: {RES5_MULTI_GRID: [1, 2, 4]}}", "DeepLab"),
        ("{MODEL: {RESNETS: {RES5_MULTI_GRID: [1]}}, INPUT: {GAUSSIAN_SIGMA: 8}}",
         "Panoptic-DeepLab"),
        ("MODEL: {DENSEPOSE_ON: true}", "DensePose"),
        ("MODEL: {TRIDENT: {NUM_BRANCH: 2}}", "TridentNet"),
    ],
)  # fmt: skip
def test_keys_tell_the_project(tmp_path, text, project):
    assert project_of(written(tmp_path, text)) == project


def test_the_folder_tells_it_where_keys_do_not(tmp_path):
    file = written(tmp_path / "TridentNet" / "configs", "MODEL: {MASK_ON: true}")

    assert project_of(file) == "TridentNet"
    assert "TRIDENT" in read_config(file).MODEL


def test_reading_over_the_projects_defaults(tmp_path):
    cfg = read_config(written(tmp_path, "MODEL: {POINT_HEAD: {FC_DIM: 8}}"))

    assert cfg.MODEL.POINT_HEAD.FC_DIM == 8
    assert cfg.MODEL.POINT_HEAD.NUM_FC == 3  # the project's default
    assert read_config(POINT_REND).MODEL.POINT_HEAD.FC_DIM == 256
    assert isinstance(read_config(written(tmp_path, "{}", "plain.yaml")), CfgNode)


def test_a_misspelt_key_gets_the_nearest_of_the_project(tmp_path):
    file = written(tmp_path, "MODEL: {POINT_HEAD: {FC_DIMM: 8}}")
    with pytest.raises(KeyError, match=r"did you mean 'MODEL.POINT_HEAD.FC_DIM'"):
        read_config(file)
    with pytest.raises(ValueError, match=r"nowhere.yaml' does not exist"):
        read_config("nowhere.yaml")


def test_general_programs_refuse_it_and_name_its_own(tmp_path):
    file = written(tmp_path, "MODEL: {POINT_HEAD: {FC_DIM: 8}}")
    for path in (file, POINT_REND):
        with pytest.raises(ValueError, match="for the project PointRend") as caught:
            expect_no_project(path)

        assert f"python -m retinue.projects.train --config-file {path}" in str(caught.value)
    with pytest.raises(KeyError, match=r"did you mean 'InstanceSegmentation/pointrend_rcnn"):
        expect_no_project(POINT_REND.replace("coco", "cocoo"))
    expect_no_project("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    expect_no_project(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    expect_no_project("projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py")


@pytest.mark.parametrize("words", [["train"], ["run", "train_net"], ["run", "plain_train_net"]])
def test_its_command_line(tmp_path, words):
    file = written(tmp_path, "MODEL: {TENSOR_MASK: {NUM_CONVS: 2}}")
    done = CliRunner().invoke(app, [*words, "--config-file", file])

    assert done.exit_code == 2
    assert f"retinue.projects.train --config-file {file}" in done.stderr


def test_the_projects_program_refuses_a_general_one(tmp_path):
    file = written(tmp_path, "MODEL: {MASK_ON: true}")
    with pytest.raises(ValueError, match="is for detectron2 itself") as caught:
        train.main(["--config-file", file])

    assert f"retinue run train_net --config-file {file}" in str(caught.value)
