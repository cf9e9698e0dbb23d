"""``retinue run NAME``: detectron2's scripts, with their flags, on small generated data."""

import argparse
import json
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from retinue import compat
from retinue.cli.main import app
from retinue.compat.tools import (
    analyze_model,
    convert_torchvision_to_d2,
    prepare_ade20k_sem_seg,
    prepare_cocofied_lvis,
    prepare_panoptic_fpn,
    table,
)
from retinue.compat.tools.common import read_config
from retinue.compat.tools.visualize_json_results import create_instances
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import register_coco_instances
from retinue.utils.errors import InputError

CONFIG = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  WEIGHTS: ""
  DEVICE: cpu
  BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res3, res4, res5]}
  FPN: {IN_FEATURES: [res3, res4, res5], OUT_CHANNELS: 8}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  RETINANET: {NUM_CLASSES: 2, NUM_CONVS: 1}
DATASETS: {TRAIN: [tiny], TEST: [tiny]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [32], MIN_SIZE_TEST: 32}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 2, BASE_LR: 0.001, WARMUP_ITERS: 0}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A registered dataset of two pictures; a config to train on it; the output folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in (1, 2):
        pixels = rng.integers(0, 100, (32, 40, 3), dtype=np.uint8)
        pixels[4:20, 8:24] = 230
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 32, "width": 40})
        annotations.append(
            {"id": i, "image_id": i, "category_id": 6, "area": 256, "bbox": [8, 4, 16, 16],
             "iscrowd": 0}
        )  # fmt: skip
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "tiny.json").write_text(json.dumps(content))
    register_coco_instances("tiny", {}, str(folder / "tiny.json"), str(folder))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    DatasetCatalog.remove("tiny")
    MetadataCatalog.remove("tiny")


@pytest.fixture
def run(monkeypatch):
    """Run a tool as the command line does, without leaving the hook on."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")

    def run(*words):
        result = CliRunner().invoke(app, ["run", *map(str, words)])
        compat.uninstall()
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_names_of_tools():
    assert table.find_tool("train_net") == "train_net"
    assert table.find_tool("./tools/visualize_data.py") == "visualize_data"
    assert table.find_tool("datasets/prepare_for_tests.sh") == "prepare_for_tests"
    for name in table.TOOLS:
        __import__(f"retinue.compat.tools.{name}")


def test_the_list_and_what_is_not_there(run):
    listed = run("--list").stdout
    assert "train_net " in listed
    assert "lightning_train_net" in listed

    done = run("trian_net")
    assert done.exit_code == 2
    assert "no tool of that name; did you mean train_net?" in done.stderr
    done = run("tools/lightning_train_net.py")
    assert "not carried over; use retinue train" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["train_net", "plain_train_net"])
def test_training_and_evaluation(tiny, run, tool):
    done = run(tool, "--config-file", "tiny.yaml", "OUTPUT_DIR", "out", "SEED", "1")

    assert done.exit_code == 0
    rows = (tiny / "out" / "metrics.json").read_text().splitlines()
    assert {"total_loss", "loss_cls", "lr", "iteration"} <= {k for r in rows for k in json.loads(r)}
    assert torch.load("out/model_final.pth", weights_only=True)["iteration"] == 1
    done = run(tool, "--config-file", "tiny.yaml", "--eval-only", "MODEL.WEIGHTS",
               "out/model_final.pth", "OUTPUT_DIR", "out")  # fmt: skip
    assert done.exit_code == 0
    assert list((tiny / "out" / "inference").rglob("coco_instances_results.json"))


@pytest.mark.slow
def test_a_lazy_config(tiny, run):
    (tiny / "lazy.py").write_text(
        "from detectron2.config import LazyCall as L\n"
        "from detectron2.solver.build import get_default_optimizer_params\n"
        "from detectron2.solver import WarmupParamScheduler\n"
        "from fvcore.common.param_scheduler import MultiStepParamScheduler\n"
        "import torch\n"
        "class Line(torch.nn.Linear):\n"
        "    def forward(self, x): return {'loss': super().forward(x).square().mean()}\n"
        "model = L(Line)(in_features=2, out_features=1)\n"
        "dataloader = dict(train=L(list)(_args_=None))\n"
        "del dataloader['train']\n"
        "def batches(): return [torch.ones(1, 2)] * 8\n"
        "dataloader['train'] = L(batches)()\n"
        "optimizer = L(torch.optim.SGD)(params=L(get_default_optimizer_params)(), lr=0.1)\n"
        "lr_multiplier = L(WarmupParamScheduler)(scheduler=L(MultiStepParamScheduler)("
        "values=[1, 0.1], milestones=[5, 9]), warmup_factor=0.1, warmup_length=0.5)\n"
        "train = dict(output_dir='lazy', init_checkpoint='', max_iter=3, amp=dict(enabled=False),"
        " ddp={}, checkpointer=dict(period=100), eval_period=0, log_period=1, device='cpu')\n"
    )
    done = run("lazyconfig_train_net", "--config-file", "lazy.py", "train.max_iter=2")

    assert done.exit_code == 0
    assert torch.load("lazy/model_final.pth", weights_only=True)["iteration"] == 1
    wrong = run("lazyconfig_train_net", "--config-file", "tiny.yaml")
    assert wrong.exit_code == 2
    assert "expected a lazy config" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "name", "options"),
    [
        (
            "lazyconfig_train_net",
            "projects/Rethinking-BatchNorm/configs/mask_rcnn_BNhead.py",
            (
                "model.roi_heads.num_classes=2",
                "train.device=cpu",
                "train.init_checkpoint=",
                "train.output_dir=out",
                "dataloader.test.dataset.names=tiny",
                "dataloader.test.mapper.augmentations.0.short_edge_length=32",
                "dataloader.test.num_workers=0",
            ),
        ),
        (
            "plain_train_net",
            "COCO-Detection/retinanet_R_50_FPN_1x",
            (
                *("MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "32"),
                *("MODEL.RETINANET.NUM_CLASSES", "2"),
                *("DATALOADER.NUM_WORKERS", "0", "DATASETS.TEST", "('tiny',)", "OUTPUT_DIR", "out"),
            ),
        ),
    ],
)
def test_a_name_of_the_zoo_is_a_config_file(tiny, run, tool, name, options):
    done = run(tool, "--config-file", name, "--eval-only", *options)

    assert done.exit_code == 0
    assert (tiny / "out" / "config.yaml").exists()
    assert "bbox" in done.stdout


@pytest.mark.slow
def test_analysis(tiny, run, caplog):
    done = run("analyze_model", "--tasks", "flop", "activation", "parameter", "structure",
               "--num-inputs", "1", "--config-file", "tiny.yaml")  # fmt: skip

    assert done.exit_code == 0
    text = done.output + caplog.text
    for line in ("Total GFlops", "Total million activations", "Parameter count", "RetinaNet("):
        assert line in text
    assert analyze_model.parse(["--tasks", "flop", "--resume"]).num_inputs == 100
    assert run("analyze_model", "--tasks", "flop", "--num-gpus", "2").exit_code == 2
    wrong = run("analyze_model", "--tasks", "flop")
    assert "--config-file: expected a config file or a name of the zoo" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize("task", ["train", "eval", "data", "data_advanced"])
def test_benchmark(tiny, run, task, caplog):
    done = run("benchmark", "--task", task, "--iters", "2", "--config-file", "tiny.yaml",
               "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", "out")  # fmt: skip

    assert done.exit_code == 0
    expected = {"train": "total_loss", "eval": "2 iters in", "data": "0 workers"}
    assert expected.get(task, "mapper in one process") in done.output + caplog.text


def test_data_is_drawn(tiny, run):
    for source in ("annotation", "dataloader"):
        done = run("visualize_data", "--source", source, "--config-file", "tiny.yaml",
                   "--output-dir", source, "--num", "2")  # fmt: skip
        assert done.exit_code == 0
    assert sorted(p.name for p in (tiny / "annotation").iterdir()) == ["1.png", "2.png"]
    assert (tiny / "dataloader" / "1.jpg").exists() or (tiny / "dataloader" / "2.jpg").exists()
    assert np.asarray(Image.open(tiny / "annotation" / "1.png")).shape == (32, 40, 3)


def test_results_are_drawn_beside_annotations(tiny, run):
    rows = [{"image_id": 1, "category_id": 6, "bbox": [8, 4, 16, 16], "score": 0.9}]
    (tiny / "results.json").write_text(json.dumps(rows))
    done = run("visualize_json_results", "--input", "results.json", "--output", "drawn",
               "--dataset", "tiny")  # fmt: skip

    assert done.exit_code == 0
    assert np.asarray(Image.open(tiny / "drawn" / "1.png")).shape == (32, 80, 3)
    assert (tiny / "drawn" / "2.png").exists()


def test_instances_of_results():
    rows = [
        {"score": 0.9, "category_id": 7, "bbox": [1, 2, 3, 4]},
        {"score": 0.1, "category_id": 7, "bbox": [0, 0, 1, 1]},
    ]
    found = create_instances(rows, (10, 20), 0.5, {7: 3}.__getitem__)

    assert found.pred_boxes.tensor.tolist() == [[1, 2, 4, 6]]
    assert found.pred_classes.tolist() == [3]
    assert len(create_instances([], (10, 20), 0.5, int)) == 0


def test_the_demo(tiny, run):
    done = run("demo", "--config-file", "tiny.yaml", "--input", "pictures/1.png",
               "--output", "drawn.png", "--opts", "MODEL.DEVICE", "cpu")  # fmt: skip
    assert "detected 0 instances" in done.stdout
    assert np.asarray(Image.open("drawn.png")).shape[:2] == (32, 40)

    both = ("demo", "--config-file", "tiny.yaml", "--input", "pictures/1.png", "pictures/2.png")
    assert "expected a folder for 2 pictures" in run(*both, "--output", "drawn.png").stderr
    assert "-> new/2.png" in run(*both, "--output", "new").stdout.replace("\\", "/")
    assert sorted(p.name for p in (tiny / "new").iterdir()) == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "no*.png"], "--input: there is no file 'no*.png'"),
        (["--input", "pictures/1.png", "no.png"], "--input: there is no file 'no.png'"),
        (["--video-input", "no.mp4"], "--video-input: there is no file 'no.mp4'"),
        (["--video-input", "tiny.yaml"], "--video-input: name the video to write with --output"),
        (["--video-input", "tiny.yaml", "--output", "tiny.yaml"], "'tiny.yaml' is there already"),
    ],
)
def test_the_demo_looks_at_its_files_before_it_loads_a_model(tiny, run, options, message):
    missing = ("--opts", "MODEL.WEIGHTS", "nothing.pth")
    wrong = run("demo", "--config-file", "tiny.yaml", *options, *missing)

    assert wrong.exit_code == 2
    assert message in wrong.stderr


@pytest.mark.interop
def test_the_demo_draws_on_videos(tiny, run):
    av = pytest.importorskip("av")
    with av.open("squares.mp4", "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for shift in range(3):
            pixels = np.full((32, 40, 3), 60, dtype=np.uint8)
            pixels[4:20, 8 + shift : 24 + shift] = 230
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    (tiny / "out").mkdir()
    command = ("demo", "--config-file", "tiny.yaml", "--output", "out", "--video-input")

    assert run(*command, "squares.mp4").exit_code == 0
    with av.open("out/squares.mp4") as file:
        assert [(f.width, f.height) for f in file.decode(video=0)] == [(40, 32)] * 3
    wrong = run(*command, "tiny.yaml")
    assert wrong.exit_code == 2
    assert "'tiny.yaml' cannot be read as a video" in wrong.stderr


@pytest.mark.parametrize(
    "tool", ["train_net", "lazyconfig_train_net", "analyze_model", "benchmark"]
)
def test_help_shows_a_command_to_type(run, tool):
    done = run(tool, "--help")

    assert done.exit_code == 0
    assert f"usage: retinue run {tool} [-h]" in done.stdout
    assert f"\n  retinue run {tool} --" in done.stdout


def test_weights_of_torchvision(tmp_path, run):
    state = {"conv1.weight": torch.ones(2), "layer2.1.bn3.running_var": torch.zeros(1)}
    torch.save(state, tmp_path / "r.pth")
    done = run("convert-torchvision-to-d2.py", tmp_path / "r.pth", tmp_path / "r.pkl")

    assert "conv1.weight -> stem.conv1.weight" in done.stdout
    content = pickle.loads((tmp_path / "r.pkl").read_bytes())
    assert content["matching_heuristics"]
    assert set(content["model"]) == {"stem.conv1.weight", "res3.1.conv3.norm.running_var"}
    name = convert_torchvision_to_d2.detector_name
    assert name("layer1.0.downsample.0.weight") == "res2.0.shortcut.weight"


def test_labels_of_ade20k(tmp_path, run, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match=r"expected the dataset in .*ADEChallengeData2016"):
        prepare_ade20k_sem_seg.datasets_folder("ADEChallengeData2016")
    for split in ("training", "validation"):
        folder = tmp_path / "ADEChallengeData2016" / "annotations" / split
        folder.mkdir(parents=True)
        Image.fromarray(np.array([[0, 1, 150]], dtype=np.uint8)).save(folder / "a.png")
    run("prepare_ade20k_sem_seg")

    out = tmp_path / "ADEChallengeData2016" / "annotations_detectron2" / "training" / "a.png"
    assert np.asarray(Image.open(out)).tolist() == [[255, 0, 149]]


def test_lvis_reduced_to_coco():
    content = {
        "info": "x",
        "categories": [
            {"id": 3, "synset": "cat.n.01"},
            {"id": 4, "synset": "acorn.n.01"},
            {"id": 9, "synset": "toothbrush.n.01"},
            {"id": 10, "synset": "dog.n.01"},
        ],
        "annotations": [{"id": 70, "category_id": 4}, {"id": 71, "category_id": 3}],
        "images": [
            {"id": 1, "not_exhaustive_category_ids": [4], "neg_category_ids": [9, 4]},
        ],
    }
    found = prepare_cocofied_lvis.reduced(content)

    assert found["annotations"] == [{"id": 1, "category_id": 17}]
    assert found["images"][0]["neg_category_ids"] == [90]
    assert found["images"][0]["not_exhaustive_category_ids"] == []
    assert [c["id"] for c in found["categories"]] == [17, 90]
    assert found["info"] == "x"


def test_panoptic_labels(tmp_path):
    ids = np.array([[1, 1, 256 * 7], [0, 2, 2]])
    rgb = np.stack([ids % 256, ids // 256, ids * 0], axis=-1).astype(np.uint8)
    (tmp_path / "maps").mkdir()
    Image.fromarray(rgb).save(tmp_path / "maps" / "a.png")
    segments = [
        {"id": 1, "category_id": 50},
        {"id": 2, "category_id": 60},
        {"id": 256 * 7, "category_id": 40},
    ]
    rows = {"annotations": [{"file_name": "a.png", "segments_info": segments}]}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    categories = [{"id": 50, "isthing": 1}, {"id": 40, "isthing": 0}, {"id": 60, "isthing": 0}]
    prepare_panoptic_fpn.separate_coco_semantic_from_panoptic(
        tmp_path / "a.json", tmp_path / "maps", tmp_path / "out", categories
    )

    labels = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert labels.tolist() == [[0, 0, 1], [255, 2, 2]]


def test_tools_that_do_not_train_read_configs_of_projects():
    name = "projects/TensorMask/configs/tensormask_R_50_FPN_1x.yaml"
    cfg = read_config(
        argparse.Namespace(config_file=name, opts=["MODEL.TENSOR_MASK.NUM_CONVS", "2"])
    )

    assert cfg.MODEL.TENSOR_MASK.NUM_CONVS == 2
    assert cfg.MODEL.META_ARCHITECTURE == "TensorMask"
